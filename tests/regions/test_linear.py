"""Regions that end where the teacher bends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry, regions
from l2rkd_tf.regions import LinearRegion
from tests.regions.bent_teachers import CLASSES, along, mlp, partners_of, points


def absolute_value():
    """`|x|`, as `relu(x) + relu(-x)`."""
    model = mlp(0, 2, inputs=1, outputs=1)
    weights = [[[1.0, -1.0]], [0.0, 0.0], [[1.0], [1.0]], [0.0]]
    model.set_weights([np.array(weight) for weight in weights])
    return model


# How far.


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
def test_a_linear_teacher_leaves_the_segment_unchanged(tolerance):
    teacher, x = mlp(0), points()
    region = LinearRegion(teacher, tolerance, radius=0.7)
    drawn = region.draw(x, [1, 2])
    plain = regions.Segment(radius=0.7).draw(x, [1, 2])
    np.testing.assert_array_equal(drawn.limits, np.full(8, 0.7, "float32"))
    np.testing.assert_array_equal(drawn.partners, plain.partners)
    np.testing.assert_array_equal(drawn.lam, plain.lam)
    exact = teacher(region.apply(x, drawn))
    for targets in (region.apply(teacher(x), drawn), region.targets(teacher(x), drawn)):
        np.testing.assert_allclose(targets, exact, rtol=0.0, atol=2e-6)


# `|x|` between -1 and 3 bends at 1/4 of the way from -1, and at 3/4 from 3. On the whole segment
# the largest gap is at the bend: 1.5, of a change of 2. On the half from -1 the change is 0.
@pytest.mark.parametrize(
    ("tolerance", "limits", "changes"),
    [
        (0.0, [0.25, 0.75], [-1.0, -3.0]),
        (0.1, [0.25, 0.5], [-1.0, -2.0]),
        (0.74, [0.25, 0.5], [-1.0, -2.0]),
        (0.76, [1.0, 1.0], [2.0, -2.0]),
    ],
)
def test_limits_of_a_bent_line_by_hand(tolerance, limits, changes):
    region = LinearRegion(absolute_value(), tolerance)
    drawn = region.draw(tf.constant([[-1.0], [3.0]]), [0, 0])
    np.testing.assert_array_equal(drawn.limits, np.float32(limits))
    np.testing.assert_allclose(drawn.changes[:, 0], changes, atol=1e-6)


def test_an_example_at_the_bend_stays_where_it_is():
    # From 0.01 to -1 the bend is at 1/101 of the way, before the last of the halvings.
    x = tf.constant([[0.01], [-1.0]])
    region = LinearRegion(absolute_value(), 0.01)
    drawn = region.draw(x, [0, 0])
    np.testing.assert_array_equal(drawn.limits, np.float32([0.0, 0.5]))
    np.testing.assert_array_equal(region.apply(x, drawn)[0], x[0])
    np.testing.assert_array_equal(region.targets(x, drawn)[0], x[0])
    np.testing.assert_array_equal(region.apply(x, region.at_fraction(drawn, 1.0))[0], x[0])


@pytest.mark.parametrize("options", [{}, {"fractions": (0.5, 0.9), "num_halvings": 6}])
def test_the_limit_is_the_largest_candidate_that_passes(options):
    teacher, x, tolerance = mlp(1, 16, 16), points(32), 0.1
    region = LinearRegion(teacher, tolerance, radius=0.9, **options)
    drawn = region.draw(x, [3, 4])
    expected = np.zeros(32, "float32")
    for halvings in reversed(range(region.num_halvings + 1)):
        candidate = np.float32(0.9) * np.float32(0.5**halvings)
        ends = along(x, drawn, np.full(32, candidate))
        gaps, changes = geometry.linearity_gaps(teacher, x, ends, region.fractions)
        expected[(gaps <= tolerance * changes).all(axis=0)] = candidate
    assert len(set(expected)) >= 3
    np.testing.assert_array_equal(drawn.limits, expected)
    changes = teacher(along(x, drawn, expected)) - teacher(x)
    np.testing.assert_allclose(drawn.changes, changes, rtol=0.0, atol=2e-6)


def test_limits_grow_with_the_tolerance():
    teacher, x = mlp(1, 16, 16), points(64)
    limits = np.stack(
        [
            LinearRegion(teacher, tolerance).draw(x, [0, 0]).limits.numpy()
            for tolerance in (0.01, 0.05, 0.1, 0.3, 1.0)
        ]
    )
    assert (np.diff(limits, axis=0) >= 0.0).all()
    assert (np.diff(limits.mean(axis=1)) > 0.0).all()


def convnet():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )


@pytest.mark.covering
@pytest.mark.parametrize("radius", [1.0, 0.1])
@pytest.mark.parametrize("kind", ["dense", "images", "uint8"])
def test_without_tolerance_the_limit_is_the_linear_radius(kind, radius):
    teacher = mlp(1, 8, 8) if kind == "dense" else convnet()
    numbers = np.random.default_rng(0).uniform(size=(16, 4) if kind == "dense" else (16, 6, 6, 1))
    x = (255 * numbers).astype("uint8") if kind == "uint8" else numbers.astype("float32")
    region = LinearRegion(teacher, 0.0, radius=radius)
    drawn = region.draw(x, [5, 6])
    floats = x.astype("float32")
    exact = geometry.linear_radius(teacher, floats, partners_of(floats, drawn) - floats)
    expected = np.minimum(exact, radius)
    assert 0.0 < expected.min() < radius
    np.testing.assert_allclose(drawn.limits, expected, rtol=1e-6)
    outputs = teacher(floats).numpy()
    atol = 2e-6 * np.abs(outputs).max()
    at_limit = teacher(along(floats, drawn, expected))
    np.testing.assert_allclose(outputs + drawn.changes, at_limit, rtol=0.0, atol=atol)
    targets = region.targets(outputs, drawn)
    np.testing.assert_allclose(targets, teacher(region.apply(x, drawn)), rtol=0.0, atol=atol)


def test_targets_are_as_close_as_the_tolerance_where_plain_interpolation_is_not():
    teacher, x = mlp(1, 32, 32), 3.0 * points(256)
    region = LinearRegion(teacher, 0.1)
    drawn = region.draw(x, [0, 0])
    moved = np.flatnonzero(drawn.limits.numpy() > 0.0)
    exact = teacher(region.apply(x, drawn)).numpy()
    change = np.linalg.norm(drawn.changes, axis=-1)
    # Between the places that were looked at, the departure may be somewhat larger.
    error = np.linalg.norm(region.targets(teacher(x), drawn) - exact, axis=-1)
    assert len(moved) > 128 and (error[moved] <= 0.2 * change[moved]).all()
    plain = np.linalg.norm(region.apply(teacher(x), drawn) - exact, axis=-1)
    assert plain.sum() > 3.0 * error.sum()


def test_all_inputs_of_a_teacher_move_together():
    symbols = {name: keras.Input((size,), name=name) for name, size in (("a", 2), ("b", 3))}
    hidden = keras.layers.Concatenate()([symbols["a"], symbols["b"]])
    hidden = keras.layers.Dense(16, "relu")(hidden)
    teacher = keras.Model(symbols, keras.layers.Dense(CLASSES)(hidden))
    joined = keras.Sequential([keras.Input((5,)), *teacher.layers[-2:]])
    x = points(16, 5)
    parts = {"a": x[:, :2], "b": x[:, 2:]}
    actual, expected = (
        LinearRegion(model, 0.05).draw(data, [0, 0])
        for model, data in ((teacher, parts), (joined, x))
    )
    assert len(set(expected.limits.numpy())) >= 3
    np.testing.assert_array_equal(actual.limits, expected.limits)


def test_outputs_that_do_not_change_count_as_linear():
    teacher = mlp(1, 8)
    teacher.layers[0].set_weights([np.zeros((4, 8)), np.full(8, 0.3)])
    drawn = LinearRegion(teacher, 1e-3).draw(points(), [0, 0])
    np.testing.assert_array_equal(drawn.limits, np.ones(8))


# As a region.


@pytest.mark.covering
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_graphs_and_xla_agree_with_eager_mode(tolerance, jit_compile):
    teacher, x = mlp(1, 16, 16), points(32)
    region = LinearRegion(teacher, tolerance, partner="nearest")
    draw = tf.function(region.draw, jit_compile=jit_compile)
    for actual, expected in zip(draw(x, [7, 8]), region.draw(x, [7, 8]), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_the_radius_can_be_set_without_a_new_trace(tolerance):
    teacher, x = absolute_value(), tf.constant([[-1.0], [3.0]])
    region = LinearRegion(teacher, tolerance)
    draw = tf.function(region.draw)
    draw(x, [0, 0])
    region.radius = 0.2
    np.testing.assert_allclose(draw(x, [0, 0]).limits, [0.2, 0.2], rtol=1e-6)
    assert draw.experimental_get_tracing_count() == 1


def test_the_boundary_is_at_the_limit():
    teacher, x = mlp(1, 16), points(16)
    region = LinearRegion(teacher, 0.05)
    drawn = region.draw(x, [0, 0])
    limits = drawn.limits.numpy()
    assert (drawn.lam.numpy()[:, 0] <= limits).all()
    for fraction in (0.5, np.linspace(0.0, 1.0, 16, dtype="float32")):
        edge = region.at_fraction(drawn, fraction)
        np.testing.assert_allclose(edge.lam[:, 0], fraction * limits, rtol=1e-6)
        expected = along(x, drawn, fraction * limits)
        np.testing.assert_allclose(region.apply(x, edge), expected, rtol=0.0, atol=1e-6)
    profile = geometry.fidelity_profile(teacher, teacher, x, region)
    np.testing.assert_array_equal(profile.agreement, np.ones(5))


def test_the_config_holds_no_teacher():
    region = LinearRegion(mlp(1, 8), 0.2, 0.8, "nearest", 0.5, (0.4,), 2)
    config = keras.saving.serialize_keras_object(region)
    loaded = keras.saving.deserialize_keras_object(config)
    assert loaded.get_config() == region.get_config()
    with pytest.raises(ValueError, match=r"no teacher.*`region.set_teacher\(teacher\)`"):
        loaded.draw(points(), [0, 0])
    loaded.set_teacher(mlp(1, 8))
    loaded.set_teacher(mlp(2, 8))  # keeps the first
    for actual, expected in zip(
        loaded.draw(points(), [0, 0]), region.draw(points(), [0, 0]), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def model_with(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


def test_a_mixture_passes_the_teacher_on():
    mixture = regions.Mixture([LinearRegion(None), LinearRegion(None, tolerance=0.2)])
    x = points()
    with pytest.raises(ValueError, match="no teacher"):
        mixture.draw(x, [0, 0])
    mixture.set_teacher(mlp(1, 8))
    assert mixture.apply(x, mixture.draw(x, [0, 0])).shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": -0.1}, "`tolerance` must be a finite number not below 0.*-0.1"),
        ({"tolerance": np.nan}, "`tolerance` must be"),
        ({"tolerance": "small"}, "`tolerance` must be"),
        ({"radius": 1.5}, "`radius` must be.*1.5"),
        ({"partner": "far"}, "`partner` must be one of.*'far'"),
        ({"fractions": (0.5, 1.0)}, "`fractions` must be numbers between 0 and 1"),
        ({"fractions": ()}, "`fractions` must be"),
        ({"fractions": None}, "`fractions` must be"),
        ({"num_halvings": -1}, "`num_halvings` must be an integer of at least 0.*-1"),
        ({"num_halvings": 1.5}, "`num_halvings` must be"),
        ({"teacher": "model"}, "`teacher` must be a keras.Model"),
        ({"teacher": keras.Sequential([keras.layers.Dense(3)])}, "`teacher` must be.*unbuilt"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearRegion(**({"teacher": None} | arguments))


@pytest.mark.parametrize(
    ("layers", "tolerance", "message"),
    [
        ((keras.layers.Softmax(),), 0.1, "`teacher` must output logits.*softmax"),
        ((keras.layers.Dense(3, "tanh"),), 0.0, "`tolerance=0` needs.*piecewise linear.*tanh"),
    ],
)
def test_teachers_that_cannot_be_used(layers, tolerance, message):
    with pytest.raises(ValueError, match=message):
        LinearRegion(model_with(*layers), tolerance)


def test_exactness_needs_one_input():
    symbols = [keras.Input((2,)), keras.Input((2,))]
    teacher = keras.Model(symbols, keras.layers.Add()(symbols))
    with pytest.raises(ValueError, match="`tolerance=0` needs.*2 inputs"):
        LinearRegion(teacher, 0.0)
