import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Ball, Mixture, Patch, Region, Segment, Simplex, default_region
from l2rkd_tf.regions.points import draw_points
from tests import reference_losses as reference

SHAPES = [(6, 5), (6, 4, 3), (6, 9, 7, 2), (6, 3, 4, 5, 2)]
DTYPES = ["float16", "bfloat16", "float32", "float64", "uint8"]
IMAGES = (6, 9, 7, 2)
# Every rank in float32, and every dtype for images.
BATCHES = [(shape, "float32") for shape in SHAPES] + [
    (IMAGES, dtype) for dtype in DTYPES if dtype != "float32"
]
# Rounding of one result to the dtype; for uint8 that of float32, relative to 255.
PRECISION = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-12, "uint8": 1e-6}
LABELS = np.array([0, 1, 0, 2, 1, 0])

IN_BATCH = {
    "segment": lambda: Segment(radius=0.7),
    "segment_nearest": lambda: Segment(partner="nearest"),
    "segment_same_class": lambda: Segment(partner="same_class"),
    "segment_beta": lambda: Segment(radius=0.5, alpha=0.2),
    "simplex": lambda: Simplex(num_partners=3, radius=0.8),
    "patch": lambda: Patch(grid=(4, 3), radius=0.9),
    "patch_nearest": lambda: Patch(grid=2, partner="nearest", alpha=4),
}
BALLS = {norm: lambda norm=norm: Ball(0.2, norm) for norm in ("l2", "linf", "gaussian")}
MIXTURES = {
    "mixture": lambda: Mixture([Segment(0.5), Patch(2), Simplex(2)], weights=[1, 2, 3]),
    "mixture_of_mixtures": lambda: Mixture([Mixture([Segment(), Ball(0.1)]), Ball(0.2, "linf")]),
}
ALL = IN_BATCH | BALLS | MIXTURES


class Towards(Region):
    """A user's own region: every example goes a part of the way to the one before it."""

    def draw(self, inputs, seed, labels=None):
        del labels
        batch = tf.shape(keras.tree.flatten(inputs)[0])[0]
        return self.radius_variable * tf.cast(tf.random.stateless_uniform([batch], seed), "float32")

    def apply(self, tensor, coefficients):
        share = tf.reshape(coefficients, [-1] + [1] * (tensor.shape.rank - 1))
        return tensor + share * (tf.roll(tensor, 1, axis=0) - tensor)


def points(shape=IMAGES, dtype="float32", seed=0):
    numbers = np.random.default_rng(seed).uniform(size=shape)
    return tf.cast(255 * numbers if dtype == "uint8" else numbers, dtype)


def in_float64(tensor):
    return tf.cast(tensor, tf.float64).numpy()


def draw(region, x, seed=(1, 2), labels=None):
    return region.draw(x, list(seed), LABELS[: x.shape[0]] if labels is None else labels)


def weights_of_many(region, batch=20000, dimension=1):
    return region.draw(tf.zeros((batch, dimension)), [3, 4]).lam.numpy()


def partners_of_many(region, x, labels=None, draws=3000):
    """Partners in many draws, shape `(draws, batch, num_partners)`."""

    @tf.function
    def many():
        return tf.map_fn(lambda step: region.draw(x, [5, step], labels).partners, tf.range(draws))

    return many().numpy()


def assert_same(first, second, tolerance=0.0):
    for one, other in zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def is_exact(region):
    """Whether a draw is made of integers, without functions that compilers may rearrange."""
    if isinstance(region, Mixture):
        return all(is_exact(member) for member in region.regions)
    return not isinstance(region, Ball) and region.get_config().get("alpha") is None


def differ(first, second):
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return any(not np.array_equal(one, other) for one, other in pairs)


# Points of a region.


