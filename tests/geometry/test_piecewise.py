"""Radii of linear regions against bisection and brute force."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf.geometry.piecewise import linear_ball_radius, linear_radius
from tests.geometry.piecewise_models import (
    along,
    bisected_radii,
    is_unchanged,
    normal,
    with_random_weights,
)
from tests.helpers import few

NUM_CASES = 60


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape, dtype="float64"), *stack])


def mlp():
    return sequential(
        (3,),
        layers.Dense(20, activation="relu"),
        layers.Dense(15, activation="leaky_relu"),
        layers.Dense(10),
        layers.PReLU(),
        layers.Dense(4),
    )


def residual_convnet():
    """Convolution, BatchNorm, pooling, a residual sum, a nested model and shared layers."""
    inputs = keras.Input((6, 6, 2), dtype="float64")
    x = layers.Conv2D(3, 3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    shared = layers.Conv2D(3, 3, padding="same", activation="relu6")
    x = layers.Add()([x, shared(x)])
    x = shared(x) - x
    x = layers.MaxPooling2D(2)(x)
    nested = sequential((3, 3, 3), layers.DepthwiseConv2D(2), layers.LeakyReLU(0.1))
    x = layers.Concatenate()([nested(x), layers.Cropping2D(((0, 1),) * 2)(x)])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def pooled_convnet():
    """Overlapping windows over padding, and the layers that only move values about."""
    inputs = keras.Input((7, 6, 1), dtype="float64")
    x = layers.ZeroPadding2D(1)(layers.Rescaling(2.0, -0.5)(inputs))
    x = layers.Conv2D(4, 3, strides=2, activation=layers.ReLU(0.8, 0.1, 0.2))(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(layers.UpSampling2D(2)(x))
    x = layers.SeparableConv2D(3, 2, activation="relu")(layers.Dropout(0.5)(x))
    x = layers.Conv2DTranspose(2, 2, strides=2, activation="relu")(x)
    x = layers.AveragePooling2D(2)(layers.PReLU(shared_axes=(1, 2))(x))
    x = layers.Average()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    return keras.Model(inputs, layers.Dense(2)(x))


def sequences():
    return sequential(
        (9, 2),
        layers.Conv1D(4, 3, padding="causal", activation="relu"),
        layers.MaxPooling1D(2, padding="same"),
        layers.SpatialDropout1D(0.5),
        layers.Conv1D(3, 2, dilation_rate=2),
        layers.Activation("relu"),
        layers.Reshape((9,)),
        layers.Dense(3),
    )


def two_branches():
    inputs = keras.Input((4,), dtype="float64")
    branch = sequential((4,), sequential((4,), layers.Dense(6, "relu")), layers.Dense(4))
    x = layers.Subtract()([branch(inputs), branch(branch(inputs))]) + inputs
    return keras.Model(inputs, layers.Dense(2)(layers.ReLU(6.0)(layers.Flatten()(x))))


MODELS = [mlp, residual_convnet, pooled_convnet, sequences, two_branches]


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")


@functools.cache
def random_case(build):
    model = with_random_weights(build(), seed=1)
    x, directions = (normal((NUM_CASES, *model.input_shape[1:]), seed) for seed in (2, 3))
    return model, x, directions, linear_radius(model, x, directions, batch_size=128)


# That with most kinds of layers, and the sequences.
FEW = (residual_convnet, sequences)


@pytest.fixture(params=few(FEW, MODELS), ids=lambda build: build.__name__)
def case(request, float64):
    """A random network, points, directions and radii."""
    return random_case(request.param)


def test_radii_equal_bisection(case):
    model, x, directions, radii = case
    np.testing.assert_allclose(radii, bisected_radii(model, x, directions), rtol=1e-5)


def test_the_pattern_changes_at_the_radius_and_not_before(case):
    model, x, directions, radii = case
    steps = radii[:, None] * [0.5, 0.999, 1.001]
    unchanged = is_unchanged(model, x, directions, steps)
    np.testing.assert_array_equal(unchanged, np.tile([True, True, False], (len(x), 1)))


def test_the_model_is_affine_up_to_the_radius_and_not_beyond(case):
    model, x, directions, radii = case
    # The model itself, not this module's reading of it.
    steps = radii[:, None] * np.array([0.0, 0.4995, 0.999, 10.0, 20.0])
    outputs = model(along(x, directions, steps), training=False).numpy()
    outputs = outputs.reshape(*steps.shape, -1)
    start, middle, end, far, further = np.moveaxis(outputs, 1, 0)
    size = np.abs(end - start).max(axis=1)
    assert (np.abs(start - 2 * middle + end).max(axis=1) <= 1e-5 * size).all()
    bends = np.abs(start - 2 * far + further).max(axis=1) > 1e-3 * size
    assert bends.mean() > 0.9


def test_the_pattern_holds_in_the_ball(case):
    model, x, _, _ = case
    x = x[:5]
    result = linear_ball_radius(model, x)
    assert result.exact
    directions = normal((5 * 80, *x.shape[1:]), seed=4)
    directions /= np.linalg.norm(directions.reshape(len(directions), -1), axis=1).reshape(
        -1, *[1] * (x.ndim - 1)
    )
    points, radii = np.repeat(x, 80, axis=0), np.repeat(result.radius, 80)
    assert is_unchanged(model, points, directions, 0.999 * radii[:, None]).all()
    assert (linear_radius(model, points, directions) >= radii * (1 - 1e-9)).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_ball_touches_the_nearest_hyperplane(float64, norm):
    # 6 units on 3 inputs: fewer inputs than neurons, then (by hand) the formula for each.
    model = with_random_weights(sequential((3,), layers.Dense(6, "relu")), seed=5)
    x = normal((20, 3), seed=6)
    kernel, bias = model.get_weights()
    lengths = np.linalg.norm(kernel, axis=0, ord=2 if norm == "l2" else 1)
    distances = np.abs(x @ kernel + bias) / lengths
    result = linear_ball_radius(model, x, norm=norm, batch_size=7)
    np.testing.assert_allclose(result.radius, distances.min(axis=1), rtol=1e-9)
    assert result.exact and result.num_neurons == 6
    sampled = linear_ball_radius(model, x, num_neurons=2, norm=norm, seed=1)
    pairs = [distances[:, [i, j]].min(axis=1) for i in range(6) for j in range(i)]
    assert sum(np.allclose(sampled.radius, pair, rtol=1e-9) for pair in pairs) == 1
    assert not sampled.exact and sampled.num_neurons == 2


@pytest.mark.parametrize("build", few([mlp], [mlp, residual_convnet]))
def test_both_ways_to_the_ball_radius_agree(float64, build):
    model, x, _, _ = random_case(build)
    exact = linear_ball_radius(model, x[:3])
    by_neurons = linear_ball_radius(model, x[:3], num_neurons=exact.num_neurons - 1, seed=3)
    assert not by_neurons.exact
    # All neurons but one: the same minimum unless that one was the nearest.
    assert (by_neurons.radius >= exact.radius * (1 - 1e-9)).all()
    np.testing.assert_allclose(by_neurons.radius, exact.radius, rtol=1e-9)


def test_the_ball_in_one_dimension_is_the_nearer_end_of_the_segment(float64):
    model = sequential((1,), layers.Dense(8, "relu"), layers.Dense(8, "relu"), layers.Dense(1))
    with_random_weights(model, seed=7)
    x = normal((50, 1), seed=8)
    nearer = np.minimum(
        linear_radius(model, x, np.ones_like(x)), linear_radius(model, x, -np.ones_like(x))
    )
    np.testing.assert_allclose(linear_ball_radius(model, x).radius, nearer, rtol=1e-9)


def with_data_format(data_format):
    """Layers of all kinds that have a data format, with the same weights for both formats."""
    first = data_format == "channels_first"
    options = {"data_format": data_format}
    inputs = keras.Input((2, 7, 6) if first else (7, 6, 2), dtype="float32")
    x = layers.ZeroPadding2D(1, **options)(inputs)
    x = layers.Conv2D(4, 3, activation="relu", **options)(x)
    x = layers.MaxPooling2D(3, strides=1, padding="same", **options)(x)
    x = layers.UpSampling2D(2, **options)(x)
    x = layers.AveragePooling2D(2, **options)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, **options)(x)
    x = layers.BatchNormalization(axis=1 if first else -1)(x)
    x = layers.SeparableConv2D(5, 2, activation="leaky_relu", **options)(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, activation="relu", **options)(x)
    x = layers.Cropping2D(1, **options)(x)
    pools = [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D]
    x = layers.Concatenate()([pool(**options)(x) for pool in pools])
    return keras.Model(inputs, layers.Dense(3)(x))


def test_channels_first_as_channels_last():
    last, first = map(with_data_format, ("channels_last", "channels_first"))
    with_random_weights(last)
    first.set_weights(last.get_weights())
    x, directions = normal((20, 7, 6, 2)), normal((20, 7, 6, 2), seed=1)
    moved = [np.moveaxis(points, -1, 1) for points in (x, directions)]
    expected = linear_radius(last, x, directions)
    assert len(np.unique(expected)) > 10
    np.testing.assert_allclose(linear_radius(first, *moved), expected, rtol=1e-9)
    found, expected = (
        linear_ball_radius(model, points[:2], num_neurons=5)
        for model, points in ((first, moved[0]), (last, x))
    )
    np.testing.assert_allclose(found.radius, expected.radius, rtol=1e-9)
