"""Models and arguments that the radii refuse."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf.geometry.piecewise import activation_pattern, linear_ball_radius, linear_radius


def ends_in(*stack):
    return lambda: keras.Sequential([keras.Input((4, 4, 1)), *stack])


def called_in_training_mode():
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs, training=True))


def two_inputs():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Add()(inputs))


class Subclass(keras.Model):
    def call(self, inputs):
        return inputs


class Squashed(keras.Model):
    """A model with a graph that is not all that it computes."""

    def __init__(self):
        inputs = keras.Input((4, 4, 1))
        super().__init__(inputs, layers.Dense(2)(inputs), name="end")

    def call(self, inputs, **kwargs):
        return keras.ops.tanh(super().call(inputs))


class SquashedStack(keras.Sequential):
    def call(self, inputs, **kwargs):
        return keras.ops.tanh(super().call(inputs))


def quantized():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Dense(2, name="end")])
    model.layers[0].quantize("int8")
    return model


@pytest.mark.covering
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (ends_in(layers.Softmax(name="end")), ["'end'", "Softmax", "ReLU", "logits"]),
        (ends_in(layers.Dense(2, "softmax", name="end")), ["'end'", "Dense", "'softmax'"]),
        (ends_in(layers.Activation("tanh", name="end")), ["'end'", "Activation", "'tanh'"]),
        (ends_in(layers.Dense(2, lambda x: x, name="end")), ["'end'", "<lambda>"]),
        (ends_in(keras.Sequential([layers.GroupNormalization(1, name="end")])), ["'end'"]),
        (
            ends_in(layers.UpSampling2D(interpolation="bilinear", name="end")),
            ["'bilinear'", "'end'"],
        ),
        (quantized, ["'end'", "Dense", "quantized"]),
        (Squashed, ["'end'", "Squashed", "`call`"]),
        (ends_in(Squashed()), ["'end'", "Squashed", "`call`"]),
        (
            lambda: SquashedStack([keras.Input((4, 4, 1)), layers.ReLU()]),
            ["SquashedStack", "`call`"],
        ),
        (called_in_training_mode, ["'norm'", "training=True"]),
        (two_inputs, ["one input", "2 inputs"]),
        (Subclass, ["Functional", "Subclass"]),
        (lambda: keras.Sequential([layers.Dense(2)]), ["keras.Input", "Sequential"]),
        (lambda: np.ones(2), ["ndarray"]),
    ],
)
@pytest.mark.parametrize("function", [activation_pattern, linear_ball_radius])
def test_models_that_are_not_supported(build, words, function):
    with pytest.raises(ValueError, match="`model` must") as error:
        function(build(), np.ones((1, 4, 4, 1)))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("x", {"x": np.ones((2, 3))}),
        ("x", {"x": np.ones((0, 2))}),
        ("x", {"x": np.full((1, 2), np.nan)}),
        ("x", {"x": "points"}),
        ("directions", {"directions": np.ones((2,))}),
        ("directions", {"directions": np.full((1, 2), np.inf)}),
        ("batch_size", {"batch_size": 0}),
    ],
)
def test_wrong_arguments_of_the_radius(argument, arguments):
    model = keras.Sequential([keras.Input((2,)), layers.ReLU()])
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        linear_radius(
            **{"model": model, "x": np.ones((1, 2)), "directions": np.ones((1, 2))} | arguments
        )


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_neurons", 0), ("num_neurons", 1.5), ("norm", "l1"), ("seed", -1), ("batch_size", 0.5)],
)
def test_wrong_arguments_of_the_ball(argument, value):
    model = keras.Sequential([keras.Input((2,)), layers.ReLU()])
    with pytest.raises(ValueError, match=f"`{argument}` must"):
        linear_ball_radius(model, np.ones((1, 2)), **{argument: value})
