import warnings

import keras
import numpy as np
import pytest

from l2rkd_tf.features import OUTPUT, feature_model

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


def layers():
    return [
        keras.layers.Dense(6, activation="relu", name="hidden"),
        keras.layers.BatchNormalization(momentum=0.5, name="norm"),
        keras.layers.Dense(3, name="logits"),
    ]


def sequential():
    return keras.Sequential([keras.Input((4,)), *layers()])


def functional():
    inputs = outputs = keras.Input((4,))
    for layer in layers():
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.chain = layers()

    def call(self, inputs, training=False):
        for layer in self.chain:
            inputs = layer(inputs, training=training) if layer.name == "norm" else layer(inputs)
        return inputs


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make", [sequential, functional])
def test_features_are_those_of_the_layers(make, training):
    model = make()
    hidden, norm, logits = model.layers[-3:]
    expected_hidden = hidden(X)
    expected_norm = norm(expected_hidden, training=training)
    expected_output = logits(expected_norm)
    features = feature_model(model, {"norm", "hidden"})(X, training=training)
    assert sorted(features) == [OUTPUT, "hidden", "norm"]
    np.testing.assert_allclose(features["hidden"], expected_hidden, rtol=1e-6)
    np.testing.assert_allclose(features["norm"], expected_norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(features[OUTPUT], expected_output, rtol=1e-5, atol=1e-6)


def test_one_pass_in_training_moves_the_statistics_once():
    model = sequential()
    feature_model(model, {"hidden", "norm"})(X, training=True)
    mean = model.get_layer("hidden")(X).numpy().mean(axis=0)
    np.testing.assert_allclose(model.get_layer("norm").moving_mean, 0.5 * mean, rtol=1e-5)


def test_weights_are_shared_with_the_model():
    model = sequential()
    features = feature_model(model, {"hidden"})
    model.get_layer("logits").bias.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(features(X, training=False)[OUTPUT], model(X))


@pytest.mark.parametrize("make", [sequential, functional, Subclassed])
def test_without_layers_only_the_output_is_a_feature(make):
    model = make()
    features = feature_model(model, set())(X, training=False)
    assert list(features) == [OUTPUT]
    np.testing.assert_array_equal(features[OUTPUT], model(X))


@pytest.mark.parametrize("make", [sequential, functional])
def test_features_are_taken_without_a_warning(make):
    features = feature_model(make(), {"hidden"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert features(X, training=False)["hidden"].shape == (5, 6)


def test_inputs_in_a_dict():
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    joined = keras.layers.Concatenate(name="joined")([inputs["a"], inputs["b"]])
    model = keras.Model(inputs, keras.layers.Dense(3)(joined))
    batch = {"a": X[:, :3], "b": X[:, 2:]}
    features = feature_model(model, {"joined"})(batch, training=False)
    np.testing.assert_array_equal(features["joined"], np.hstack([X[:, :3], X[:, 2:]]))


def test_layers_that_another_model_used_before():
    backbone = sequential()
    inputs = keras.Input((4,))
    hidden = backbone.get_layer("hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    features = feature_model(model, {"hidden"})(X, training=False)
    np.testing.assert_allclose(features["hidden"], backbone.get_layer("hidden")(X), rtol=1e-6)


@pytest.mark.parametrize("make", [sequential, functional])
def test_an_unknown_layer_is_named_next_to_the_known_ones(make):
    message = (
        r"`distillation_losses`.*'hiden'.*Did you mean 'hidden'\?.*\['hidden', 'norm', 'logits'\]"
    )
    with pytest.raises(ValueError, match=message):
        feature_model(make(), {"norm", "hiden"})


def test_layers_of_a_model_without_a_graph():
    with pytest.raises(ValueError, match=r"\['hidden'\] of the model 'subclassed'.*Functional"):
        feature_model(Subclassed(), {"hidden"})


def test_layers_of_an_unbuilt_model():
    model = keras.Sequential(layers(), name="unbuilt")
    with pytest.raises(ValueError, match=r"`distillation_losses`.*unbuilt"):
        feature_model(model, {"hidden"})
