"""Regions that end where the teacher bends, and the ranking of regions by the teacher alone."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, geometry, regions
from l2rkd_tf.geometry import rank_regions, region_ranking
from l2rkd_tf.regions import LinearRegion
from tests.strategies import two_replicas

CLASSES = 3


def mlp(seed, *widths, inputs=4, outputs=CLASSES):
    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(width, "relu", bias_initializer="random_normal") for width in widths
    ]
    return keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(outputs)])


def absolute_value():
    """`|x|`, as `relu(x) + relu(-x)`."""
    model = mlp(0, 2, inputs=1, outputs=1)
    weights = [[[1.0, -1.0]], [0.0, 0.0], [[1.0], [1.0]], [0.0]]
    model.set_weights([np.array(weight) for weight in weights])
    return model


def points(count=8, size=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype("float32")


def partners_of(x, drawn):
    return np.asarray(x)[drawn.partners.numpy()[:, 0]]


def along(x, drawn, shares):
    shares = np.asarray(shares).reshape(-1, *[1] * (np.ndim(x) - 1))
    return (x + shares * (partners_of(x, drawn) - x)).astype("float32")


# How far.


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
def test_a_linear_teacher_leaves_the_segment_as_it_is(tolerance):
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


def test_the_edge_is_at_the_limit():
    teacher, x = mlp(1, 16), points(16)
    region = LinearRegion(teacher, 0.05)
    drawn = region.draw(x, [0, 0])
    limits = drawn.limits.numpy()
    assert (drawn.lam.numpy()[:, 0] <= limits).all()
    for fraction in (0.5, np.linspace(0.0, 1.0, 16, dtype="float32")):
        edge = region.at_fraction(drawn, fraction)
        np.testing.assert_allclose(edge.weights[:, 0], fraction * limits, rtol=1e-6)
        expected = along(x, drawn, fraction * limits)
        np.testing.assert_allclose(region.apply(x, edge), expected, rtol=0.0, atol=1e-6)
    profile = geometry.fidelity_profile(teacher, teacher, x, region)
    np.testing.assert_array_equal(profile.agreement, np.ones(5))


def test_the_config_holds_no_teacher():
    region = LinearRegion(mlp(1, 8), 0.2, 0.8, "nearest", 0.5, (0.4,), 2)
    config = keras.saving.serialize_keras_object(region)
    loaded = keras.saving.deserialize_keras_object(config)
    assert loaded.get_config() == region.get_config()
    with pytest.raises(ValueError, match=r"no teacher.*`region.bind\(teacher\)`"):
        loaded.draw(points(), [0, 0])
    loaded.set_teacher(mlp(1, 8))
    loaded.set_teacher(mlp(2, 8))  # keeps the first
    for actual, expected in zip(
        loaded.draw(points(), [0, 0]), region.draw(points(), [0, 0]), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def model_with(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


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
        ((keras.layers.Softmax(),), 0.1, "`teacher` must give logits.*softmax"),
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


# In a distiller.


def distiller(teacher, region, steps_per_execution=2, **options):
    model = L2RKDDistiller(teacher, mlp(5, 6), region=region, seed=3, **options)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return model


def fit(model, epochs=2):
    data = tf.data.Dataset.from_tensor_slices((points(32), np.arange(32) % CLASSES)).batch(8)
    return model.fit(data, epochs=epochs, verbose=0).history


@pytest.mark.parametrize(("tolerance", "region_targets"), [(0.0, "interpolated"), (0.1, "teacher")])
def test_training_repeats_with_its_seed(tolerance, region_targets):
    teacher = mlp(1, 8, 8)
    before = teacher.get_weights()
    runs = [
        distiller(teacher, LinearRegion(teacher, tolerance), region_targets=region_targets)
        for _ in range(2)
    ]
    histories = [fit(run) for run in runs]
    assert histories[0] == histories[1]
    assert histories[0]["loss"][1] < histories[0]["loss"][0]
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("tolerance", "options"),
    [
        (0.0, {"region_targets": "interpolated", "num_region_points": 2}),
        (0.1, {"region_targets": "interpolated"}),
        (0.1, {"region_targets": "teacher", "replace_fraction": 0.5}),
    ],
)
def test_a_linear_teacher_trains_as_with_a_segment(tolerance, options):
    teacher = mlp(1)
    expected = fit(distiller(teacher, regions.Segment(), **options | {"region_targets": "teacher"}))
    actual = fit(distiller(teacher, LinearRegion(teacher, tolerance), **options))
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-5)


@pytest.mark.parametrize("wrap", [lambda region: region, lambda region: regions.Mixture([region])])
def test_interpolated_targets_are_the_teachers_own_within_its_linear_regions(wrap):
    teacher = mlp(1, 8, 8)
    asked, interpolated = (
        fit(distiller(teacher, wrap(LinearRegion(teacher, 0.0)), region_targets=targets))
        for targets in ("teacher", "interpolated")
    )
    np.testing.assert_allclose(interpolated["region_loss"], asked["region_loss"], rtol=1e-4)


def test_the_first_region_loss_by_hand():
    teacher = mlp(1, 8, 8)
    region, options = LinearRegion(teacher, 0.1), {"hard_weight": 0, "kd_weight": 0}
    model = distiller(teacher, region, **options, divergence="mse")
    drawn = []
    draw = region.draw
    region.draw = lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1]
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = points(16)
    logs = model.train_on_batch(x, return_dict=True)
    ((_, weights, limits, _),) = drawn
    moved = along(x, drawn[0], weights)
    expected = np.mean((teacher(moved) - model.student(moved)) ** 2)
    assert len(set(limits.numpy())) >= 3
    np.testing.assert_allclose(logs["region_loss"], expected, rtol=1e-5)


def test_the_radius_of_a_distiller_is_set_between_epochs():
    teacher = mlp(1, 8, 8)
    region = LinearRegion(teacher)
    model = distiller(teacher, region, hard_weight=0)
    fit(model, epochs=1)
    region.radius = 1e-6
    logs = fit(model, epochs=1)
    # The points no longer leave their examples: both terms compare at the same points.
    np.testing.assert_allclose(logs["region_loss"], logs["kd_loss"], rtol=1e-4)


def test_checkpoints_hold_no_teacher(tmp_path):
    teacher = mlp(1, 300)
    model = distiller(teacher, LinearRegion(teacher, 0.0))
    fit(model, epochs=1)
    model.save_weights(tmp_path / "distiller.weights.h5")
    tf.train.Checkpoint(model).save(os.fspath(tmp_path / "checkpoint"))
    variables = tf.train.list_variables(os.fspath(tmp_path))
    assert max(np.prod(shape, initial=1) for _, shape in variables[1:]) < 300
    assert os.path.getsize(tmp_path / "distiller.weights.h5") < 40_000


def test_a_saved_distiller_trains_on_with_its_own_teacher(tmp_path):
    teacher = mlp(1, 8, 8)
    model = distiller(teacher, LinearRegion(teacher, 0.0))
    fit(model, epochs=1)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert fit(loaded, epochs=1) == fit(model, epochs=1)


def test_training_on_several_replicas():
    with two_replicas().scope():
        teacher = mlp(1, 8, 8)
        model = distiller(teacher, LinearRegion(teacher, 0.0), steps_per_execution=1)
    history = fit(model)
    assert history["loss"][1] < history["loss"][0]


# Which region.


class Mirror(regions.Region):
    """Goes to the other side of the origin: the mean over both sides is always 1/2."""

    def draw(self, inputs, seed, labels=None):
        return -tf.ones(())

    def apply(self, tensor, coefficients):
        return tensor * coefficients


class Stay(Mirror):
    """Repeats the example."""

    def draw(self, inputs, seed, labels=None):
        return tf.ones(())


def sigmoid_teacher():
    """Probabilities `(s(x), s(-x))`."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[0.5, -0.5]])])
    return model


