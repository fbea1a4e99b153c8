"""Where piecewise-linear layers bend: their activation pattern and the margins to the next one.

A *stage* is a callable that takes a layer's arguments and returns `(output, kinks)`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

__all__ = ["Kink", "elementwise", "global_max_pooling", "max_pooling"]

Stage: TypeAlias = Callable[..., tuple[tf.Tensor, list["Kink"]]]


class Kink(NamedTuple):
    """The bends of one layer.

    Attributes:
        margins: Distance of each condition of the pattern from its threshold, at least 0, and
            affine in the input of the model within the pattern, shape `(batch, conditions)`.
        pattern: Current piece of each unit, uint16, shape `(batch, units)`.
    """

    margins: Any
    pattern: Any


def elementwise(thresholds: Sequence[Any], slopes: Sequence[Any], offsets: Sequence[Any]) -> Stage:
    """Stage of a piecewise activation `slope * value + offset`.

    A value on a threshold belongs to the piece below it.

    Args:
        thresholds: Ascending numbers that separate the pieces.
        slopes: Slope of each piece: numbers or arrays that broadcast to one example.
        offsets: Offset of each piece.
    """

    def stage(values, **_):
        above = [values > threshold for threshold in thresholds]
        slope = tf.cast(slopes[0], values.dtype) * tf.ones_like(values)
        offset = offsets[0] * tf.ones_like(values)
        for is_above, next_slope, next_offset in zip(above, slopes[1:], offsets[1:], strict=True):
            slope = tf.where(is_above, tf.cast(next_slope, values.dtype), slope)
            offset = tf.where(is_above, tf.cast(next_offset, values.dtype), offset)
        margins = [
            tf.where(is_above, values - threshold, threshold - values)
            for is_above, threshold in zip(above, thresholds, strict=True)
        ]
        pattern = tf.add_n([tf.cast(is_above, tf.int32) for is_above in above])
        return slope * values + offset, [_kink(tf.stack(margins, axis=-1), pattern)]

    return stage


def max_pooling(pool_size: Sequence[int], strides: Sequence[int], padding: str) -> Stage:
    """Stage of max-pooling over windows of channels-last maps; the first of equal values wins."""

    def stage(values, **_):
        output, kink = _winners(_windows(values, pool_size, strides, padding))
        return output, [kink]

    return stage


def global_max_pooling(keepdims: bool) -> Stage:
    """Stage of global max-pooling of channels-last maps."""

    def stage(values, **_):
        positions = math.prod(values.shape[1:-1])
        rank = len(values.shape)
        output, kink = _winners(tf.reshape(values, [-1, positions, values.shape[-1]]))
        if keepdims:
            output = tf.reshape(output, [-1, *[1] * (rank - 2), values.shape[-1]])
        return output, [kink]

    return stage


def _windows(values, pool_size, strides, padding):
    """Candidates of each window, shape `(batch, ..., candidates, channels)`."""
    counts, paddings = [], []
    for size, pool, stride in zip(values.shape[1:-1], pool_size, strides, strict=True):
        same = padding == "same"
        counts.append(-(-size // stride) if same else (size - pool) // stride + 1)
        missing = max((counts[-1] - 1) * stride + pool - size, 0) if same else 0
        paddings.append([missing // 2, missing - missing // 2])
    lowest = tf.constant(-math.inf, values.dtype)
    values = tf.pad(values, [[0, 0], *paddings, [0, 0]], constant_values=lowest)
    candidates = []
    for offsets in itertools.product(*map(range, pool_size)):
        where = [
            slice(offset, offset + (count - 1) * stride + 1, stride)
            for offset, count, stride in zip(offsets, counts, strides, strict=True)
        ]
        candidates.append(values[(slice(None), *where)])
    return tf.stack(candidates, axis=-2)


def _winners(windows):
    """Largest candidates, and a kink with the margins of the winner over the candidates."""
    winner = tf.argmax(windows, axis=-2, output_type=tf.int32)
    # Not `reduce_max`, whose derivative at a tie is the mean over the tied candidates.
    axis = len(windows.shape) - 2
    is_winner = tf.one_hot(winner, windows.shape[axis], True, False, axis, tf.bool)
    output = tf.reduce_sum(tf.where(is_winner, windows, tf.zeros_like(windows)), axis)
    return output, _kink(tf.expand_dims(output, axis) - windows, winner)


def _kink(margins, pattern):
    margins = tf.reshape(margins, [tf.shape(margins)[0], math.prod(margins.shape[1:])])
    pattern = tf.reshape(pattern, [tf.shape(pattern)[0], math.prod(pattern.shape[1:])])
    return Kink(margins, tf.cast(pattern, tf.uint16))
