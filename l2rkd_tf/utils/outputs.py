"""Outputs of models."""

from typing import Any

import keras
import tensorflow as tf

__all__ = ["flat_outputs", "mean_over_positions", "only_output"]


def only_output(outputs: Any) -> Any:
    """The tensor in a list or dict of one, as models with named outputs return it.

    Args:
        outputs: What a model returned, or labels in the same form.

    Returns:
        The tensor; `outputs` themselves where they are a tensor, or several.
    """
    if not keras.tree.is_nested(outputs):
        return outputs
    leaves = keras.tree.flatten(outputs)
    return leaves[0] if len(leaves) == 1 else outputs


def flat_outputs(outputs: tf.Tensor) -> tf.Tensor:
    """All outputs of an example in one row: shape `(batch, ...)` becomes `(batch, outputs)`."""
    if outputs.shape.rank == 2:
        return outputs
    size = outputs.shape[1:].num_elements()
    size = tf.reduce_prod(tf.shape(outputs)[1:]) if size is None else size
    return tf.reshape(outputs, [tf.shape(outputs)[0], size])


def mean_over_positions(values: tf.Tensor) -> tf.Tensor:
    """Values of shape `(batch, ...)` as one for each example, the mean over its positions."""
    return tf.reduce_mean(values, axis=tuple(range(1, values.shape.rank)))
