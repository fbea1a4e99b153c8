"""Layers that methods find in nested models and in transformers, and what they refuse."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods
from l2rkd_tf.methods.layer_search import EMBEDDING, LAST_MAP, MAPS, MIDDLE_MAP, find_layers


def found(kind, teacher, student=None):
    return find_layers("SomeMethod", teacher, student or teacher, kind)


def backbone(name="backbone"):
    image = x = keras.Input((8, 8, 3))
    for number, stride in ((1, 1), (2, 2)):
        x = layers.Conv2D(4, 3, stride, padding="same", name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, x, name=name)


def idiom(*front, body=None, name="idiom"):
    """What `keras.applications` calls transfer learning: layers in front, a backbone, a head."""
    image = x = keras.Input((8, 8, 3))
    for layer in front or [layers.Rescaling(1 / 255, name="rescaling")]:
        x = layer(x)
    x = layers.GlobalAveragePooling2D(name="pooled")((body or backbone())(x))
    return keras.Model(image, layers.Dense(3, name="top")(x), name=name)


def normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).uniform(size=(4, 8, 8, 3)))
    return layer


FRONTS = {
    "rescaling": lambda: [layers.Rescaling(1 / 255)],
    "normalization": lambda: [normalization()],
    "frozen normalization": lambda: [normalization()],
    "batch normalization": lambda: [layers.BatchNormalization()],
    "random layers": lambda: [layers.RandomFlip(), layers.RandomContrast(0.2)],
    "nested augmentation": lambda: [
        keras.Sequential([layers.RandomFlip(), layers.Rescaling(2.0)], name="augmentation")
    ],
    "resizing": lambda: [layers.Resizing(4, 4), layers.Resizing(8, 8)],
    "an operation": lambda: [lambda x: x / 255.0 - 0.5],
}


@pytest.mark.parametrize("name", FRONTS)
def test_maps_of_the_backbone_not_the_pixels_before_it(name):
    model = idiom(*FRONTS[name]())
    model.trainable = not name.startswith("frozen")
    maps = ("backbone/relu1", "backbone/relu2")
    assert found(MAPS, model) == (maps, maps)
    assert found(MIDDLE_MAP, model) == (maps[:1], maps[:1])
    assert found(LAST_MAP, model) == (maps[1:], maps[1:])
    assert found(EMBEDDING, model) == (("pooled",), ("pooled",))


def test_backbones_two_levels_deep_and_sequential():
    outer = keras.Sequential([keras.Input((8, 8, 3)), backbone("inner")], name="outer")
    maps = ("outer/inner/relu1", "outer/inner/relu2")
    assert found(MAPS, idiom(body=outer)) == (maps, maps)


def test_the_embedding_inside_a_nested_head():
    image = keras.Input((8, 8, 3))
    head = keras.Sequential(
        [layers.Flatten(), layers.Dense(5, name="hidden"), layers.Dense(3), layers.Softmax()],
        name="head",
    )
    model = keras.Model(image, head(backbone()(image)))
    head.get_layer("flatten").name = "rows"
    assert found(EMBEDDING, model) == (("head/hidden",), ("head/hidden",))


def test_stages_that_are_nested_models_named_as_such():
    image = x = keras.Input((8, 8, 3))
    for number in (1, 2):
        size, channels = x.shape[1], x.shape[-1]
        stage = [keras.Input((size, size, channels)), layers.Conv2D(3, 3, 2), layers.ReLU()]
        x = keras.Sequential(stage, name=f"stage{number}")(x)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    assert found(MAPS, model) == (("stage1", "stage2"),) * 2


def test_gates_of_squeeze_and_excitation_and_margins_are_no_maps():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1, name="first")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="gate")(gate)
    x = layers.ZeroPadding2D(name="margin")(layers.Multiply(name="gated")([x, gate]))
    x = layers.Conv2D(4, 3, 2, name="second")(x)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    assert found(MAPS, model) == (("gated", "second"),) * 2


def test_maps_with_the_channels_first_are_paired_by_resolution_and_projected_by_channels():
    def network(data_format, channels):
        shape = (3, 8, 8) if data_format == "channels_first" else (8, 8, 3)
        image = x = keras.Input(shape)
        for number, stride in ((1, 1), (2, 2)):
            x = layers.Conv2D(
                channels, 3, stride, padding="same", data_format=data_format, name=f"conv{number}"
            )(x)
            x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
        return keras.Model(image, layers.Dense(3)(x))

    models = network("channels_last", 6), network("channels_first", 4)
    assert found(MAPS, *models) == (("relu1", "relu2"),) * 2
    method = methods.FitNet()
    method.validate_model_compatibility(*models)
    assert method.projector.kernel.shape == (4, 6)  # from channels to channels


# Transformers.


def transformer(depth, channels=4, kind="pre", name="transformer"):
    """Image transformers as people write them: normalized before, after, by operators, nested."""
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(channels, 2, strides=2, name="patches")(image)
    x = layers.Reshape((4, channels), name="rows")(x)
    for number in range(depth):
        if kind == "nested":
            x = block(channels, f"part_{number}x")(x)
        elif kind == "layer":
            x = TransformerBlock(channels, name=f"part_{number}x")(x)
        else:
            x = residual_block(x, channels, number, kind)
    x = layers.LayerNormalization(name="last_norm")(x)
    x = x[:, 0] if kind == "operators" else layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(image, layers.Dense(3, name="logits")(x), name=name)


def residual_block(x, channels, number, kind="pre"):
    attention = layers.MultiHeadAttention(2, channels // 2, name=f"attend_{number}x")
    dense = layers.Dense(channels, name=f"dense_{number}x")
    for place, layer in (("a", lambda y: attention(y, y)), ("b", dense)):
        norm = layers.LayerNormalization(name=f"norm_{number}{place}")
        y = layer(norm(x) if kind != "post" else x)
        x = x + y if kind == "operators" else layers.Add(name=f"sum_{number}{place}")([x, y])
        x = norm(x) if kind == "post" else x
    return x


def block(channels, name):
    states = keras.Input((4, channels))
    return keras.Model(states, residual_block(states, channels, 0), name=name)


class TransformerBlock(layers.Layer):
    def __init__(self, channels, **options):
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(2, channels // 2)

    def build(self, shape):
        self.attention.build(shape, shape)

    def call(self, states):
        return states + self.attention(states, states)


ENDS = {
    "pre": ["sum_0b", "sum_1b", "sum_2b", "sum_3b"],
    "post": ["sum_0b", "sum_1b", "sum_2b", "sum_3b"],
    "operators": ["add_1", "add_3", "add_5", "add_7"],
    "nested": [f"part_{number}x/sum_0b" for number in range(4)],
    "layer": [f"part_{number}x" for number in range(4)],
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_transformer_gives_the_hidden_states_at_the_ends_of_its_blocks(kind):
    model, ends = transformer(4, kind=kind), tuple(ENDS[kind])
    assert found(MAPS, model) == (ends, ends)
    assert found(MIDDLE_MAP, model) == (ends[1:2], ends[1:2])
    assert found(LAST_MAP, model) == (ends[3:], ends[3:])
    vectors = ("get_item",) if kind == "operators" else ("pooled",)
    assert found(EMBEDDING, model) == (vectors, vectors)


@pytest.mark.parametrize(
    ("depth", "taken"), [(1, [3]), (2, [1, 3]), (3, [1, 2, 3]), (4, [0, 1, 2, 3])]
)
def test_blocks_of_a_deeper_teacher_are_taken_at_equal_distances(depth, taken):
    ends = ENDS["pre"]
    expected = tuple(ends[number] for number in taken), tuple(ends[:depth])
    assert found(MAPS, transformer(4), transformer(depth)) == expected


def test_blocks_with_names_are_found_by_them():
    states = x = keras.Input((4, 6))
    for number in (1, 2):
        x = block(6, f"block_{number}")(x)
    model = keras.Model(states, layers.Dense(3)(layers.Flatten()(x)))
    assert found(MAPS, model)[0] == ("block_1", "block_2")


class Mixer(layers.Dense):
    """A block of another kind, of which only the name tells."""


def test_blocks_of_any_kind_are_found_by_their_names():
    model = keras.Sequential(
        [keras.Input((4, 6)), *(Mixer(6, name=f"block_{number}") for number in range(3))]
    )
    model.add(layers.GlobalAveragePooling1D())
    model.add(layers.Dense(3))
    assert found(MAPS, model)[0] == ("block_0", "block_1", "block_2")


def test_sequences_without_attention_have_one_hidden_state_for_each_length():
    def recurrent():
        return keras.Sequential(
            [
                keras.Input((8, 3)),
                layers.LSTM(4, return_sequences=True, name="first"),
                layers.LSTM(4, return_sequences=True, name="second"),
                layers.AveragePooling1D(2, name="halved"),
                layers.Conv1D(5, 3, padding="same", name="third"),
                layers.LSTM(5, name="vector"),
                layers.Dense(3),
            ]
        )

    assert found(MAPS, recurrent(), recurrent()) == (("second", "third"),) * 2
    assert found(EMBEDDING, recurrent()) == (("vector",),) * 2


def test_a_convnet_that_ends_in_a_sequence_keeps_its_maps():
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((16, 4))(backbone()(image))
    x = layers.GlobalAveragePooling1D()(layers.Dense(4)(x))
    model = keras.Model(image, layers.Dense(3)(x))
    assert found(MAPS, model)[0] == ("backbone/relu1", "backbone/relu2")


# What is refused.


def test_maps_are_not_compared_with_hidden_states():
    teacher, student = idiom(name="convnet"), transformer(2)
    with pytest.raises(ValueError) as error:
        found(MAPS, teacher, student)
    for part in (
        "SomeMethod", "'convnet' has feature maps: {'backbone/relu1': (None, 8, 8, 4)",
        "'transformer' has hidden states: {'sum_0b': (None, 4, 4)", "`teacher_layer_names`",
    ):  # fmt: skip
        assert part in str(error.value)
    assert found(MIDDLE_MAP, teacher, student) == (("pooled",), ("pooled",))
    assert found(LAST_MAP, teacher, student) == (("backbone/relu2",), ("sum_1b",))


@pytest.mark.parametrize("kind", [MAPS, MIDDLE_MAP, LAST_MAP, EMBEDDING])
def test_a_model_that_only_rescales_before_its_output_has_nothing_to_compare(kind):
    image = keras.Input((4, 4, 3))
    x = layers.Flatten(name="flatten")(layers.Rescaling(0.1, name="rescaling")(image))
    model = keras.Model(image, layers.Dense(3, name="top")(x), name="flat")
    with pytest.raises(ValueError, match="SomeMethod.*'flat'.*depends on trained weights") as error:
        found(kind, model)
    assert "'rescaling': (None, 4, 4, 3), 'flatten': (None, 48)" in str(error.value)


def test_a_named_layer_of_the_student_must_depend_on_its_weights():
    message = r"`student_layer_name` must.*FitNet trains nothing.*\['rescaling'\].*'backbone/conv1'"
    with pytest.raises(ValueError, match=message):
        L2RKDDistiller(
            idiom(), idiom(), distillation_losses=methods.FitNet("backbone/relu1", "rescaling")
        )
