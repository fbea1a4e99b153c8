"""Pools feature maps of different sizes to a common size."""

import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.types import TensorLike

__all__ = ["match_sizes"]


def match_sizes(teacher: TensorLike, student: TensorLike) -> tuple[tf.Tensor, tf.Tensor]:
    """Pools two stacks of feature maps to the smaller height and the smaller width of the two.

    Adaptive average pooling: of `n` rows, row `i` of `m` averages those from `floor(i n / m)` up
    to, but not including, `ceil((i + 1) n / m)`; likewise for columns. Maps of equal size do not
    change.

    Args:
        teacher: Feature maps, float32, shape `(batch, height, width, channels)`; all sizes except
            the batch are static.
        student: Feature maps, of any other height, width and channels.

    Returns:
        Both, with the same height and width, each with its own channels.

    Raises:
        ValueError: If the features do not have rank 4, or their height or width is not known.

    Example:
        >>> teacher = tf.reshape(tf.range(16.0), (1, 4, 4, 1))
        >>> pooled, student = match_sizes(teacher, tf.zeros((1, 2, 4, 3)))
        >>> pooled[0, :, :, 0].numpy().tolist()
        [[2.0, 3.0, 4.0, 5.0], [10.0, 11.0, 12.0, 13.0]]
    """
    teacher, student = tf.convert_to_tensor(teacher), tf.convert_to_tensor(student)
    for features in (teacher, student):
        if features.shape.rank != 4 or None in features.shape[1:3]:
            raise ValueError(
                "Features must be maps of shape (batch, height, width, channels), with known "
                "height and width: choose layers that output maps, in models with a fixed input "
                f"size. Received: features of shapes {teacher.shape} and {student.shape}"
            )
    height, width = map(min, zip(teacher.shape[1:3], student.shape[1:3], strict=True))
    return _pooled(teacher, height, width), _pooled(student, height, width)


def _pooled(maps, height, width):
    rows, columns = maps.shape[1:3]
    if rows != height:
        maps = tf.einsum("ir,brcd->bicd", _averaging_matrix(rows, height), maps)
    if columns != width:
        maps = tf.einsum("jc,brcd->brjd", _averaging_matrix(columns, width), maps)
    return maps


def _averaging_matrix(size, pooled_size):
    """Weight of each row in each pooled row, shape `(pooled_size, size)`."""
    matrix = np.zeros((pooled_size, size), "float32")
    for i in range(pooled_size):
        start, end = i * size // pooled_size, -(-(i + 1) * size // pooled_size)
        matrix[i, start:end] = 1.0 / (end - start)
    return tf.constant(matrix)
