import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import (
    Ball,
    Coefficients,
    Mixture,
    MixtureCoefficients,
    Patch,
    Region,
    Segment,
    Simplex,
)
from tests.helpers import few
from tests.references import losses as reference

IMAGES = (6, 9, 7, 2)
LABELS = np.array([0, 1, 0, 2, 1, 0])
FRACTIONS = [0.0, 0.3, 1.0]

IN_BATCH = {
    "segment": lambda: Segment(radius=0.7),
    "segment_nearest": lambda: Segment(partner="nearest"),
    "segment_same_class": lambda: Segment(partner="same_class"),
    "segment_beta": lambda: Segment(radius=0.5, alpha=0.2),
    "simplex": lambda: Simplex(num_partners=3, radius=0.8),
    "patch": lambda: Patch(grid=(4, 3), radius=0.9),
    "patch_beta": lambda: Patch(grid=2, alpha=4),
}
BALLS = {norm: lambda norm=norm: Ball(0.2, norm) for norm in ("l2", "linf", "gaussian")}
MIXTURES = {
    "mixture": lambda: Mixture([Segment(0.5), Patch(2), Simplex(2)], weights=[1, 2, 3]),
    "mixture_of_mixtures": lambda: Mixture([Mixture([Segment(), Ball(0.1)]), Ball(0.2, "linf")]),
}
ALL = IN_BATCH | BALLS | MIXTURES


def points(shape=IMAGES, dtype="float64", seed=0):
    numbers = np.random.default_rng(seed).uniform(size=shape)
    return tf.cast(255 * numbers if dtype == "uint8" else numbers, dtype)


def drawn_at(region, x, *fractions, seed=(1, 2)):
    """The drawn points, and those at fractions of the way to the edge."""
    drawn = region.draw(x, list(seed), LABELS)
    at = [region.apply(x, region.at_fraction(drawn, fraction)) for fraction in fractions]
    return region.apply(x, drawn), *at


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_fraction_0_is_the_example(make):
    x = points()
    np.testing.assert_array_equal(drawn_at(make(), x, 0.0)[1], x)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_points_move_linearly_to_the_boundary(make):
    x = points()
    _, edge, *between = drawn_at(make(), x, 1.0, 0.25, 0.5)
    # With "same_class", the only example of its class stays where it is.
    assert (np.abs(edge - x).reshape(6, -1).max(axis=1) > 0.01).sum() >= 5
    for fraction, point in zip((0.25, 0.5), between, strict=True):
        # Coefficients are float32.
        np.testing.assert_allclose(point, x + fraction * (edge - x), rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_the_drawn_point_lies_on_the_way_to_the_boundary(make):
    x = points()
    drawn, edge = ((point - x).numpy().reshape(6, -1) for point in drawn_at(make(), x, 1.0))
    share = (drawn * edge).sum(axis=1) / np.maximum((edge**2).sum(axis=1), 1e-30)
    assert (share >= 0.0).all() and (share <= 1.0 + 1e-6).all()
    np.testing.assert_allclose(drawn, share[:, None] * edge, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("name", IN_BATCH)
def test_the_largest_or_the_sum_of_lambda_is_the_fraction_of_the_radius(name, fraction):
    region, x = IN_BATCH[name](), points()
    drawn = region.draw(x, [1, 2], LABELS)
    partners, weights, _ = region.at_fraction(drawn, fraction)
    np.testing.assert_array_equal(partners, drawn.partners)
    flat = weights.numpy().reshape(6, -1)
    reached = flat.sum(axis=1) if name == "simplex" else flat.max(axis=1)
    np.testing.assert_allclose(reached, np.full(6, fraction * region.radius), rtol=1e-6)
    assert weights.dtype == tf.float32
    moved = region.apply(x, Coefficients(partners, weights))
    np.testing.assert_allclose(moved, reference.move(x, partners, weights), rtol=0.0, atol=1e-7)


def test_the_boundary_of_a_segment_is_its_end():
    x = points((6, 5))
    region = Segment(radius=0.7)
    partners = region.draw(x, [1, 2]).partners.numpy()[:, 0]
    expected = x + 0.7 * (x.numpy()[partners] - x)
    np.testing.assert_allclose(drawn_at(region, x, 1.0)[1], expected, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf)])
@pytest.mark.parametrize("shape", [(6,), (6, 5), IMAGES], ids=["rank1", "rank2", "rank4"])
def test_the_boundary_of_a_ball_is_its_surface(norm, order, fraction, shape):
    x = points(shape)
    (_, point) = drawn_at(Ball(0.2, norm), x, fraction)
    length = np.linalg.norm((point - x).numpy().reshape(6, -1), order, axis=1)
    np.testing.assert_allclose(length, np.full(6, 0.2 * fraction), rtol=1e-6)


def test_gaussian_noise_ends_at_the_drawn_point():
    drawn, end = drawn_at(Ball(0.2, "gaussian"), points(), 1.0)
    np.testing.assert_array_equal(end, drawn)


@pytest.mark.parametrize("make", MIXTURES.values(), ids=MIXTURES)
def test_each_example_of_a_mixture_moves_to_the_boundary_of_its_own_region(make):
    region, x = make(), points()
    drawn = region.draw(x, [1, 2], LABELS)
    edge = region.apply(x, region.at_fraction(drawn, 1.0))
    candidates = [
        member.apply(x, member.at_fraction(part, 1.0))
        for member, part in zip(region.regions, drawn.coefficients, strict=True)
    ]
    assert len(set(drawn.choice.numpy())) > 1
    for row, chosen in enumerate(drawn.choice.numpy()):
        np.testing.assert_array_equal(edge[row], candidates[chosen][row])


