"""Layers that methods find by themselves in models of many kinds."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods
from l2rkd_tf.methods.layer_search import (
    EMBEDDING,
    LAST_MAP,
    MAPS,
    MIDDLE_MAP,
    find_layers,
    shapes_of,
)
from l2rkd_tf.models import convnet


def network(blocks, head=("features", "logits"), size=8, name="network"):
    """Convolutions with given names and strides, pooling, and a classifier."""
    image = x = keras.Input((size, size, 1), name="image")
    for layer, stride in blocks:
        x = layers.Conv2D(2, 1, strides=stride, name=layer)(x)
    x = layers.GlobalAveragePooling2D(name=head[0])(x)
    return keras.Model(image, layers.Dense(3, name=head[1])(x), name=name)


def dense_net(*names, outputs=3):
    """Dense layers, the last of which is the output."""
    row = x = keras.Input((4,), name="row")
    for layer in names[:-1]:
        x = layers.Dense(5, name=layer)(x)
    return keras.Model(row, layers.Dense(outputs, name=names[-1])(x), name="dense_net")


def found(kind, teacher, student=None):
    return find_layers("SomeMethod", teacher, student or teacher, kind)


# This library's networks.


@pytest.mark.parametrize("convs", [1, 2])
def test_blocks_of_the_convnet(convs):
    teacher = convnet((8, 8, 1), 3, (4, 6, 8), convs_per_block=convs)
    student = convnet((8, 8, 1), 3, (2, 3, 4))
    blocks = ("block1", "block2", "block3")
    assert found(MAPS, teacher, student) == (blocks, blocks)
    assert found(MIDDLE_MAP, teacher, student) == (("block2",), ("block2",))
    assert found(LAST_MAP, teacher, student) == (("block3",), ("block3",))
    assert found(EMBEDDING, teacher, student) == (("features",), ("features",))


def test_dropout_after_the_pooling_is_not_the_embedding():
    model = convnet((8, 8, 1), 3, (4, 6), dropout=0.5)
    assert found(EMBEDDING, model) == (("features",), ("features",))


def test_maps_of_a_resolution_that_one_model_lacks_are_left_out():
    teacher, student = convnet((8, 8, 1), 3, (4, 6, 8)), convnet((8, 8, 1), 3, (4, 6))
    assert found(MAPS, teacher, student) == (("block1", "block2"),) * 2
    assert found(LAST_MAP, teacher, student) == (("block2",), ("block2",))


@pytest.mark.parametrize(
    ("widths", "middle"), [((4,), "block1"), ((4, 4), "block1"), ((4,) * 3, "block2"),
                           ((4,) * 4, "block2")]
)  # fmt: skip
def test_the_hint_of_fitnet_is_in_the_middle(widths, middle):
    model = convnet((8, 8, 1), 3, widths)
    method = methods.FitNet()
    method.validate_model_compatibility(model, convnet((8, 8, 1), 3, widths))
    assert (method.teacher_layers, method.student_layers) == ((middle,), (middle,))


DEFAULTS = {
    "AttentionTransfer": ("block1", "block2"),
    "NeuronSelectivityTransfer": ("block1", "block2"),
    "FSP": ("block1", "block2"),
    "VID": ("block1", "block2"),
    "FitNet": ("block1",),
    "SimilarityPreserving": ("block2",),
    "CorrelationCongruence": ("features",),
    "RelationalKD": ("features",),
    "PKT": ("features",),
    "CRD": ("features",),
    "DKD": (),
    "DIST": (),
    "LogitStandardization": (),
    "JacobianMatching": (),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_what_each_method_compares_when_no_layers_are_named(name):
    teacher, student = (convnet((8, 8, 1), 3, (4, 6), name=name) for name in ("big", "small"))
    distiller = L2RKDDistiller(teacher, student, distillation_losses=getattr(methods, name)())
    assert list(distiller.distillation_loss_layers.values()) == [(DEFAULTS[name],) * 2]


def test_every_method_is_in_the_table_of_defaults():
    bases = {"Method", "FeatureMethod", "LayersMethod", "TrainableMethod"}
    classes = {name for name in methods.__all__ if isinstance(getattr(methods, name), type)}
    assert classes - bases == set(DEFAULTS)


# Names of other libraries.

APPLICATIONS = {
    "ResNet": (
        [
            ("conv1_conv", 2),
            ("conv2_block1_add", 2),
            ("conv2_block1_out", 1),
            ("conv2_block2_out", 1),
            ("conv3_block1_1_conv", 2),
            ("conv3_block1_out", 1),
        ],
        ("avg_pool", "predictions"),
        ("conv2_block2_out", "conv3_block1_out"),
    ),
    "DenseNet": (
        [("conv1_conv", 2), ("conv2_block1_concat", 1), ("pool2_conv", 1), ("pool2_pool", 2),
         ("conv3_block1_0_bn", 1), ("conv3_block2_concat", 1), ("bn", 1), ("relu", 1)],
        ("avg_pool", "predictions"),
        ("conv2_block1_concat", "conv3_block2_concat"),
    ),
    "VGG": (
        [("block1_conv1", 1), ("block1_conv2", 1), ("block1_pool", 2), ("block2_conv1", 1),
         ("block2_pool", 2)],
        ("global_average_pooling2d", "predictions"),
        ("block1_conv2", "block2_conv1"),
    ),
    "MobileNetV2": (
        [("Conv1", 2), ("expanded_conv_project_BN", 1), ("block_1_project_BN", 2),
         ("block_2_expand", 1), ("block_2_add", 1), ("block_3_project_BN", 2), ("Conv_1", 1),
         ("out_relu", 1)],
        ("global_average_pooling2d", "predictions"),
        ("block_2_add", "block_3_project_BN"),
    ),
    "EfficientNet": (
        [("stem_conv", 2), ("block1a_project_bn", 1), ("block2a_project_bn", 2),
         ("block2b_add", 1), ("top_conv", 1), ("top_activation", 1)],
        ("avg_pool", "predictions"),
        ("block1a_project_bn", "block2b_add"),
    ),
    "MobileNet": (
        [("conv1", 2), ("conv_dw_1", 1), ("conv_pw_1_relu", 1), ("conv_dw_2", 2),
         ("conv_pw_2_relu", 1)],
        ("global_average_pooling2d", "conv_preds"),
        ("conv_pw_1_relu", "conv_pw_2_relu"),
    ),
    "Inception": (
        [("conv2d", 2), ("mixed0", 1), ("mixed1", 1), ("conv2d_1", 2), ("mixed2", 1)],
        ("avg_pool", "predictions"),
        ("mixed1", "mixed2"),
    ),
    "stages of usual code": (
        [("stem", 1), ("stage1_out", 1), ("Stage_2", 2), ("layer3_relu", 2), ("head_conv", 1)],
        ("embedding", "head"),
        ("stage1_out", "Stage_2", "layer3_relu"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APPLICATIONS)
def test_names_of_well_known_networks(name):
    blocks, head, maps = APPLICATIONS[name]
    model = network(blocks, head)
    assert found(MAPS, model) == (maps, maps)
    assert found(LAST_MAP, model) == (maps[-1:], maps[-1:])
    assert found(EMBEDDING, model) == (head[:1], head[:1])


def test_names_of_xception_reach_its_last_map():
    blocks = [("block1_conv1", 2), ("block1_conv2", 1), ("block2_sepconv2", 1), ("add", 2),
              ("block14_sepconv2_act", 1)]  # fmt: skip
    model = network(blocks, ("avg_pool", "predictions"))
    assert found(LAST_MAP, model) == (("block14_sepconv2_act",),) * 2


# Names that say nothing.


def default_names(size=8):
    keras.backend.clear_session()
    return keras.Sequential(
        [
            keras.Input((size, size, 1)),
            layers.Conv2D(2, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(3, 3, padding="same"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.1),
            layers.Dense(3),
        ]
    )


def test_last_layer_of_each_resolution_of_a_sequential_model_with_default_names():
    model = default_names()
    maps = ("re_lu", "re_lu_1")
    assert found(MAPS, model) == (maps, maps)
    assert found(MIDDLE_MAP, model) == (maps[:1], maps[:1])
    assert found(EMBEDDING, model) == (("global_average_pooling2d",),) * 2


def test_names_of_one_model_and_default_names_of_the_other():
    teacher, student = convnet((8, 8, 1), 3, (4, 6)), default_names()
    assert found(MAPS, teacher, student) == (("block1", "block2"), ("re_lu", "re_lu_1"))


def test_flattened_maps_are_an_embedding():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 3, name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, name="out"),
        ]
    )
    assert found(EMBEDDING, model) == (("flatten",), ("flatten",))


@pytest.mark.parametrize(
    ("names", "embedding"),
    [
        (("first", "second", "output"), "second"),
        (("Embedding", "second", "output"), "Embedding"),
        (("features", "pre_logits", "output"), "pre_logits"),
        (("features", "projection", "logits"), "features"),
    ],
)
def test_embedding_of_dense_nets(names, embedding):
    assert found(EMBEDDING, dense_net(*names)) == ((embedding,), (embedding,))


def test_embedding_of_a_sequential_model_is_before_its_last_layer():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(3)])
    assert found(EMBEDDING, model) == (("a",), ("a",))


@pytest.mark.parametrize("last", [lambda: layers.Activation("linear", dtype="float32"),
                                  lambda: layers.Softmax()])  # fmt: skip
def test_logits_before_their_activation_are_not_the_embedding(last):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(3, name="b"), last()]
    )
    assert found(EMBEDDING, model) == (("a",), ("a",))


def test_the_middle_of_models_without_maps_is_the_embedding():
    model = dense_net("first", "second", "output")
    assert found(MIDDLE_MAP, model) == (("second",), ("second",))
    assert found(MIDDLE_MAP, network([("block1", 1)]), model) == (("features",), ("second",))


# Resolutions.


def test_models_without_a_common_resolution_are_paired_from_the_end():
    teacher = network([("block1", 1), ("block2", 2), ("block3", 2)], size=8)  # 8, 4, 2
    student = network([("stage1", 1), ("stage2", 2)], size=9)  # 9, 5
    assert found(MAPS, teacher, student) == (("block2", "block3"), ("stage1", "stage2"))
    assert found(LAST_MAP, teacher, student) == (("block3",), ("stage2",))
    assert found(MAPS, student, teacher) == (("stage1", "stage2"), ("block2", "block3"))


def test_a_resolution_that_comes_back_counts_where_it_comes_last():
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 1, name="down")(image)
    x = layers.Conv2D(2, 1, strides=2, name="bottom")(x)
    x = layers.UpSampling2D(name="up")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3)(x))
    assert found(MAPS, model) == (("bottom", "up"), ("bottom", "up"))


def test_layers_that_another_model_used_at_another_resolution_before():
    shared = [layers.Conv2D(2, 1, name="block1"), layers.Conv2D(2, 1, strides=2, name="block2")]
    models = []
    for size in (16, 8):
        image = x = keras.Input((size, size, 1))
        for layer in shared:
            x = layer(x)
        models.append(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))))
    other = network([("a1", 1), ("a2", 2), ("a3", 2)])  # 8, 4, 2
    assert found(MAPS, models[1], other) == (("block1", "block2"), ("a1", "a2"))


def test_images_of_any_size_have_one_map_for_all():
    model = convnet((None, None, 1), 3, (4, 6))
    assert found(MAPS, model) == (("block2",), ("block2",))


# Shapes.


def test_shapes_are_those_of_the_named_layers():
    model = convnet((8, 8, 1), 3, (4, 6))
    assert shapes_of(model, ()) == (None, 3)
    assert shapes_of(model, ("features",)) == (None, 6)
    assert shapes_of(model, ("block1", "block2")) == [(None, 8, 8, 4), (None, 4, 4, 6)]
    assert shapes_of(model, ("no such layer",)) is None


# What cannot be found.


@pytest.mark.parametrize("kind", [MAPS, LAST_MAP])
@pytest.mark.parametrize("which", ["teacher", "student"])
def test_an_error_about_missing_maps_lists_all_layers(kind, which):
    pair = [convnet((8, 8, 1), 3, (4,)), convnet((8, 8, 1), 3, (4,))]
    pair[which == "student"] = dense_net("first", "output")
    with pytest.raises(ValueError) as error:
        found(kind, *pair)
    message = str(error.value)
    for part in ("SomeMethod", "'dense_net'", "feature maps", "'first': (None, 5)", "'output'"):
        assert part in message
    name = "layer_names" if kind == MAPS else "layer_name"
    assert f"`teacher_{name}` and `student_{name}` must be given" in message


def test_no_vector_before_the_output():
    model = dense_net("output")
    with pytest.raises(ValueError, match="no layer before the output that outputs vectors.*output"):
        found(EMBEDDING, model)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.top = layers.Dense(3)

    def call(self, inputs):
        return self.top(inputs)


@pytest.mark.parametrize("kind", [MAPS, MIDDLE_MAP, LAST_MAP, EMBEDDING])
@pytest.mark.parametrize("which", ["teacher", "student"])
def test_subclassed_models_need_names(kind, which):
    pair = [network([("block1", 1)]), network([("block1", 1)])]
    pair[which == "student"] = model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    message = "`teacher_layer_names?`.* to SomeMethod.*'subclassed'.*not.*`features`"
    with pytest.raises(ValueError, match=message):
        found(kind, *pair)


def test_flow_needs_two_maps():
    teacher, student = (network([("block1", 1)], name=name) for name in ("big", "small"))
    with pytest.raises(ValueError, match="at least two layers"):
        L2RKDDistiller(teacher, student, distillation_losses=methods.FSP())
