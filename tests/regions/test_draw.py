"""`draw`: seeds, partners, and batches without partners."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Ball, Mixture, Patch, Segment, Simplex
from tests.helpers import few
from tests.references import losses as reference
from tests.regions.helpers import (
    ALL,
    IMAGES,
    LABELS,
    SWAPS,
    assert_same,
    differ,
    draw,
    partners_of_many,
    points,
)


def is_exact(region):
    """Whether a draw is made of integers, without functions that compilers may rearrange."""
    if isinstance(region, Mixture):
        return all(is_exact(member) for member in region.regions)
    return not isinstance(region, Ball) and region.get_config().get("alpha") is None


# Each kind of draw.
COMPILED = (
    "segment_same_class",
    "segment_beta",
    "simplex",
    "patch_nearest",
    "gaussian",
    "mixture_of_mixtures",
    "swap_box",
)


@pytest.mark.parametrize("name", few(COMPILED, ALL | SWAPS))
def test_draws_are_the_same_in_eager_mode_graph_and_xla(name):
    region = (ALL | SWAPS)[name]()

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


@pytest.mark.parametrize("make", (ALL | SWAPS).values(), ids=ALL | SWAPS)
def test_draws_repeat_with_the_seed_and_differ_between_seeds(make):
    region, x = make(), points()
    assert_same(draw(region, x, (1, 2)), draw(region, x, (1, 2)))
    assert differ(draw(region, x, (1, 2)), draw(region, x, (1, 3)))
    assert differ(draw(region, x, (1, 2)), draw(region, x, (2, 2)))


@pytest.mark.parametrize("make", (ALL | SWAPS).values(), ids=ALL | SWAPS)
@pytest.mark.parametrize("batch", [0, 1], ids=["empty", "one"])
def test_batches_without_a_partner_are_possible(make, batch):
    # A replica that has no part in the last batch of an epoch is given an empty one.
    region, x = make(), points()[:batch]
    moved = region.apply(x, draw(region, x))
    assert moved.shape == x.shape
    if region.interpolates_targets:
        np.testing.assert_array_equal(moved, x)


def test_draws_are_those_of_earlier_versions():
    """Numbers that were printed by version 0.1.0 before cells had any number of directions."""
    x = tf.reshape(tf.range(60, dtype=tf.float32), (3, 4, 5, 1)) / 60.0
    region = Patch(grid=(2, 2), radius=0.9)
    logits = tf.constant([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
    drawn = region.draw(x, [3, 4])
    assert drawn.partners.numpy().tolist() == [[2], [0], [0]]
    assert drawn.lam.numpy().ravel().tolist() == [
        *(0.38687238097190857, 0.8685781955718994, 0.040659550577402115, 0.7249834537506104),
        *(0.7584414482116699, 0.38764217495918274, 0.07056114077568054, 0.6626105308532715),
        *(0.2799299657344818, 0.8492998480796814, 0.07053495943546295, 0.5227230787277222),
    ]
    assert region.apply(logits, drawn).numpy().tolist() == [
        [0.7473633289337158, 1.1157715320587158],
        [2.0603723526000977, 0.4094414710998535],
        [0.7153109908103943, 1.0035884380340576],
    ]
    assert region.apply(x, drawn).numpy()[:, ::3, ::4, 0].ravel().tolist() == [
        *(0.2579149305820465, 0.6457188129425049, 0.277106374502182, 0.7999889850616455),
        *(0.08051952719688416, 0.270785927772522, 0.5598129630088806, 0.42912980914115906),
        *(0.48004668951034546, 0.16713345050811768, 0.8696433901786804, 0.6348512768745422),
    ]


@pytest.mark.covering
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
