"""Class numbers of the compared output, which some methods use."""

from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import Batch
from l2rkd_tf.distiller.heads import Outputs
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import Where

__all__ = ["ClassLabels", "known_labels"]

_UNKNOWN = -1


class ClassLabels:
    """Finds class numbers of the only compared output in the labels of a batch.

    Args:
        distiller: The compiled model, whose loss may ignore a class.
        outputs: Finds what belongs to the compared output.
    """

    def __init__(self, distiller: keras.Model, outputs: Outputs) -> None:
        self._distiller = distiller
        self._outputs = outputs

    def at(self, where: Where, batch: Batch, logits: Any) -> tf.Tensor | None:
        """Classes of the points at `"data"`, `"region"` or `"both"`.

        A region point has no label: nobody knows the class between two examples. Nor has a point
        whose label the compiled loss ignores, or has several classes or none.

        Args:
            where: Where the points are.
            batch: The batch.
            logits: The student's logits, which tell dense labels from one-hot ones.

        Returns:
            int32, shape `(points,)`, or `(points, ...)` for dense labels, -1 for points without a
            label; `None` if the compared output has no labels or no classes, or several outputs are
            compared.
        """
        given, losses = batch.data.labels, self._distiller.loss
        labels, loss = map(self._outputs.of_only, (given, losses))
        are_of_another = loss is None and losses is not None and not keras.tree.is_nested(given)
        if labels is None or are_of_another or not self._outputs.are_classes:
            return None
        numbers = _class_numbers(tf.convert_to_tensor(labels), logits.shape.rank)
        ignored = _ignored_class(loss)
        if ignored is not None:
            numbers = tf.where(numbers == tf.cast(ignored, tf.int32), _UNKNOWN, numbers)
        if where == "data" or batch.region is None:
            return numbers
        shape = tf.concat([[batch.region.count.local], tf.shape(numbers)[1:]], 0)
        unknown = tf.fill(shape, _UNKNOWN)
        return unknown if where == "region" else tf.concat([numbers, unknown], 0)


def _class_numbers(labels, outputs_rank):
    if labels.shape.rank == outputs_rank:
        if labels.shape[-1] != 1:
            # One-hot, or shares of the classes; answers to several questions have another sum.
            is_one_class = tf.abs(tf.reduce_sum(tf.cast(labels, tf.float32), -1) - 1.0) < 0.01
            numbers = tf.argmax(labels, axis=-1, output_type=tf.int32)
            return tf.where(is_one_class, numbers, _UNKNOWN)
        labels = tf.squeeze(labels, -1)
    return tf.maximum(tf.cast(labels, tf.int32), _UNKNOWN)


def known_labels(loss: Any, labels: Any, outputs: tf.Tensor) -> tf.Tensor | None:
    """Which labels the loss of one output does not ignore.

    Args:
        loss: The compiled loss.
        labels: Labels of the output, with or without a last dimension of 1.
        outputs: The output, shape `(batch, ..., outputs)`.

    Returns:
        Boolean, shape `(batch, ...)`; `None` if the loss ignores none.
    """
    ignored = _ignored_class(loss)
    if ignored is None:
        return None
    labels = tf.convert_to_tensor(only_output(labels))
    if labels.shape.rank == outputs.shape.rank:
        labels = tf.squeeze(labels, -1)
    return tf.not_equal(labels, tf.cast(ignored, labels.dtype))


def _ignored_class(loss):
    """The class that a loss ignores, an object or a `functools.partial`; `None` for none."""
    options = getattr(loss, "keywords", {})
    return options.get("ignore_class", getattr(loss, "ignore_class", None))