@pytest.mark.parametrize(("shape", "dtype"), BATCHES)
@pytest.mark.parametrize("name", ["segment", "segment_beta", "simplex"])
def test_points_lie_between_an_example_and_its_partners(name, shape, dtype):
    region, x = IN_BATCH[name](), points(shape, dtype)
    coefficients = draw(region, x)
    partners, weights = (part.numpy() for part in coefficients)
    assert partners.shape == weights.shape == (6, 3 if name == "simplex" else 1)
    assert (weights >= 0.0).all() and (weights.sum(axis=1) <= region.radius).all()
    assert not (partners == np.arange(6)[:, None]).any()
    moved = region.apply(x, coefficients)
    assert moved.dtype == ("float32" if dtype == "uint8" else dtype)
    assert moved.shape == x.shape
    expected = reference.move(in_float64(x), partners, weights)
    tolerance = PRECISION[dtype] * (255 if dtype == "uint8" else 1)
    np.testing.assert_allclose(in_float64(moved), expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize(
    ("grid", "dtype"),
    [
        *((grid, "float32") for grid in (1, 2, (9, 7), (5, 3), (1, 6))),
        *((4, dtype) for dtype in DTYPES),
    ],
)
def test_patch_points_have_one_share_per_cell_and_lie_in_the_box(grid, dtype):
    region, x = Patch(grid=grid, radius=0.9), points(IMAGES, dtype)
    coefficients = draw(region, x)
    partners, weights = (part.numpy() for part in coefficients)
    assert weights.shape == (6, 1, *region.grid)
    assert (weights >= 0.0).all() and (weights <= 0.9).all()
    moved = in_float64(region.apply(x, coefficients))
    start, end = in_float64(x), in_float64(x)[partners[:, 0]]
    tolerance = PRECISION[dtype] * (255 if dtype == "uint8" else 1)
    assert (moved >= np.minimum(start, end) - tolerance).all()
    assert (moved <= np.maximum(start, end) + tolerance).all()
    np.testing.assert_allclose(
        moved, reference.move(start, partners, weights), rtol=0.0, atol=tolerance
    )


@pytest.mark.parametrize("size", [8, 9, 10, 11, 28, 29])
def test_patch_cells_differ_by_at_most_one_pixel(size):
    region, x = Patch(grid=4), tf.reshape([0.0, 1.0], (2, 1, 1, 1)) * tf.ones((1, size, size, 1))
    moved = region.apply(x, region.draw(x, [0, 0])).numpy()[0, :, :, 0]
    for line in (moved[:, 0], moved[0]):
        cells, pixels = np.unique(line, return_counts=True)
        assert len(cells) == 4
        assert pixels.max() - pixels.min() <= 1


@pytest.mark.parametrize(("shape", "dtype"), BATCHES)
@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf)])
def test_ball_points_lie_in_the_ball(norm, order, shape, dtype):
    region, x = Ball(0.5, norm), points(shape, dtype)
    moved = region.apply(x, region.draw(x, [1, 2]))
    assert moved.dtype == ("float32" if dtype == "uint8" else dtype)
    noise = (in_float64(moved) - in_float64(x)).reshape(6, -1)
    length = np.linalg.norm(noise, order, axis=1)
    rounding = 2 * PRECISION[dtype] * (255 if dtype == "uint8" else np.sqrt(noise.shape[1]))
    assert (length <= 0.5 + rounding).all()
    assert (length > 0.05).all()


