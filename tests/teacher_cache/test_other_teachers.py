"""Outputs of another teacher are refused."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher
from tests.helpers import batches, compiled, convnet, images
from tests.teacher_cache.helpers import EXAMPLES, QUIET


def trained_from(data, teacher=None, model=convnet, **arguments):
    student = model(1)
    before = student.get_weights()
    settings = {"region_targets": "interpolated"} | arguments
    distiller = compiled(L2RKDDistiller(teacher, student, **settings), run_eagerly=True)
    try:
        distiller.fit(data, steps_per_epoch=2, verbose=0)
    except ValueError:
        for one, other in zip(student.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)
        raise


DERIVED = {
    "the cache": lambda data: data,
    "repeated": lambda data: data.repeat(),
    "mapped": lambda data: data.map(lambda x, y: (x._replace(inputs=x.inputs * 2), y)),
    "under a strategy": lambda data: tf.distribute.MirroredStrategy(
        ["CPU:0"]
    ).experimental_distribute_dataset(data),
}


@pytest.mark.parametrize("derived", DERIVED)
def test_outputs_of_another_teacher_are_refused(derived, teacher):
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, **QUIET)
    with pytest.raises(ValueError, match="outputs of the distiller's own `teacher`"):
        trained_from(DERIVED[derived](cached), convnet(5, 8))


def test_the_same_teacher_made_again_and_two_on_purpose_are_not_refused(teacher):
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, **QUIET)
    again = convnet(5, 8)  # with other names of layers
    again.set_weights(teacher.get_weights())
    trained_from(cached, again)
    trained_from(cached.map(lambda x, y: (CachedInputs(*x), y)), convnet(5, 8))


def softmax_convnet(seed, width=4):
    return convnet(seed, width, activation="softmax")


def test_probabilities_in_the_place_of_logits_are_refused_and_the_other_way_round(teacher):
    data = batches(*images(EXAMPLES))
    probabilities = cache_teacher(data, softmax_convnet(0), **QUIET).repeat()
    with pytest.raises(ValueError, match="cached inputs `x` must output logits.*ends in a softmax"):
        trained_from(probabilities)
    trained_from(probabilities, model=softmax_convnet, from_logits=False)
    with pytest.raises(ValueError, match="cached inputs `x` must output probabilities"):
        trained_from(
            cache_teacher(data, teacher, **QUIET), None, softmax_convnet, from_logits=False
        )
    trained_from(probabilities, divergence="mse")
