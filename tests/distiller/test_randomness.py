"""Seeds of `L2RKDDistiller`, and ways to run its steps that change nothing."""

import functools

import keras
import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller
from tests.helpers import assert_equal_weights, batches, compiled, convnet, images


def test_a_run_repeats_with_its_seed_and_differs_with_another():
    x, y = images(8)
    students = []
    for seed in (7, 7, 8):
        distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), seed=seed))
        distiller.fit(batches(x, y), epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(students[0], students[1])
    difference = students[0].get_weights()[0] - students[2].get_weights()[0]
    assert np.abs(difference).max() > 1e-4


def test_seed_none_follows_set_random_seed():
    seeds = []
    for seed in (1, 1, 2):
        teacher, student = convnet(0), convnet(1)
        keras.utils.set_random_seed(seed)
        seeds.append(L2RKDDistiller(teacher, student).seed)
    assert seeds[0] == seeds[1] != seeds[2]


def test_region_points_differ_between_steps():
    x, y = images(8)
    distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), seed=0), rate=0.0)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(3)]
    # `train_on_batch` starts its metrics again: three draws, the same weights.
    assert len({round(float(loss), 7) for loss in losses}) == 3


@functools.cache
def weights_after_two_epochs(options, arguments):
    """Weights of a student; both arguments are tuples of items."""
    x, y = images(11)
    distiller = L2RKDDistiller(convnet(0, 8), convnet(1), seed=0, **dict(arguments))
    compiled(distiller, **dict(options)).fit(batches(x, y), epochs=2, verbose=0)
    return distiller.student.get_weights()


@pytest.mark.covering
@pytest.mark.parametrize(
    "arguments", [(), (("replace_fraction", 0.4),), (("num_region_points", 2),)]
)
@pytest.mark.parametrize("how", ["jit_compile", "run_eagerly"])
def test_graph_xla_and_eager_train_alike(how, arguments):
    expected = weights_after_two_epochs((("jit_compile", False),), arguments)
    found = weights_after_two_epochs(((how, True),), arguments)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-5)


def test_steps_per_execution_changes_nothing():
    x, y = images(11)
    students = []
    for steps in (1, 3, 5):
        distiller = L2RKDDistiller(convnet(0, 8), convnet(1), seed=0)
        compiled(distiller, steps_per_execution=steps).fit(batches(x, y), epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(students[1], students[0], atol=1e-6)
    assert_equal_weights(students[2], students[0], atol=1e-6)
