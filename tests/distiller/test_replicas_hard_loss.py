"""The compiled loss on two replicas: what it divides by is that of one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller
from tests.helpers import (
    CLASSES,
    assert_equal_weights,
    images,
    linear,
    random_weights,
    two_replicas,
)

IGNORED = 255
_entropy = keras.losses.SparseCategoricalCrossentropy


def labels_with_gaps(labels):
    """The first of each batch of 8 are ignored: replicas get unequal numbers of the others."""
    return np.where(np.arange(len(labels)) % 8 < 3, IGNORED, labels)


LOSSES = {
    "plain": _entropy(from_logits=True),
    "ignored class": _entropy(from_logits=True, ignore_class=IGNORED),
    "mean with weights": _entropy(from_logits=True, reduction="mean_with_sample_weight"),
    "both": _entropy(from_logits=True, ignore_class=IGNORED, reduction="mean_with_sample_weight"),
    "sum": _entropy(from_logits=True, reduction="sum"),
}


def train(make, data, loss):
    """History, results of `evaluate` and the student, after two epochs of hard labels."""
    distiller = L2RKDDistiller(*make(), hard_weight=1.0, kd_weight=0.0, region_weight=0.0)
    distiller.compile(keras.optimizers.SGD(0.02), loss)
    dataset = tf.data.Dataset.from_tensor_slices(tuple(data)).batch(8)
    history = distiller.fit(dataset, epochs=2, verbose=0).history
    return history, distiller.evaluate(dataset, verbose=0), distiller.student


def check_that_replicas_agree(make, data, loss):
    expected, judged, student = train(make, data, loss)
    with two_replicas().scope():
        found, judged_by_two, student_of_two = train(make, data, loss)
    assert_equal_weights(student_of_two, student, atol=1e-5)
    np.testing.assert_allclose(found["hard_loss"], expected["hard_loss"], rtol=1e-4)
    np.testing.assert_allclose(judged_by_two, judged, rtol=1e-4)


def linear_models():
    """Teacher and student."""
    shape = (8, 8, 1)
    return [linear(shape, random_weights(np.random.default_rng(seed), shape)) for seed in (7, 6)]


@pytest.mark.covering
@pytest.mark.parametrize("column", [False, True], ids=["(batch,)", "(batch, 1)"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_hard_loss_of_two_replicas_is_that_of_one_device(name, weighted, column):
    x, y = images(15)  # batches of 8 and 7: the last is shared unequally
    if name in ("ignored class", "both"):
        y = labels_with_gaps(y)
    data = [x, y[:, None] if column else y]
    if weighted:
        data.append(np.linspace(3.0, 0.1, 15, dtype="float32"))
    check_that_replicas_agree(linear_models, data, LOSSES[name])


def pixelwise():
    """Models with a class for each pixel, of which some are padding."""

    def model(seed):
        inputs = keras.Input((8, 8, 1))
        rows = keras.layers.Reshape((64, 1))(inputs)
        rows = keras.layers.Masking()(rows)
        initial = keras.initializers.RandomNormal(seed=seed)
        return keras.Model(
            inputs, keras.layers.Dense(CLASSES, kernel_initializer=initial, name="logits")(rows)
        )

    return [model(7), model(6)]


@pytest.mark.covering
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_pixels_that_a_loss_ignores_or_a_mask_leaves_out(name, weighted):
    rng = np.random.default_rng(3)
    x, _ = images(15)
    x[:6, 3:] = 0.0  # padding, in some of the examples
    y = rng.integers(0, CLASSES, (15, 64))
    if name in ("ignored class", "both"):
        y[rng.uniform(size=y.shape) < np.linspace(0, 0.9, 15)[:, None]] = IGNORED
    data = [x, y] + ([rng.uniform(size=(15, 64)).astype("float32")] if weighted else [])
    check_that_replicas_agree(pixelwise, data, LOSSES[name])
