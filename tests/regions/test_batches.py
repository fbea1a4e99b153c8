"""Region points of a batch, next to its training points or in their place."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Segment
from l2rkd_tf.regions.points import draw_points
from tests.regions.helpers import ALL, assert_same, points


def rows_of(batch):
    """A batch whose numbers are its rows."""
    return tf.range(batch, dtype=tf.float32)[:, None]


@pytest.mark.parametrize("num_points", [1, 3])
def test_region_points_next_to_the_training_points(num_points):
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
    return min(max(int(np.floor(batch * fraction + 0.5)), 1), batch - 1) if batch > 1 else 1


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_replacing_divides_the_batch(batch, fraction):
    x = rows_of(batch)
    drawn = draw_points(Segment(), x, [0, batch], replace_fraction=fraction)
    data, owners = drawn.at_data(x).numpy()[:, 0], drawn.of_owner(x).numpy()[:, 0]
    assert len(owners) == number_moved(batch, fraction)
    assert sorted([*data, *owners]) == (list(range(batch)) if batch > 1 else [0, 0])


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


@pytest.mark.covering
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize(
    "arguments", [{"num_points": 3}, {"replace_fraction": 0.5}], ids=["added", "replace"]
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