@pytest.mark.parametrize("make", MIXTURES.values(), ids=MIXTURES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_each_example_of_a_mixture_obeys_the_region_it_drew(make, dtype):
    region, x = make(), points(IMAGES, dtype)
    drawn = draw(region, x)
    choice, coefficients = drawn
    moved = region.apply(x, drawn)
    candidates = [
        member.apply(x, drawn) for member, drawn in zip(region.regions, coefficients, strict=True)
    ]
    assert len(set(choice.numpy())) > 1
    for row, chosen in enumerate(choice.numpy()):
        np.testing.assert_array_equal(in_float64(moved[row]), in_float64(candidates[chosen][row]))


def test_members_of_a_mixture_are_drawn_with_their_weights():
    region = Mixture([Segment(), Segment(), Ball(1.0), Segment()], weights=[1, 0, 5, 2])
    choice = region.draw(tf.zeros((20000, 1)), [0, 0]).choice.numpy()
    frequencies = np.bincount(choice, minlength=4) / 20000
    np.testing.assert_allclose(frequencies, [0.125, 0.0, 0.625, 0.25], atol=0.012)
    assert frequencies[1] == 0.0


def test_members_of_a_mixture_draw_independently():
    region = Mixture([Segment(), Segment()])
    first, second = region.draw(tf.zeros((5000, 1)), [0, 0]).coefficients
    correlation = np.corrcoef(first.weights[:, 0], second.weights[:, 0])[0, 1]
    assert abs(correlation) < 0.05


# `apply`.


@pytest.mark.parametrize("num_partners", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
def test_apply_moves_by_given_coefficients(shape, num_partners):
    generator = np.random.default_rng(0)
    partners = generator.integers(0, 6, size=(6, num_partners)).astype("int32")
    weights = generator.uniform(size=(6, num_partners)).astype("float32")
    x = points(shape)
    moved = Simplex().apply(x, (tf.constant(partners), tf.constant(weights)))
    np.testing.assert_allclose(moved, reference.move(x, partners, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cells", [(1, 1), (2, 3), (4, 4), (9, 7)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
def test_apply_moves_images_by_cell_and_all_else_by_the_mean(shape, cells):
    generator = np.random.default_rng(0)
    partners = generator.integers(0, 6, size=(6, 1)).astype("int32")
    weights = generator.uniform(size=(6, 1, *cells)).astype("float32")
    x = points(shape)
    moved = Patch().apply(x, (tf.constant(partners), tf.constant(weights)))
    np.testing.assert_allclose(moved, reference.move(x, partners, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*IN_BATCH, "mixture"])
@pytest.mark.parametrize("logits", [False, True], ids=["inputs", "logits"])
def test_apply_is_linear_in_the_tensor(name, logits):
    region = ALL[name]()
    coefficients = draw(region, points())
    shape = (6, 4) if logits else IMAGES
    first, second = points(shape, "float64", seed=1), points(shape, "float64", seed=2)
    combined = region.apply(2.5 * first - 0.75 * second, coefficients)
    separate = 2.5 * region.apply(first, coefficients) - 0.75 * region.apply(second, coefficients)
    np.testing.assert_allclose(combined, separate, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("name", [*IN_BATCH, "mixture"])
def test_apply_keeps_one_hot_labels_a_distribution(name):
    region = ALL[name]()
    moved = region.apply(np.eye(3)[LABELS], draw(region, points())).numpy()
    assert (moved >= 0.0).all()
    np.testing.assert_allclose(moved.sum(axis=1), np.ones(6), rtol=1e-6)


@pytest.mark.parametrize("make", [list, lambda leaves: dict(zip("ba", leaves, strict=True))])
@pytest.mark.parametrize("name", [*IN_BATCH, "mixture"])
def test_lists_and_dicts_move_leaf_by_leaf_with_one_draw(name, make):
    region, leaves = ALL[name](), [points(), points((6, 3))]
    inputs = make(leaves)
    coefficients = region.draw(inputs, [0, 0], LABELS)
    moved = region.apply(inputs, coefficients)
    expected = make([region.apply(leaf, coefficients) for leaf in leaves])
    assert type(moved) is type(inputs)
    assert_same(moved, expected)
    assert differ(moved, inputs)


def test_each_of_several_inputs_has_a_ball_of_its_own():
    inputs = {"a": tf.zeros((6, 3)), "b": tf.zeros((6, 3))}
    region = Ball(0.1)
    moved = region.apply(inputs, region.draw(inputs, [0, 0]))
    assert not np.isclose(moved["a"], moved["b"]).any()
    assert (np.linalg.norm(moved["a"], axis=1) <= 0.1 + 1e-6).all()


@pytest.mark.parametrize("name", ["segment", "simplex", "patch", *BALLS, "mixture"])
def test_uint8_images_do_not_wrap_around(name):
    region, x = ALL[name](), points(dtype="uint8")
    coefficients = draw(region, x)
    moved = region.apply(x, coefficients)
    np.testing.assert_array_equal(moved, region.apply(tf.cast(x, tf.float32), coefficients))
    assert moved.dtype == tf.float32


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["segment", "simplex", "patch", "l2"])
def test_half_precision_is_rounded_once_at_the_end(name, dtype):
    region, x = ALL[name](), points(dtype=dtype)
    coefficients = draw(region, x)
    expected = tf.cast(region.apply(tf.cast(x, tf.float32), coefficients), dtype)
    np.testing.assert_array_equal(region.apply(x, coefficients), expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "int32") for name in ALL] + [("segment", dtype) for dtype in ("int64", "bool", "int8")],
)
def test_integers_and_booleans_are_refused(name, dtype):
    x = tf.cast(points(dtype="uint8"), dtype)
    with pytest.raises(ValueError, match=f"`inputs` must be floating-point.*dtype {dtype}"):
        draw(ALL[name](), x)


@pytest.mark.parametrize("shape", [(6, 4), (6, 9, 7)])
def test_a_ball_has_no_map_for_logits(shape):
    region, x = Ball(0.1), points()
    with pytest.raises(ValueError, match=r"maps inputs only.*region_targets='teacher'"):
        region.apply(tf.zeros(shape), region.draw(x, [0, 0]))


# `draw`.


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_draws_are_the_same_in_eager_mode_graph_and_xla(make):
    region = make()

    def step(x, seed, labels):
        coefficients = region.draw(x, seed, labels)
        return coefficients, region.apply(x, coefficients)

    signature = [
        tf.TensorSpec((None, *IMAGES[1:]), tf.float32),
        tf.TensorSpec((2,), tf.int32),
        tf.TensorSpec((None,), tf.int64),
    ]
    arguments = (points(), tf.constant([1, 2]), tf.constant(LABELS))
    coefficients, moved = step(*arguments)
    for compiled in (False, True):
        run = tf.function(step, input_signature=signature, jit_compile=compiled)
        other_coefficients, other_moved = run(*arguments)
        assert_same(coefficients, other_coefficients, 0.0 if is_exact(region) else 1e-6)
        np.testing.assert_allclose(moved, other_moved, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_draws_repeat_with_the_seed_and_differ_between_seeds(make):
    region, x = make(), points()
    assert_same(draw(region, x, (1, 2)), draw(region, x, (1, 2)))
    assert differ(draw(region, x, (1, 2)), draw(region, x, (1, 3)))
    assert differ(draw(region, x, (1, 2)), draw(region, x, (2, 2)))


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
@pytest.mark.parametrize("batch", [0, 1], ids=["empty", "one"])
def test_batches_without_a_partner_are_possible(make, batch):
    # A replica that has no part in the last batch of an epoch is given an empty one.
    region, x = make(), points()[:batch]
    moved = region.apply(x, draw(region, x))
    assert moved.shape == x.shape
    if region.interpolates_targets:
        np.testing.assert_array_equal(moved, x)


@pytest.mark.parametrize("batch", [2, 3, 6])
@pytest.mark.parametrize(
    "region",
    [Segment(), Segment(partner="nearest"), Patch(2), *(Simplex(m) for m in (1, 2, 5, 8))],
    ids=repr,
)
def test_an_example_is_never_its_own_partner(region, batch):
    partners = partners_of_many(region, points()[:batch], draws=200)
    assert ((partners >= 0) & (partners < batch)).all()
    assert not (partners == np.arange(batch)[None, :, None]).any()


@pytest.mark.parametrize("num_partners", [2, 3, 5])
def test_partners_of_a_simplex_are_distinct_where_the_batch_allows(num_partners):
    partners = np.sort(partners_of_many(Simplex(num_partners), points(), draws=300), axis=-1)
    assert (np.diff(partners, axis=-1) > 0).all()


def test_a_simplex_larger_than_the_batch_uses_all_other_examples():
    partners = partners_of_many(Simplex(num_partners=7), points()[:4], draws=50)
    for row in range(4):
        assert set(partners[:, row].ravel()) == set(range(4)) - {row}


@pytest.mark.parametrize("kind", ["normal", "offset", "one_scale_large", "clusters", "duplicates"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nearest_partner_equals_brute_force(kind, dtype):
    x = np.random.default_rng(0).normal(size=(20, 3))
    x += {"offset": 1e3}.get(kind, 0.0)
    x *= [1.0, 1.0, 1e3] if kind == "one_scale_large" else 1.0
    x[10:] += 1e4 if kind == "clusters" else 0.0
    x[10:] = x[:10] if kind == "duplicates" else x[10:]
    x = x.astype(dtype)
    partners = Segment(partner="nearest").draw(x, [0, 0]).partners[:, 0]
    np.testing.assert_array_equal(partners, reference.nearest(x))


def test_nearest_partner_considers_all_inputs():
    x = [points((8, 3), seed=1), points((8, 2, 2), seed=2)]
    partners = Segment(partner="nearest").draw(x, [0, 0]).partners[:, 0]
    together = np.concatenate([np.reshape(leaf, (8, -1)) for leaf in x], axis=1)
    np.testing.assert_array_equal(partners, reference.nearest(together))


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.astype("uint8"), LABELS[:, None], np.eye(3)[LABELS], LABELS.astype("float32")],
    ids=["sparse", "uint8", "column", "one_hot", "float"],
)
def test_partners_of_the_same_class(labels):
    partners = partners_of_many(Segment(partner="same_class"), points(), labels, draws=900)[..., 0]
    others = {0: {2, 5}, 1: {4}, 2: {0, 5}, 3: {3}, 4: {1}, 5: {0, 2}}
    assert {row: set(partners[:, row]) for row in range(6)} == others
    for row, choices in others.items():
        frequencies = [np.mean(partners[:, row] == other) for other in choices]
        np.testing.assert_allclose(frequencies, 1.0 / len(choices), atol=0.05)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"partner='same_class'` needs labels.*partner='random'"),
        ({"a": LABELS}, r"partner='same_class'` needs labels.*partner='random'"),
        (np.zeros((6, 2, 2)), r"labels of shape \(batch,\).*Received.*\(6, 2, 2\)"),
    ],
)
def test_same_class_needs_labels_of_classes(labels, message):
    with pytest.raises(ValueError, match=message):
        Segment(partner="same_class").draw(points(), [0, 0], labels)


