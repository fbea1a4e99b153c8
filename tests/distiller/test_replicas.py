"""`L2RKDDistiller` on two replicas equals one device."""

import keras
import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    CLASSES,
    assert_equal_weights,
    batches,
    compiled,
    images,
    linear,
    random_weights,
    two_replicas,
)


def penalized(rng, activity):
    """A linear student with penalties of its own."""
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(
        CLASSES, name="logits", kernel_regularizer="l2", activity_regularizer=activity
    )(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights(random_weights(rng, (8, 8, 1)))
    return model


METHODS = {
    "none": lambda: (),
    "of objects": lambda: keras.distillation.LogitsDistillation(
        loss=keras.losses.KLDivergence(name="kl")
    ),
    "of functions": lambda: keras.distillation.FeatureDistillation("mse", None, "logits"),
}


# The sum over a replica's share of the batch has no part in a mean over the batch.
SUMS_ACTIVITIES = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14)
WITH_ACTIVITY = [
    pytest.mark.skipif(SUMS_ACTIVITIES, reason="Keras before 3.14 sums activity penalties")
]


@pytest.mark.parametrize(
    ("methods", "activity"),
    [
        pytest.param("none", None, marks=pytest.mark.stress),
        pytest.param("of objects", None, marks=pytest.mark.stress),
        pytest.param("of functions", None, marks=pytest.mark.stress),
        pytest.param("none", "l2", marks=[*WITH_ACTIVITY, pytest.mark.stress]),
        pytest.param("of objects", "l2", marks=WITH_ACTIVITY),
        pytest.param("of functions", "l2", marks=[*WITH_ACTIVITY, pytest.mark.stress]),
    ],
)
def test_two_replicas_equal_one_device(methods, activity):
    x, y = images(15)  # batches of 8 and 7: the last is shared unequally

    def build():
        teacher = linear((8, 8, 1), random_weights(np.random.default_rng(7), (8, 8, 1)))
        return compiled(
            L2RKDDistiller(
                teacher,
                penalized(np.random.default_rng(6), activity),
                region=regions.Ball(1e-6),  # draws differ between replicas
                distillation_losses=METHODS[methods](),
                seed=0,
            ),
            rate=0.02,
        )

    one = build()
    expected = one.fit(batches(x, y, 8), epochs=2, verbose=0).history
    with two_replicas().scope():
        two = build()
    actual = two.fit(batches(x, y, 8), epochs=2, verbose=0).history
    assert_equal_weights(two.student, one.student, atol=1e-5)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-4)
