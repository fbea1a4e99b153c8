import functools
import random

import keras
import numpy as np
import pytest

from l2rkd_tf.geometry.piecewise import activation_pattern, linear_ball_radius, linear_radius
from l2rkd_tf.models import convnet

layers = keras.layers
NUM_CASES = 200
SECTIONS = 64


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_random_weights(model, seed=0):
    """Random biases and BatchNorm statistics too; variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = generator.normal(size=weight.shape)
        if weight.name == "moving_variance":
            values = 0.5 + np.abs(values)
        weight.assign(values / np.sqrt(max(np.prod(weight.shape[:-1]), 1.0)))
    return model


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


@pytest.fixture(params=MODELS, ids=lambda build: build.__name__)
def case(request, float64):
    """A random network, points, directions and radii."""
    return random_case(request.param)


def along(x, directions, steps):
    """Points `x + t d` for all steps `t` of shape `(cases, steps)`: `(cases * steps, ...)`."""
    steps = steps.reshape(*steps.shape, *[1] * (x.ndim - 1))
    return (x[:, None] + steps * directions[:, None]).reshape(-1, *x.shape[1:])


def is_unchanged(model, x, directions, steps):
    steps = np.pad(steps, ((0, 0), (1, 0)))
    patterns = activation_pattern(model, along(x, directions, steps), batch_size=2048)
    patterns = patterns.reshape(*steps.shape, -1)
    return (patterns[:, 1:] == patterns[:, :1]).all(axis=-1)


def bisected_radii(model, x, directions):
    """Radii by sections of the ray; the points of one pattern are convex."""
    steps = np.tile(2.0 ** np.arange(-30.0, 20.0), (len(x), 1))
    for _ in range(4):
        count = is_unchanged(model, x, directions, steps).sum(axis=1)
        assert (count < steps.shape[1]).all() and (count > 0).all()
        low, high = (np.take_along_axis(steps, count[:, None] - 1 + i, 1) for i in (0, 1))
        steps = low + (high - low) * np.linspace(0.0, 1.0, SECTIONS)
    return low[:, 0]


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
    directions = normal((5, 400, *x.shape[1:]), seed=4).reshape(2000, *x.shape[1:])
    directions /= np.linalg.norm(directions.reshape(2000, -1), axis=1).reshape(
        -1, *[1] * (x.ndim - 1)
    )
    points, radii = np.repeat(x, 400, axis=0), np.repeat(result.radius, 400)
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


@pytest.mark.parametrize("build", [mlp, residual_convnet])
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


class Named(keras.Model):
    """A model that is its graph, of a class of its own."""

    def __init__(self):
        inputs = keras.Input((1,))
        super().__init__(inputs, layers.ReLU(threshold=2.0)(inputs))


def quantized():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Dense(2, name="end")])
    model.layers[0].quantize("int8")
    return model


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (ends_in(layers.Softmax(name="end")), ["'end'", "Softmax", "ReLU", "logits"]),
        (ends_in(layers.Dense(2, "softmax", name="end")), ["'end'", "Dense", "'softmax'"]),
        (ends_in(layers.Activation("tanh", name="end")), ["'end'", "Activation", "'tanh'"]),
        (ends_in(layers.Dense(2, lambda x: x, name="end")), ["'end'", "<lambda>"]),
        (ends_in(keras.Sequential([layers.GroupNormalization(1, name="end")])), ["'end'"]),
        (ends_in(layers.MaxPooling2D(1, data_format="channels_first")), ["channels_first"]),
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