# Distributions. The bounds on the Kolmogorov-Smirnov distance are at the level of 0.1 %.

SURE = 1.95


@pytest.mark.parametrize("radius", [0.25, 1.0])
@pytest.mark.parametrize("make", [Segment, Patch], ids=["segment", "patch"])
def test_lambda_is_uniform(make, radius):
    x = tf.zeros((20000, 1) if make is Segment else (1250, 4, 4, 1))
    weights = make(radius=radius).draw(x, [3, 4]).lam.numpy() / radius
    assert weights.size == 20000
    np.testing.assert_allclose(weights.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(weights.var(), 1 / 12, atol=0.002)
    assert reference.ks_distance(weights, lambda x: x) < SURE / np.sqrt(weights.size)


def test_cells_of_a_patch_are_independent():
    weights = Patch(2).draw(tf.zeros((10000, 2, 2, 1)), [3, 4]).lam.numpy().reshape(-1, 4)
    np.testing.assert_allclose(np.corrcoef(weights.T), np.eye(4), atol=0.04)


@pytest.mark.parametrize("alpha", [0.2, 1, 4.0])
def test_concentration_gives_a_beta_distribution(alpha):
    weights = weights_of_many(Segment(radius=0.5, alpha=alpha)) / 0.5

    # Not beyond: float32 has no numbers closer to 1 than 6e-8, where Beta(0.2, 0.2) has 2 %.
    levels = np.linspace(0.001, 0.999, 999)
    parameter = np.full_like(levels, alpha)
    expected = tf.math.betainc(parameter, parameter, levels).numpy()
    observed = (weights <= levels).mean(axis=0)
    np.testing.assert_allclose(weights.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(weights.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.03)
    assert np.abs(observed - expected).max() < SURE / np.sqrt(weights.size)


@pytest.mark.parametrize("num_partners", [1, 2, 4])
def test_shares_of_a_simplex_are_uniform_on_it(num_partners):
    m, radius = num_partners, 0.5
    shares = weights_of_many(Simplex(m, radius)) / radius
    shares = np.concatenate([1.0 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    scale = 1.0 / ((m + 1) ** 2 * (m + 2))
    covariance = scale * ((m + 1) * np.eye(m + 1) - 1.0)
    np.testing.assert_allclose(shares.mean(axis=0), np.full(m + 1, 1 / (m + 1)), atol=0.01)
    np.testing.assert_allclose(np.cov(shares.T), covariance, atol=0.003)
    for share in shares.T:
        distance = reference.ks_distance(share, lambda x: 1.0 - (1.0 - x) ** m)
        assert distance < SURE / np.sqrt(share.size)


@pytest.mark.parametrize("region", [Segment(), Patch(2), Simplex(2)], ids=repr)
def test_partners_are_uniform_over_the_other_examples(region):
    partners = partners_of_many(region, points())
    for row in range(6):
        for column in range(partners.shape[2]):
            counts = np.bincount(partners[:, row, column], minlength=6) / len(partners)
            np.testing.assert_allclose(np.delete(counts, row), 0.2, atol=0.025)


def test_partners_of_different_examples_are_independent():
    partners = partners_of_many(Segment(), points())[..., 0]
    offsets = (partners - np.arange(6)) % 6
    np.testing.assert_allclose(np.corrcoef(offsets.T), np.eye(6), atol=0.07)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5)])
def test_l2_ball_is_uniform(shape):
    dimension = int(np.prod(shape))
    noise = Ball(0.5).draw(tf.zeros((20000, *shape)), [1, 1]).numpy().reshape(20000, -1) / 0.5
    length = np.linalg.norm(noise, axis=1)
    assert reference.ks_distance(length, lambda r: r**dimension) < SURE / np.sqrt(20000)
    np.testing.assert_allclose(noise.mean(axis=0), np.zeros(dimension), atol=0.02)
    covariance = np.eye(dimension) / (dimension + 2)
    np.testing.assert_allclose(np.cov(noise.T), covariance.squeeze(), atol=0.01)


@pytest.mark.parametrize(
    ("norm", "variance", "cumulative"),
    [
        ("linf", 1 / 3, lambda e: (e + 1.0) / 2.0),
        ("gaussian", 1.0, lambda e: 0.5 + 0.5 * tf.math.erf(e / np.sqrt(2.0)).numpy()),
    ],
)
def test_coordinates_of_noise_are_independent(norm, variance, cumulative):
    noise = Ball(0.5, norm).draw(tf.zeros((10000, 3)), [1, 1]).numpy() / 0.5
    np.testing.assert_allclose(np.cov(noise.T), variance * np.eye(3), atol=0.05)
    for coordinate in noise.T:
        assert reference.ks_distance(coordinate, cumulative) < SURE / np.sqrt(10000)


# Radius, configuration, images with channels first.


@pytest.mark.parametrize("make", (IN_BATCH | BALLS).values(), ids=IN_BATCH | BALLS)
def test_a_new_radius_takes_effect_without_a_new_trace(make):
    region, x, traces = make(), points(), []

    @tf.function
    def move():
        traces.append(1)
        return region.apply(x, region.draw(x, [1, 2], LABELS)) - x

    before = move().numpy()
    region.radius /= 2
    np.testing.assert_allclose(move().numpy(), before / 2, atol=1e-6)
    assert region.radius == make().radius / 2
    assert len(traces) == 1


@pytest.mark.parametrize("radius", [0, -0.1, 1.5, np.nan, np.inf, "1", True, None])
def test_a_wrong_radius_is_refused_and_changes_nothing(radius):
    region = Segment(0.5)
    with pytest.raises(ValueError, match=r"`radius` must be a finite number above 0 and at most 1"):
        region.radius = radius
    assert region.radius == 0.5
    assert region.radius_variable.numpy() == 0.5


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_configuration_survives_json(make):
    region = make()
    text = json.dumps(keras.saving.serialize_keras_object(region))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(region)
    assert copy.get_config() == region.get_config()
    assert repr(copy) == repr(region)
    assert_same(draw(copy, points()), draw(region, points()))


def test_configuration_follows_a_new_radius():
    region = Mixture([Segment(0.5), Ball(2.0)])
    region.regions[0].radius = 0.25
    copy = Mixture.from_config(region.get_config())
    assert copy.radius == (0.25, 2.0)
    assert copy.regions[0].radius_variable.numpy() == 0.25


def test_a_users_own_region_mixes_with_the_others():
    own, x = Towards(0.5), points((6, 3))
    region = Mixture([own, Segment(0.5)])
    choice, coefficients = region.draw(x, [2, 2])
    moved = region.apply(x, region.draw(x, [2, 2])).numpy()
    is_own = choice.numpy() == 0
    assert 0 < is_own.sum() < 6
    np.testing.assert_array_equal(moved[is_own], own.apply(x, coefficients[0]).numpy()[is_own])
    registered = keras.saving.register_keras_serializable("tests")(Towards)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(own))
    assert isinstance(copy, registered) and copy.radius == 0.5


