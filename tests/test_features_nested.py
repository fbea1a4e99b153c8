"""Features of layers inside nested models, and of layers that put the channels first."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf.features import OUTPUT, feature_model, layer_outputs, layer_path

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(size=(3, 4, 4, 3)).astype("float32")


def body(name="backbone", size=6):
    """Functional, with a residual sum, an operation that isn't a layer."""
    row = keras.Input((4,))
    hidden = layers.Dense(size, activation="relu", name="hidden")(row)
    norm = layers.BatchNormalization(momentum=0.5, name="norm")(hidden)
    return keras.Model(row, norm + hidden, name=name)


def chain(*parts, name="chain"):
    return keras.Sequential([keras.Input((4,)), *parts], name=name)


def idiom(backbone, **call):
    row = keras.Input((4,))
    x = layers.Rescaling(2.0, name="rescaling")(row)
    return keras.Model(row, layers.Dense(3, name="top")(backbone(x, **call)), name="idiom")


NESTED = {
    "functional in functional": (lambda: idiom(body()), "backbone"),
    "functional in sequential": (
        lambda: chain(layers.Rescaling(2.0, name="rescaling"), body(), layers.Dense(3, name="top")),
        "backbone",
    ),
    "sequential in functional": (
        lambda: idiom(
            chain(
                layers.Dense(6, activation="relu", name="hidden"),
                layers.BatchNormalization(momentum=0.5, name="norm"),
                name="backbone",
            )
        ),
        "backbone",
    ),
    "two levels deep": (lambda: idiom(chain(body("inner"), name="outer")), "outer/inner"),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NESTED)
def test_a_nested_model_gives_the_features_of_its_layers_in_one_pass(name, training):
    make, inner = NESTED[name]
    keras.utils.set_random_seed(0)
    model = make()
    keras.utils.set_random_seed(0)
    twin = make()
    twin.set_weights(model.get_weights())
    paths = [f"{inner}/hidden", f"{inner}/norm"]
    features = feature_model(model, paths)(X, training=training)
    backbone = twin
    for part in inner.split("/"):
        backbone = backbone.get_layer(part)
    hidden = backbone.get_layer("hidden")(2.0 * X)
    np.testing.assert_allclose(features[paths[0]], hidden, rtol=1e-6)
    mean, variance = (np.mean(hidden, 0), np.var(hidden, 0)) if training else (0.0, 1.0)
    expected = (hidden - mean) / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(features[paths[1]], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features[OUTPUT], twin(X, training=training), rtol=1e-6)
    for weight, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-6)  # BatchNorm has moved once


@pytest.mark.parametrize("call", [{}, {"training": False}])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_backbone_normalizes_as_in_the_model(frozen, call):
    backbone = body()
    backbone.trainable = not frozen
    model = idiom(backbone, **call)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    features = feature_model(model, ["norm"])(X, training=True)
    np.testing.assert_allclose(features[OUTPUT], twin(X, training=True), rtol=1e-5)
    for weight, other in zip(model.weights, twin.weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-6)
    if frozen:
        hidden = backbone.get_layer("hidden")(2.0 * X)
        np.testing.assert_allclose(features["norm"], hidden / np.sqrt(1.001), rtol=1e-5)


def test_a_nested_model_called_twice_gives_the_features_of_its_last_call():
    backbone, row = body(), keras.Input((4,))
    twice = backbone(row) - backbone(layers.Rescaling(3.0)(row))
    model = keras.Model(row, layers.Dense(3)(twice))
    features = feature_model(model, ["backbone/hidden", "backbone"])(X, training=False)
    expected = backbone.get_layer("hidden")(3.0 * X)
    np.testing.assert_allclose(features["backbone/hidden"], expected, rtol=1e-6)
    np.testing.assert_allclose(features["backbone"], backbone(3.0 * X), rtol=1e-6)
    np.testing.assert_allclose(features[OUTPUT], model(X), rtol=1e-6)


