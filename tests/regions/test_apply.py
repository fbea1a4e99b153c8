"""`apply` moves inputs, labels and logits by given coefficients."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Ball, Patch, Simplex, Swap
from tests.references import losses as reference
from tests.regions.helpers import (
    ALL,
    BALLS,
    IMAGES,
    IN_BATCH,
    LABELS,
    SHAPES,
    assert_same,
    differ,
    draw,
    points,
)


@pytest.mark.parametrize("num_partners", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
def test_apply_moves_by_given_coefficients(shape, num_partners):
    generator = np.random.default_rng(0)
    partners = generator.integers(0, 6, size=(6, num_partners)).astype("int32")
    weights = generator.uniform(size=(6, num_partners)).astype("float32")
    x = points(shape)
    moved = Simplex().apply(x, (tf.constant(partners), tf.constant(weights)))
    np.testing.assert_allclose(moved, reference.move(x, partners, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cells", [(3,), (1, 1), (2, 3), (4, 4), (9, 7), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"rank{len(shape)}")
def test_apply_moves_by_cell_where_directions_fit_and_all_else_by_the_mean(shape, cells):
    generator = np.random.default_rng(0)
    partners = generator.integers(0, 6, size=(6, 1)).astype("int32")
    weights = generator.uniform(size=(6, 1, *cells)).astype("float32")
    x = points(shape)
    moved = Patch().apply(x, (tf.constant(partners), tf.constant(weights)))
    np.testing.assert_allclose(moved, reference.move(x, partners, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "mask"), [((6, 5, 2), (6, 5)), ((6, 5, 2), (6, 10)), ((6, 4, 6, 1), (6, 2, 3))]
)
def test_weights_of_positions_move_by_their_own_cells(inputs, mask):
    region, weights = Patch(grid=2), points(mask)
    drawn = region.draw(points(inputs), [1, 2])
    expected = reference.move(weights[..., None], drawn.partners.numpy(), drawn.lam.numpy())
    moved = region.move_mask(weights, drawn)
    np.testing.assert_allclose(moved, expected[..., 0], rtol=0.0, atol=1e-6)
    is_data = weights > 0.5
    both = is_data & tf.gather(is_data, drawn.partners[:, 0])
    np.testing.assert_array_equal(region.move_mask(is_data, drawn), both)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=lambda shape: f"rank{len(shape)}")
def test_targets_of_a_teacher_of_single_positions_are_exact(shape):
    x, weights = points(shape), np.random.default_rng(1).normal(size=(shape[-1], 3))
    for region, teacher in (
        (Patch(grid=2), lambda x: x @ weights.astype("float32")),
        (Swap(), lambda x: tf.nn.relu(x @ weights.astype("float32") - 0.5)),
    ):
        drawn = region.draw(x, [1, 2])
        expected = teacher(region.apply(x, drawn))
        np.testing.assert_allclose(region.targets(teacher(x), drawn), expected, atol=1e-6)
        assert np.abs(expected - teacher(x)).max() > 0.1


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_labels_and_logits_of_sequences_move_by_the_mean(dtype):
    region, labels = Patch(grid=5), tf.cast(np.eye(5)[LABELS % 5], dtype)
    drawn = region.draw(points((6, 5, 5)), [1, 2])
    lam = drawn.lam.numpy().mean(axis=2)
    moved = region.apply(labels, drawn)
    assert moved.dtype == tf.float32
    expected = reference.move(labels, drawn.partners.numpy(), lam)
    np.testing.assert_allclose(moved, expected, rtol=0.0, atol=1e-6)


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
