"""Where points of each region lie."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Ball, Mixture, Patch, Segment
from tests.references import losses as reference
from tests.regions.helpers import IMAGES, IN_BATCH, MIXTURES, SHAPES, draw, points

DTYPES = ["float16", "bfloat16", "float32", "float64", "uint8"]
# Every rank in float32, and every dtype for images.
BATCHES = [(shape, "float32") for shape in SHAPES] + [
    (IMAGES, dtype) for dtype in DTYPES if dtype != "float32"
]
# Rounding of one result to the dtype; for uint8 that of float32, relative to 255.
PRECISION = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-12, "uint8": 1e-6}


def in_float64(tensor):
    return tf.cast(tensor, tf.float64).numpy()


@pytest.mark.parametrize(("shape", "dtype"), BATCHES)
@pytest.mark.parametrize("name", ["segment", "segment_beta", "simplex"])
def test_points_lie_between_an_example_and_its_partners(name, shape, dtype):
    region, x = IN_BATCH[name](), points(shape, dtype)
    coefficients = draw(region, x)
    partners, weights = coefficients.partners.numpy(), coefficients.lam.numpy()
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
def test_patch_points_have_one_coefficient_per_cell_and_lie_in_the_box(grid, dtype):
    region, x = Patch(grid=grid, radius=0.9), points(IMAGES, dtype)
    coefficients = draw(region, x)
    partners, weights = coefficients.partners.numpy(), coefficients.lam.numpy()
    assert weights.shape == (6, 1, *(grid if isinstance(grid, tuple) else (grid, grid)))
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
    correlation = np.corrcoef(first.lam[:, 0], second.lam[:, 0])[0, 1]
    assert abs(correlation) < 0.05
