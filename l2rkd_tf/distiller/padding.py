"""Padding of sequences as part of a point.

A sequence that is mixed with a shorter one is data only where both are: elsewhere it is padding, so
that no position holds a mixture of data and padding, and models mask it as they mask the data.
Swapped positions bring their padding along, and a fixed input keeps its own.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.regions.leaves import named_leaves
from l2rkd_tf.regions.points import RegionPoints
from l2rkd_tf.utils.model_checks import all_layers

__all__ = ["mask_values", "padded"]


def mask_values(inputs: Any, *models: keras.Model | None) -> list[float | None]:
    """Value of padding in each input, as `keras.layers.Masking` at the inputs of models tells.

    Args:
        inputs: Inputs of a batch.
        *models: Keras models; the first one that masks an input counts.

    Returns:
        A number for each tensor of the inputs, `None` where none is masked.
    """
    leaves = keras.tree.flatten(inputs)
    found = [_masks_of(model, len(leaves)) for model in models if model is not None]
    return [
        next((values[n] for values in found if values[n] is not None), None)
        for n in range(len(leaves))
    ]


def _masks_of(model, num_inputs):
    maskings = [one for one in all_layers(model) if isinstance(one, keras.layers.Masking)]
    if num_inputs == 1:  # also where layers are not connected in a graph
        return [maskings[0].mask_value if maskings else None]
    symbols = list(getattr(model, "inputs", None) or [None] * num_inputs)
    return [
        next((one.mask_value for one in maskings if one.input is symbol), None)
        for symbol in symbols
    ]


def padded(moved: Any, inputs: Any, values: Sequence[float | None], drawn: RegionPoints) -> Any:
    """Region points with padding where an example or one of its partners has padding.

    Args:
        moved: Region points.
        inputs: Inputs of the batch from which they were drawn, of the same structure.
        values: Value of padding of each input, or `None`; empty for none.
        drawn: The draw.

    Returns:
        The points, of the same structure.
    """
    if all(value is None for value in values):
        return moved

    def pad(name, points, examples, value):
        if value is None or name in drawn.fixed:
            return points
        # As in `keras.layers.Masking`: padding is a position at which all values are this one.
        is_data = tf.reduce_any(tf.not_equal(examples, tf.cast(value, examples.dtype)), axis=-1)
        is_data = drawn.mask_at_region(is_data)[..., None]
        return tf.where(is_data, points, tf.cast(value, points.dtype))

    leaves = named_leaves(inputs)
    points = map(pad, leaves, keras.tree.flatten(moved), leaves.values(), values)
    return keras.tree.pack_sequence_as(moved, list(points))