def test_a_nested_model_with_a_dict_of_outputs():
    row = keras.Input((4,))
    first = layers.Dense(5, name="first")(row)
    pyramid = keras.Model(
        row, {"fine": first, "coarse": layers.Dense(2, name="second")(first)}, name="pyramid"
    )
    levels = pyramid(row)
    joined = layers.Concatenate(name="joined")([levels["coarse"], levels["fine"]])
    model = keras.Model(row, layers.Dense(3)(joined))
    features = feature_model(model, ["joined", "second"])(X, training=False)
    expected = pyramid(X)
    np.testing.assert_allclose(features["second"], expected["coarse"], rtol=1e-6)
    np.testing.assert_allclose(
        features["joined"], np.hstack([expected["coarse"], expected["fine"]]), rtol=1e-6
    )


def test_features_of_nested_models_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = idiom(body())
    features = feature_model(model, ["hidden"])(X, training=False)
    assert features["hidden"].dtype == "float16"
    np.testing.assert_array_equal(features[OUTPUT], model(X, training=False))


def test_reading_features_leaves_the_model_as_it_was():
    model = idiom(body())
    weights, names = [id(w) for w in model.weights], [layer.name for layer in model.layers]
    feature_model(model, ["hidden"])(X, training=False)
    assert [id(w) for w in model.weights] == weights
    assert [layer.name for layer in model.layers] == names
    assert keras.Sequential([keras.Input((4,))]).name == "sequential"  # no name is used up
    assert idiom(body("other")).get_layer("other").name == "other"