def test_the_base_class_says_what_to_implement():
    with pytest.raises(NotImplementedError, match="Region must implement `draw`"):
        Region().draw(points(), [0, 0])
    with pytest.raises(NotImplementedError, match="Region must implement `apply`"):
        Region().apply(points(), None)


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("grid", [2, (4, 3), (9, 7)])
def test_patches_of_images_with_channels_first(channels_first, grid):
    region, x = Patch(grid), points((6, 2, 9, 7))
    coefficients = region.draw(x, [1, 2])
    expected = reference.move(np.moveaxis(x, 1, -1), *(part.numpy() for part in coefficients))
    moved = np.moveaxis(region.apply(x, coefficients), 1, -1)
    np.testing.assert_allclose(moved, expected, rtol=0.0, atol=1e-6)


def test_default_grid_of_images_with_channels_first(channels_first):
    assert default_region(tf.zeros((2, 1, 3, 8))).grid == (3, 4)


@pytest.mark.parametrize(
    ("inputs", "grid"),
    [
        (tf.zeros((2, 8, 8, 1)), (4, 4)),
        (tf.zeros((2, 3, 8, 1)), (3, 4)),
        (tf.zeros((2, 1, 1, 1)), (1, 1)),
        ({"image": tf.zeros((2, 8, 2, 3)), "age": tf.zeros((2, 1))}, (4, 2)),
        ([tf.zeros((2, 8, 2, 3)), tf.zeros((2, 3, 8, 3))], (3, 2)),
    ],
)
def test_default_region_of_images(inputs, grid):
    region = default_region(inputs)
    assert isinstance(region, Patch)
    assert region.get_config() == Patch(grid).get_config()
    moved = region.apply(inputs, region.draw(inputs, [0, 0]))
    assert_same(moved, inputs)  # all points are equal


