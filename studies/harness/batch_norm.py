"""Other ways for BatchNorm to treat region points, for the ablation."""

import keras
import tensorflow as tf

_CALIBRATION_STEPS = 100


class TwoPasses(keras.Model):
    """A student that sees the halves of a training batch one after the other.

    Args:
        student: The student. Its weights are used, not copied.
        frozen: Whether the second half, that of the region points, is normalized by the
            statistics of inference.
    """

    def __init__(self, student, frozen):
        super().__init__()
        self.student, self.frozen = student, frozen

    def call(self, inputs, training=False):
        """Logits of the batch."""
        if not training:
            return self.student(inputs, training=False)
        half = keras.ops.shape(inputs)[0] // 2
        first = self.student(inputs[:half], training=True)
        second = self.student(inputs[half:], training=not self.frozen)
        return keras.ops.concatenate([first, second], axis=0)


def wrap(student, policy):
    """The student, or a model that holds it and passes region points as a policy says."""
    if policy in ("two passes", "frozen in regions"):
        return TwoPasses(student, frozen=policy == "frozen in regions")
    return student


def recalibrate(student, dataset):
    """Estimates the statistics of BatchNorm again, from training points only."""
    norms = [
        layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for norm in norms:
        norm.momentum = 0.9
    update = tf.function(lambda images: student(images, training=True), reduce_retracing=True)
    for images, _ in dataset.repeat().take(_CALIBRATION_STEPS):
        update(images)