def test_a_region_that_adds_what_the_data_lack_is_ranked_first(capsys):
    x = points(200, 1)
    teacher, options = sigmoid_teacher(), {"num_draws": 20, "num_points": 50, "seed": 4}
    candidates = [Stay(), regions.Segment(0.5), Mirror()]
    ranking = rank_regions(teacher, x, candidates, **options)
    assert ranking[0].region is candidates[2]
    assert ranking[0].score < 1e-6 < 0.01 < ranking[1].score
    scores = [geometry.teacher_stddev(teacher, x, entry.region, **options) for entry in ranking]
    assert [entry.score for entry in ranking] == scores == sorted(scores)
    assert [entry.radius for entry in ranking] == [entry.region.radius for entry in ranking]
    gaps = {entry.region: entry.linearity_gap for entry in ranking}
    assert gaps[candidates[1]] < 1e-5 and np.isnan(gaps[candidates[0]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["region", "radius", "T.", "stddev", "linearity", "gap"]
    for line, entry in zip(lines[1:4], ranking, strict=True):
        assert line.startswith(repr(entry.region))
        assert line.split()[-2] == f"{entry.score:.5f}"


def test_the_linearity_gap_is_that_on_the_way_to_the_region_points():
    x = points(200)
    teacher = mlp(1, 16)
    (entry,) = rank_regions(teacher, x, Mirror(), num_draws=2, verbose=False)
    expected = geometry.linearity_gap(teacher, x, -x).relative.mean()
    np.testing.assert_allclose(entry.linearity_gap, expected, rtol=1e-6)


def test_nothing_is_printed_unless_asked(capsys):
    rank_regions(mlp(1), points(), [regions.Segment()], num_draws=2, verbose=False)
    assert capsys.readouterr().out == ""


FLAT = geometry.LinearityGap(*5 * [np.zeros(1)])


@pytest.mark.parametrize("shape", [(4,), (8, 8, 1), (3, 8, 1)])
def test_default_candidates_fit_the_data(shape, monkeypatch):
    monkeypatch.setattr(region_ranking, "teacher_stddev", lambda *_, **options: 0.0)
    monkeypatch.setattr(region_ranking, "linearity_gap", lambda *_, **options: FLAT)
    x = np.random.default_rng(0).normal(scale=2.0, size=(256, *shape)).astype("float32")
    teacher = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    ranking = rank_regions(teacher, x, num_draws=2, num_points=128, verbose=False)
    found = sorted((type(entry.region).__name__, entry.radius) for entry in ranking)
    balls, others = [f for f in found if f[0] == "Ball"], [f for f in found if f[0] != "Ball"]
    patches = {(4,): [], (8, 8, 1): [0.5, 1.0, 1.0], (3, 8, 1): [1.0]}[shape]
    assert others == [
        *(("Patch", radius) for radius in patches),
        *(("Segment", radius) for radius in (0.5, 1.0, 1.0)),
        ("Simplex", 1.0),
    ]
    expected = np.outer([0.1, 0.3], np.sqrt(x.var(axis=0).mean()))[:, 0]
    np.testing.assert_allclose([radius for _, radius in balls], expected, rtol=0.01)


def test_labels_come_with_a_data_set_or_beside_arrays():
    x, y = points(64), np.arange(64) % CLASSES
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    teacher, region = mlp(1, 8), regions.Segment(partner="same_class")
    options = {"num_draws": 3, "num_points": 16, "verbose": False}
    of_dataset = rank_regions(teacher, dataset, [region], **options)
    assert of_dataset == rank_regions(teacher, x, [region], labels=y, **options)
    with pytest.raises(ValueError, match="needs labels"):
        rank_regions(teacher, x, [region], **options)


def test_rankings_repeat_with_their_seed(capsys):
    teacher, x = mlp(1, 8), points(300)
    region = regions.Mixture([regions.Segment()])
    options = {"num_draws": 2, "num_points": 64}  # of more examples than the draws use
    first, again, other = (
        rank_regions(teacher, x, [region], seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0].score != other[0].score
    assert first[0].radius == (1.0,) and "mixed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": None}, "`teacher` must be a keras.Model"),
        ({"regions": []}, "`regions` must hold at least one region"),
        ({"regions": 3}, "`regions` must hold at least one region.*regions=3"),
        ({"regions": ["segment"]}, "`region` must be a l2rkd_tf.regions.Region.*'segment'"),
        ({"num_draws": 1}, "`num_draws` must be an integer of at least 2.*num_draws=1"),
        ({"num_points": 0}, "`num_points` must be an integer of at least 1.*num_points=0"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"data": np.zeros((0, 4), "float32")}, "`x` must be arrays"),
    ],
)
def test_wrong_arguments_of_the_ranking(arguments, message):
    teacher = arguments.pop("teacher") if "teacher" in arguments else mlp(1)
    data = arguments.pop("data") if "data" in arguments else points()
    with pytest.raises(ValueError, match=message):
        rank_regions(teacher, data, **arguments)