@pytest.mark.parametrize("shape", [(None, None, 3), (8, None, 3)])
def test_default_region_of_symbolic_images(shape):
    assert default_region(keras.Input(shape)).grid == (4, 4)


@pytest.mark.parametrize(
    "inputs",
    [tf.zeros((2, 5)), tf.zeros((2, 5, 3)), tf.zeros((2, 3, 4, 4, 1)), {"a": tf.zeros((2, 5))}],
)
def test_default_region_of_other_inputs(inputs):
    region = default_region(inputs)
    assert type(region) is Segment
    assert region.get_config() == Segment().get_config()


# Region points of a batch.


def rows_of(batch):
    """A batch whose numbers are its rows."""
    return tf.range(batch, dtype=tf.float32)[:, None]


@pytest.mark.parametrize("num_points", [1, 3])
def test_points_beside_the_training_points(num_points):
    x, region = points((6, 3)), Segment()
    drawn = draw_points(region, x, [0, 1], num_points=num_points)
    near = drawn.at_region(x)
    np.testing.assert_array_equal(drawn.at_data(x), x)
    np.testing.assert_array_equal(drawn.of_owner(x), np.tile(x, (num_points, 1)))
    assert near.shape == (6 * num_points, 3)
    shift = (near - drawn.of_owner(x)).numpy().reshape(num_points, 6, 3)
    assert (np.abs(shift).max(axis=-1) > 0.0).all()
    assert len({tuple(one.ravel()) for one in shift}) == num_points


