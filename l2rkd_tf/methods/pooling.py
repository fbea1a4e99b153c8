"""Pools feature maps and hidden states of different sizes to a common size."""

import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.types import TensorLike

__all__ = ["match_sizes"]


def match_sizes(teacher: TensorLike, student: TensorLike) -> tuple[tf.Tensor, tf.Tensor]:
    """Pools features of both models to the smaller size of the two along each spatial axis.

    Adaptive average pooling: of `n` rows, row `i` of `m` averages those from `floor(i n / m)` up
    to, but not including, `ceil((i + 1) n / m)`; likewise for columns, or for the positions of a
    sequence. Features of equal size do not change.

    Args:
        teacher: Feature maps, float32, shape `(batch, height, width, channels)`, or hidden states
            of shape `(batch, positions, channels)`, or with more spatial axes; all sizes except
            the batch are static. Sequences of unknown length must be equally long in both models.
        student: The same with any other sizes and channels.

    Returns:
        Both, with the same spatial sizes, each with its own channels.

    Raises:
        ValueError: If the features do not have the same number of spatial axes, or none, or their
            sizes are not known.

    Example:
        >>> teacher = tf.reshape(tf.range(16.0), (1, 4, 4, 1))
        >>> pooled, student = match_sizes(teacher, tf.zeros((1, 2, 4, 3)))
        >>> pooled[0, :, :, 0].numpy().tolist()
        [[2.0, 3.0, 4.0, 5.0], [10.0, 11.0, 12.0, 13.0]]
    """
    teacher, student = tf.convert_to_tensor(teacher), tf.convert_to_tensor(student)
    ranks = {teacher.shape.rank, student.shape.rank}
    if ranks == {3} and teacher.shape[1] is None and student.shape[1] is None:
        return teacher, _equally_long(student, teacher)
    sizes = [tuple(x.shape[1:-1]) if x.shape.rank else () for x in (teacher, student)]
    if len(ranks) > 1 or not sizes[0] or None in (*sizes[0], *sizes[1]):
        raise ValueError(
            "Features must both be maps of shape (batch, height, width, channels), or both hidden "
            "states of shape (batch, positions, channels), with known height and width, or number "
            "of positions: choose layers that output these, in models with a fixed input size. "
            f"Received: features of shapes {teacher.shape} and {student.shape}"
        )
    for axis, common in enumerate(map(min, *sizes), start=1):
        teacher, student = (_pooled(x, axis, common) for x in (teacher, student))
    return teacher, student


def _equally_long(states, others):
    message = "Hidden states of unknown length must have equal lengths in teacher and student."
    same = tf.debugging.assert_equal(tf.shape(states)[1], tf.shape(others)[1], message)
    with tf.control_dependencies([] if same is None else [same]):
        return tf.identity(states)


def _pooled(features, axis, size):
    """Features with the given size along one axis."""
    if features.shape[axis] == size:
        return features
    matrix = _averaging_matrix(features.shape[axis], size)
    spatial = "xyzuvw"[: features.shape.rank - 2]
    pooled = spatial.replace(spatial[axis - 1], "i")
    return tf.einsum(f"i{spatial[axis - 1]},b{spatial}c->b{pooled}c", matrix, features)


def _averaging_matrix(size, pooled_size):
    """Weight of each row in each pooled row, shape `(pooled_size, size)`."""
    matrix = np.zeros((pooled_size, size), "float32")
    for i in range(pooled_size):
        start, end = i * size // pooled_size, -(-(i + 1) * size // pooled_size)
        matrix[i, start:end] = 1.0 / (end - start)
    return tf.constant(matrix)