@pytest.mark.parametrize(
    ("region", "zeros", "lengths"),
    [
        (Segment(0.5), (6, 1), [0.5] * 6),
        (Patch(grid=(2, 3), radius=0.5), (6, 1, 2, 3), [0.5] * 6),
        (Simplex(num_partners=3, radius=0.6), (6, 3), [0.2] * 6),
    ],
    ids=["segment", "patch", "simplex"],
)
def test_a_lambda_of_zero_still_knows_its_partners(region, zeros, lengths):
    partners = np.tile((np.arange(6)[:, None] + 1) % 6, (1, zeros[1])).astype("int32")
    drawn = Coefficients(tf.constant(partners), tf.zeros(zeros))
    weights = region.at_fraction(drawn, 1.0).lam
    np.testing.assert_allclose(weights.numpy().reshape(6, -1).max(axis=1), lengths, rtol=1e-6)
    np.testing.assert_allclose(weights.numpy().reshape(6, -1).min(axis=1), lengths, rtol=1e-6)


@pytest.mark.parametrize("norm", BALLS)
def test_noise_of_zero_stays_at_the_example(norm):
    noise = tf.constant([[0.0, 0.0], [1e-30, 0.0]])
    moved = Ball(0.5, norm).at_fraction(noise, 1.0).numpy()
    np.testing.assert_array_equal(moved[0], [0.0, 0.0])
    np.testing.assert_allclose(moved[1], [1e-30 if norm == "gaussian" else 0.5, 0.0], rtol=1e-6)


def test_zeros_in_a_mixture_are_no_nan():
    region = Mixture([Ball(0.1), Segment()])
    parts = (tf.zeros((2, 3)), Coefficients(tf.constant([[1], [0]]), tf.zeros((2, 1))))
    drawn = MixtureCoefficients(tf.constant([0, 1]), parts)
    x = tf.constant([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    edge = region.apply(x, region.at_fraction(drawn, 1.0))
    np.testing.assert_array_equal(edge, [x[0], x[0]])


@pytest.mark.parametrize("name", ["segment", "simplex", "patch", "l2", "linf"])
def test_the_boundary_follows_the_radius(name):
    region, x = ALL[name](), points()
    edge = drawn_at(region, x, 1.0)[1]
    region.radius = region.radius / 2
    np.testing.assert_allclose(drawn_at(region, x, 1.0)[1], (x + edge) / 2, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("name", ["segment", "patch", "simplex", *BALLS, "mixture_of_mixtures"])
def test_each_example_may_have_its_own_fraction(name):
    region, x = ALL[name](), points()
    fractions = np.float32([0.0, 1.0, 0.3, 0.3, 1.0, 0.0])
    moved = drawn_at(region, x, tf.constant(fractions))[1]
    for fraction, expected in zip(FRACTIONS, drawn_at(region, x, *FRACTIONS)[1:], strict=True):
        rows = fractions == np.float32(fraction)
        np.testing.assert_array_equal(moved[rows], expected[rows])


@pytest.mark.parametrize("name", [*IN_BATCH, *BALLS, "mixture"])
def test_several_inputs_move_together(name):
    region = ALL[name]()
    inputs = {"image": points(), "row": points((6, 3))}
    drawn = region.draw(inputs, [1, 2], LABELS)
    edge = region.apply(inputs, region.at_fraction(drawn, 1.0))
    half = region.apply(inputs, region.at_fraction(drawn, 0.5))
    for key, x in inputs.items():
        np.testing.assert_allclose(half[key], (x + edge[key]) / 2, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_any_input_that_can_be_mixed(make, dtype):
    x = points(dtype=dtype)
    moved = drawn_at(make(), x, 0.5)[1]
    expected = drawn_at(make(), tf.cast(x, tf.float32), 0.5)[1]
    assert moved.dtype == ("float32" if dtype == "uint8" else dtype)
    np.testing.assert_array_equal(moved, tf.cast(expected, moved.dtype))


@pytest.mark.parametrize("name", few(["simplex"], ["simplex", "mixture_of_mixtures"]))
def test_graph_and_xla_agree_with_eager_mode(name):
    region = ALL[name]()

    def edge(x, fraction):
        drawn = region.draw(x, [1, 2], LABELS)
        return region.apply(x, region.at_fraction(drawn, fraction))

    signature = [tf.TensorSpec((None, *IMAGES[1:]), tf.float32), tf.TensorSpec((), tf.float32)]
    x = points(dtype="float32")
    for compiled in (False, True):
        run = tf.function(edge, input_signature=signature, jit_compile=compiled)
        np.testing.assert_allclose(run(x, 0.7), edge(x, 0.7), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_an_empty_batch_has_no_points(make):
    x = tf.zeros((0, *IMAGES[1:]))
    drawn = make().draw(x, [1, 2], LABELS[:0])
    assert make().apply(x, make().at_fraction(drawn, 1.0)).shape == x.shape


def test_a_custom_region_names_what_it_lacks():
    class Own(Region):
        def draw(self, inputs, seed, labels=None):
            return self.radius_variable.read_value()

        def apply(self, tensor, coefficients):
            return keras.tree.map_structure(lambda leaf: (1.0 - coefficients) * leaf, tensor)

    with pytest.raises(NotImplementedError, match=r"Own must implement `at_fraction\(coeff"):
        Own().at_fraction(1.0, 0.5)