def test_points_of_a_structure_share_one_draw():
    x = {"a": points((6, 3)), "b": points((6, 3))}
    drawn = draw_points(Segment(), x, [0, 1], num_points=3)
    near = drawn.at_region(x)
    np.testing.assert_array_equal(near["a"], near["b"])
    np.testing.assert_array_equal(near["a"], drawn.at_region(x["a"]))


def number_moved(batch, fraction):
    return min(max(int(np.floor(batch * fraction + 0.5)), 1), batch - 1) if batch > 1 else 0


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_replacing_divides_the_batch(batch, fraction):
    x = rows_of(batch)
    drawn = draw_points(Segment(), x, [0, batch], replace_fraction=fraction)
    data, owners = drawn.at_data(x).numpy()[:, 0], drawn.of_owner(x).numpy()[:, 0]
    assert len(owners) == number_moved(batch, fraction)
    assert sorted([*data, *owners]) == list(range(batch))


@pytest.mark.parametrize("name", ["segment", "simplex", "patch", "l2", "mixture_of_mixtures"])
def test_replaced_points_are_those_of_their_owners(name):
    region, x = ALL[name](), points()
    drawn = draw_points(region, x, [0, 1], replace_fraction=0.5)
    owners = drawn.of_owner(rows_of(6)).numpy()[:, 0].astype(int)
    everywhere = draw_points(region, x, [0, 1]).at_region(x).numpy()
    np.testing.assert_array_equal(drawn.at_region(x), everywhere[owners])


def test_every_example_is_replaced_equally_often():
    x, region = rows_of(5), Segment()

    @tf.function
    def owners():
        def step(number):
            return draw_points(region, x, [0, number], replace_fraction=0.4).of_owner(x)

        return tf.map_fn(step, tf.range(2000), fn_output_signature=tf.float32)

    counts = np.bincount(owners().numpy().ravel().astype(int), minlength=5)
    np.testing.assert_allclose(counts / 2000, np.full(5, 0.4), atol=0.035)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    "arguments", [{"num_points": 3}, {"replace_fraction": 0.5}], ids=["beside", "replace"]
)
def test_points_of_batches_of_unknown_size(arguments, compiled):
    region = Segment()

    def split(x):
        drawn = draw_points(region, x, [0, 1], **arguments)
        return drawn.at_data(x), drawn.at_region(x), drawn.of_owner(x)

    run = tf.function(
        split, input_signature=[tf.TensorSpec((None, 2), tf.float32)], jit_compile=compiled
    )
    for batch in (1, 2, 7):
        x = points((batch, 2))
        assert_same(run(x), split(x), 1e-6)