def test_masks_reach_nested_models():
    words = keras.Input((6,), dtype="int32")
    states = keras.Input((6, 3))
    reader = keras.Model(states, layers.LSTM(4, name="lstm")(states), name="reader")
    embedded = layers.Embedding(9, 3, mask_zero=True, name="embedding")(words)
    model = keras.Model(words, layers.Dense(2)(reader(embedded)))
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]])
    features = feature_model(model, ["lstm"])(x, training=False)
    np.testing.assert_allclose(features[OUTPUT], model(x), rtol=1e-6)
    # What is masked does not count: the first three steps alone give the same.
    lstm, embedding = reader.get_layer("lstm"), model.get_layer("embedding")
    np.testing.assert_allclose(features["lstm"][:1], lstm(embedding(x[:1, :3])), rtol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_layers_of_a_wrapper_are_trained_also_if_frozen(frozen):
    inner = layers.Dense(3)
    row = keras.Input((5, 4))
    x = layers.TimeDistributed(inner, name="wrapped")(layers.Rescaling(2.0, name="rescaling")(row))
    model = keras.Model(row, layers.Dense(2)(layers.Flatten()(x)))
    inner.trainable = not frozen
    learned = {path: layer.learned for path, layer in layer_outputs(model).items()}
    assert learned["wrapped"] and not learned["rescaling"]


class OwnCall(keras.Model):
    """Made as a functional model, but with a `call` of its own, which its graph does not tell."""

    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


def test_a_model_with_its_own_call_is_not_taken_for_its_graph():
    row = keras.Input((4,))
    model = OwnCall(row, layers.Dense(3, name="hidden")(row), name="own")
    with pytest.raises(ValueError, match="'own'.*not connected in a graph"):
        feature_model(model, ["hidden"])
    outer = idiom(model)
    assert list(layer_outputs(outer)) == ["rescaling", "own", "top"]
    features = feature_model(outer, ["own"])(X, training=False)
    np.testing.assert_allclose(features["own"], model(2.0 * X), rtol=1e-6)


# Names.


def two_bodies():
    row = keras.Input((4,))
    return keras.Model(row, layers.Dense(3)(body("left")(row) + body("right")(row)), name="two")


def test_a_bare_name_that_several_nested_models_have_lists_the_paths():
    with pytest.raises(ValueError, match=r"'hidden'.*'two'.*\['left/hidden', 'right/hidden'\]"):
        layer_path(two_bodies(), "hidden")


@pytest.mark.parametrize("name", ["hidden", "inner/hidden", "outer/inner/hidden"])
def test_the_end_of_a_path_is_enough(name):
    assert layer_path(NESTED["two levels deep"][0](), name) == "outer/inner/hidden"


def test_an_outer_layer_goes_before_an_inner_one_of_the_same_name():
    model = chain(body(), layers.Dense(3, name="hidden"))
    assert layer_path(model, "hidden") == "hidden"


@pytest.mark.parametrize("name", ["hiden", "backbone/hiden", "bakbone/hidden"])
def test_a_misspelt_layer_of_a_nested_model_suggests_its_path(name):
    with pytest.raises(ValueError, match=r"Did you mean 'backbone/hidden'") as error:
        layer_path(idiom(body()), name)
    assert "'rescaling', 'backbone/hidden', 'backbone/norm'" in str(error.value)


def test_layers_added_to_a_nested_model_later_are_found():
    inner = chain(layers.Dense(3, name="a"), name="inner")
    model = chain(inner)
    assert list(layer_outputs(model)) == ["inner/a", "inner"]
    inner.add(layers.Dense(2, name="b"))
    assert list(layer_outputs(model)) == ["inner/a", "inner/b", "inner"]


# Channels first.


def images(data_format):
    """Layers between convolutions take the format from them; the head gets it back."""
    image = x = keras.Input((4, 4, 3))
    axis = -1
    if data_format == "channels_first":
        x, axis = layers.Permute((3, 1, 2))(x), 1
    x = layers.Conv2D(5, 3, padding="same", data_format=data_format, name="conv")(x)
    x = layers.BatchNormalization(axis=axis, name="norm")(x)
    residual = x
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.ReLU(name="relu")], name="inner")
    x = layers.Add(name="add")([residual, inner(x)])
    x = layers.MaxPooling2D(data_format=data_format, name="pool")(x)
    if data_format == "channels_first":
        x = layers.Permute((2, 3, 1), name="last")(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_last")(x)
    return keras.Model(image, layers.Dense(3)(x))


def compiled(features):
    """Only XLA has convolutions with the channels first on a CPU."""
    return tf.function(functools.partial(features, training=False), jit_compile=True)


def test_maps_of_layers_that_put_the_channels_first_are_given_with_the_channels_last():
    names = ["conv", "norm", "inner/relu", "add", "pool"]
    last, first = (images(f"channels_{where}") for where in ("last", "first"))
    first.set_weights(last.get_weights())
    expected = feature_model(last, names)(IMAGES, training=False)
    actual = compiled(feature_model(first, [*names, "last"]))(IMAGES)
    for name in names:
        assert layer_outputs(first)[name].shape == layer_outputs(last)[name].shape
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual["last"], expected["pool"], rtol=1e-5, atol=1e-6)


def test_steps_of_a_sequence_that_puts_the_channels_first():
    row = keras.Input((7, 2))
    x = layers.Permute((2, 1))(row)
    x = layers.Conv1D(5, 3, data_format="channels_first", name="conv")(x)
    model = keras.Model(row, layers.Dense(3)(layers.Flatten()(layers.ReLU(name="relu")(x))))
    assert layer_outputs(model)["relu"].shape == (None, 5, 5)
    features = compiled(feature_model(model, ["relu"]))(np.zeros((2, 7, 2), "float32"))
    assert features["relu"].shape == (2, 5, 5)


def test_mixing_positions_between_two_permutations_is_not_channels_first():
    row = keras.Input((7, 2))
    x = layers.Conv1D(6, 1)(row)
    mixed = layers.Permute((2, 1))(x)
    mixed = layers.Permute((2, 1))(layers.Dense(7)(mixed))
    x = layers.Add(name="add")([x, mixed])
    model = keras.Model(row, layers.Dense(3)(layers.Flatten()(x)))
    assert layer_outputs(model)["add"].shape == (None, 7, 6)
