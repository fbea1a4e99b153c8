"""Dense outputs, one for each pixel or moment: weights, masks and numbers of their positions.

As in Keras, a loss of shape `(batch, ...)` is summed over examples and positions, with weights, and
divided by the number of positions; positions that the Keras mask of the outputs leaves out do not
count.
"""

import functools
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.utils.distribution import Count, global_counts
from l2rkd_tf.utils.outputs import mean_over_positions

__all__ = [
    "and_masks",
    "count_true",
    "count_values",
    "filled_weights",
    "mask_of",
    "rows",
    "spread_weights",
    "weights_of",
]


def rows(outputs: tf.Tensor, chosen: slice) -> tf.Tensor:
    """Some rows of a model's outputs, which keep their Keras mask."""
    mask = keras_fixes.mask_of(outputs)
    part = outputs[chosen]
    return part if mask is None else keras_fixes.with_mask(part, mask[chosen])


def mask_of(outputs: tf.Tensor) -> tf.Tensor | None:
    """Which positions of dense outputs count, boolean, shape `(batch, ...)`; `None` for all."""
    mask = keras_fixes.mask_of(outputs)
    return mask if mask is not None and mask.shape.rank == outputs.shape.rank - 1 else None


def and_masks(*masks: tf.Tensor | None) -> tf.Tensor | None:
    """What all masks let count; `None` where there is none."""
    given = [tf.cast(mask, tf.bool) for mask in masks if mask is not None]
    return functools.reduce(tf.logical_and, given) if given else None


def filled_weights(weights: Any, num_examples: tf.Tensor) -> Any:
    """Weights of several outputs, with 1 for each example where an output has none."""
    if not keras.tree.is_nested(weights):
        return weights
    ones = tf.ones([num_examples])
    return keras.tree.map_structure(lambda one: ones if one is None else one, weights)


def spread_weights(weights: Any, outputs: Any) -> Any:
    """Weights of examples or positions as weights of all positions of dense outputs.

    Args:
        weights: Shape `(batch,)`, `(batch, 1)` or that of the positions; `None` for none. For
            several outputs also a dict or list of such.
        outputs: The outputs; weights of those of shape `(batch, outputs)` stay what they are.

    Returns:
        Weights of shape `(batch, ...)`, in a structure where outputs of several need different
        ones.

    Raises:
        ValueError: If there is one for neither each example nor each position.
    """
    if weights is None:
        return weights
    if isinstance(weights, dict):
        return {name: spread_weights(one, outputs[name]) for name, one in weights.items()}
    if keras.tree.is_nested(weights):
        return [spread_weights(*pair) for pair in zip(weights, outputs, strict=True)]
    if keras.tree.is_nested(outputs):
        if all(len(one.shape) < 3 for one in keras.tree.flatten(outputs)):
            return weights
        return keras.tree.map_structure(lambda one: spread_weights(weights, one), outputs)
    return _spread(tf.convert_to_tensor(weights), outputs)


def _spread(weights, outputs):
    positions, shape = outputs.shape[:-1], weights.shape
    if outputs.shape.rank < 3:
        if shape.rank > 1 and shape[1:].num_elements() != 1:
            raise ValueError(
                "`sample_weight` must have one weight for each example, of shape (batch,). "
                f"Received: weights of shape {tuple(shape)}. To weigh outputs, use a loss that "
                "does so."
            )
        return weights
    if shape.rank == positions.rank + 1 and shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    missing = positions.rank - weights.shape.rank
    if missing < 0 or not _fit(weights, positions):
        raise ValueError(
            "`sample_weight` must have one number for each example or for each position of the "
            f"outputs, shape (batch,) or {tuple(positions)}. Received: weights of shape "
            f"{tuple(shape)} for outputs of shape {tuple(outputs.shape)}"
        )
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * missing], 0))
    return tf.broadcast_to(weights, tf.shape(outputs)[:-1])


def _fit(weights, positions):
    sizes = zip(weights.shape[1:], positions[1:], strict=False)
    return all(1 in (one, other) or None in (one, other) or one == other for one, other in sizes)


def weights_of(values: tf.Tensor, weights: Any, mask: tf.Tensor | None) -> Any:
    """Weights of a term's values: of examples, or of positions that a mask may leave out.

    Args:
        values: Values of a term, shape `(batch, ...)`.
        weights: Weights of examples or of positions, or `None`. A value of a whole example has the
            mean weight of its positions, and of several outputs.
        mask: Which positions count, or `None` for all.

    Returns:
        Weights of the shape of the values, or `None`.
    """
    if weights is not None and values.shape.rank > 1:
        weights = spread_weights(tf.cast(weights, values.dtype), values[..., None])
    elif weights is not None:
        leaves = [tf.cast(one, values.dtype) for one in keras.tree.flatten(weights)]
        weights = tf.add_n([mean_over_positions(one) for one in leaves]) / len(leaves)
    if mask is None or values.shape.rank == 1:
        return weights
    mask = tf.cast(mask, values.dtype)
    return mask if weights is None else mask * weights


def count_values(values: tf.Tensor, examples: Count, mask: tf.Tensor | None) -> Count:
    """Number of values that count, on this replica and on all.

    Args:
        values: Values of a term, shape `(batch, ...)`.
        examples: Number of examples.
        mask: Which positions count, or `None` for all.
    """
    if values.shape.rank == 1:
        return examples
    if mask is not None:
        return count_true(mask)
    positions = tf.reduce_prod(tf.shape(values)[1:])
    return Count(*(count * positions for count in examples))


def count_true(mask: tf.Tensor) -> Count:
    """Number of positions that a mask lets count, on this replica and on all."""
    return global_counts(tf.math.count_nonzero(mask, dtype=tf.int32))[0]
