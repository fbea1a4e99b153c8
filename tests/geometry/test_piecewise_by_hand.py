"""Radii and patterns of small networks derived by hand."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf.geometry.piecewise import activation_pattern, linear_ball_radius, linear_radius
from l2rkd_tf.models import convnet
from tests.geometry.piecewise_models import Named, bisected_radii, normal, with_random_weights


def dense(kernel, bias, activation=None):
    kernel = np.array(kernel, "float32")
    layer = layers.Dense(kernel.shape[1], activation)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, np.array(bias, "float32")])
    return layer


def batch_norm():
    """`2 (x - 3) / sqrt(4) + 1 = x - 2`, up to the epsilon in the root."""
    layer = layers.BatchNormalization(epsilon=1e-12)
    layer.build((None, 1))
    layer.set_weights([np.array([value], "float32") for value in (2.0, 1.0, 3.0, 4.0)])
    return layer


def residual(kernel, bias):
    inputs = keras.Input((1,))
    x = layers.Add()([inputs, dense([[kernel]], [bias], "relu")(inputs)])
    return keras.Model(inputs, layers.ReLU()(x))


# Stack on one input, x, direction, first kink ahead by hand.
BY_HAND = {
    "no kink": ([dense([[2.0]], [1.0])], 1.0, 1.0, np.inf),
    "slope towards": ([dense([[2.0]], [-6.0], "relu")], 1.0, 0.5, 4.0),
    "slope away": ([dense([[2.0]], [-6.0], "relu")], 1.0, -0.5, np.inf),
    "second layer": (
        # relu(x) - 2 and relu(-x) - 3, from x = 1: the first at x = 2, backwards x = 0 is first.
        [dense([[1.0, -1.0]], [0.0, 0.0], "relu"), dense(np.eye(2), [-2.0, -3.0], "relu")],
        1.0,
        2.0,
        0.5,
    ),
    "second layer backwards": (
        [dense([[1.0, -1.0]], [0.0, 0.0], "relu"), dense(np.eye(2), [-2.0, -3.0], "relu")],
        -1.0,
        -2.0,
        1.0,
    ),
    "max pooling": (
        # Values (x, 2, -x) from x = 1: x overtakes 2 at 2; backwards -x does at -2.
        [
            dense([[1.0, 0.0, -1.0]], [0.0, 2.0, 0.0]),
            layers.Reshape((3, 1)),
            layers.MaxPooling1D(3),
        ],
        1.0,
        0.25,
        4.0,
    ),
    "max pooling backwards": (
        [
            dense([[1.0, 0.0, -1.0]], [0.0, 2.0, 0.0]),
            layers.Reshape((3, 1)),
            layers.GlobalMaxPooling1D(),
        ],
        1.0,
        -1.0,
        3.0,
    ),
    "max pooling of equal values": (
        [dense([[1.0, 1.0]], [0.5, 0.5]), layers.Reshape((2, 1)), layers.MaxPooling1D(2)],
        1.0,
        1.0,
        np.inf,
    ),
    "a tie that opens": (
        [dense([[0.0, 1.0]], [1.0, 0.0]), layers.Reshape((2, 1)), layers.MaxPooling1D(2)],
        1.0,
        1.0,
        0.0,
    ),
    "batch norm": ([batch_norm(), layers.ReLU()], 5.0, -1.0, 3.0),
    "relu6 from below": ([layers.Activation("relu6")], 4.0, 1.0, 2.0),
    "relu6 from above": ([layers.ReLU(max_value=6.0)], 8.0, -1.0, 2.0),
    "relu6 at its end, on": ([layers.ReLU(max_value=6.0)], 6.0, 1.0, 0.0),
    "relu6 at its end, back": ([layers.ReLU(max_value=6.0)], 6.0, -1.0, 6.0),
    "thresholded": ([layers.ReLU(threshold=2.0)], 5.0, -1.0, 3.0),
    "leaky": (
        # 0.5 x + 2 below 0: the next kink at x = -4.
        [layers.LeakyReLU(0.5), dense([[1.0]], [2.0], "relu")],
        -1.0,
        -1.0,
        3.0,
    ),
    "prelu": (
        [
            layers.PReLU(alpha_initializer=keras.initializers.Constant(-0.25)),
            dense([[1.0]], [-1.0], "relu"),
        ],
        -1.0,
        -1.0,
        3.0,
    ),
    # relu(x + max(-2 x - 2, 0)): from -0.5 to 0 without, from -1.5 with the branch, up to -1.
    "residual sum": ([residual(-2.0, -2.0)], -0.5, 1.0, 0.5),
    "residual sum, branch on": ([residual(-2.0, -2.0)], -1.5, 1.0, 0.5),
    "residual sum, both": ([residual(-2.0, -2.0)], -1.5, -1.0, 0.5),
    "on the kink, on": ([layers.ReLU()], 0.0, 1.0, 0.0),
    "on the kink, off": ([layers.ReLU()], 0.0, -1.0, np.inf),
    "no direction": ([layers.ReLU()], 0.0, 0.0, np.inf),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_radii_by_hand(name):
    stack, x, direction, expected = BY_HAND[name]
    model = keras.Sequential([keras.Input((1,)), *stack])
    radius = linear_radius(model, [[x]], [[direction]])
    assert radius.shape == (1,) and radius.dtype == np.float64
    np.testing.assert_allclose(radius, [expected], rtol=1e-5)


def test_patterns_by_hand():
    stack = [dense([[1.0, -1.0, 2.0, 1.0]], [0.0] * 4), layers.ReLU(6.0), layers.Reshape((2, 2))]
    model = keras.Sequential([keras.Input((1,)), *stack, layers.GlobalMaxPooling1D()])
    pattern = activation_pattern(model, np.array([[4], [0], [250]], "uint8"))
    expected = [[1, 0, 2, 1, 1, 1], [0, 0, 0, 0, 0, 0], [2, 0, 2, 2, 0, 1]]
    np.testing.assert_array_equal(pattern, expected)


def test_a_model_without_kinks_is_linear_everywhere():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dropout(0.5)])
    assert linear_radius(model, np.ones((3, 2)), np.ones((3, 2))).tolist() == [np.inf] * 3
    result = linear_ball_radius(model, np.ones((3, 2)))
    assert result.radius.tolist() == [np.inf] * 3 and result.exact and result.num_neurons == 0
    assert activation_pattern(model, np.ones((3, 2))).shape == (3, 0)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_convnet_of_the_library(policy):
    keras.config.set_dtype_policy(policy)
    model = with_random_weights(convnet((8, 8, 1), 3, widths=(4, 6), dropout=0.2))
    model.compile(loss=lambda labels, logits: logits)
    nested = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(0.5), model])
    x, directions = normal((20, 8, 8, 1), 1), normal((20, 8, 8, 1), 2)
    before, state = model.get_weights(), random.getstate()
    radii = linear_radius(model, x, directions)
    np.testing.assert_allclose(radii, bisected_radii(model, x, directions), rtol=1e-5)
    np.testing.assert_allclose(linear_radius(nested, 2 * x, directions), 2 * radii, rtol=1e-5)
    # Nothing of the user's has changed.
    assert random.getstate() == state
    assert all(map(np.array_equal, before, model.get_weights()))
    assert [layer.compute_dtype for layer in model.layers[:3]] == [model.compute_dtype] * 3


def test_adapted_normalization_is_kept():
    normalization = layers.Normalization()
    normalization.adapt(np.array([[1.0], [5.0]]))  # (x - 3) / 2
    model = keras.Sequential([keras.Input((1,)), normalization, layers.ReLU()])
    np.testing.assert_allclose(linear_radius(model, [[7.0]], [[-1.0]]), [4.0], rtol=1e-5)


def test_a_class_of_its_own_is_followed():
    assert linear_radius(Named(), [[5.0]], [[-1.0]]).tolist() == [3.0]
