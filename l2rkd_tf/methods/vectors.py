"""Features as vectors, and functions of them that are safe at zero and at any scale."""

from collections.abc import Sequence

import tensorflow as tf

__all__ = ["directions", "flattened", "or_one", "scaled"]


def flattened(features: tf.Tensor) -> tf.Tensor:
    """Features as one vector per example, also for an empty batch.

    Args:
        features: Float32, shape `(batch, ...)`.

    Returns:
        Float32, shape `(batch, size)`.

    Raises:
        ValueError: If the features have no axis besides the batch.
    """
    if features.shape.rank is None or features.shape.rank < 2:
        raise ValueError(
            "Features must have the shape `(batch, ...)` with at least one axis besides the "
            f"batch. Received: features of shape {features.shape}"
        )
    size = features.shape[1:].num_elements()
    if size is None:
        size = tf.reduce_prod(tf.shape(features)[1:])
    return tf.reshape(features, (tf.shape(features)[0], size))


def directions(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors along the last axis divided by their length; zero if the length is zero.

    Unlike `tf.math.l2_normalize`, exact for vectors of any length, without a huge gradient at zero.

    Args:
        vectors: Float32, any shape.

    Returns:
        Float32, the same shape.
    """
    vectors = scaled(vectors, axis=-1)
    squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
    return vectors / tf.sqrt(or_one(squares))


def or_one(values: tf.Tensor) -> tf.Tensor:
    """The positive values, and 1 in place of the others."""
    return tf.where(values > 0.0, values, tf.ones_like(values))


def scaled(values: tf.Tensor, axis: int | Sequence[int] | None = None) -> tf.Tensor:
    """Values divided by the largest magnitude, for functions that do not depend on the scale.

    Such a function has no derivative with respect to the scale, which counts as a constant.
    """
    largest = tf.reduce_max(tf.abs(values), axis=axis, keepdims=True)
    return values / tf.stop_gradient(or_one(largest))
