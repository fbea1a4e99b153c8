"""Padding of sequences as part of a point.

A sequence that is mixed with a shorter one is data only where both are: elsewhere it is padding, so
that no position holds a mixture of data and padding, and models mask it as they mask the data.
Swapped positions bring their padding along, and a fixed input keeps its own.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features import has_graph, taken_leaves
from l2rkd_tf.features.graph import Recorder, trace
from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.leaves import named_leaves
from l2rkd_tf.regions.points import RegionPoints
from l2rkd_tf.utils.model_checks import all_layers

__all__ = ["mask_values", "padded", "points_of_draw"]

# Values of padding in the inputs of models that were traced before, with the layers of then: steps
# that are not compiled would call these again and again.
_KNOWN: Any = weakref.WeakKeyDictionary()


def mask_values(inputs: Any, *models: keras.Model | None) -> list[float | None]:
    """Value of padding in each input, as `keras.layers.Masking` at the inputs of models tells.

    Args:
        inputs: Inputs of a batch.
        *models: Keras models; the first one that masks an input counts.

    Returns:
        A number for each tensor of the inputs, `None` where none is masked.
    """
    values: list[float | None] = [None] * len(keras.tree.flatten(inputs))
    for model in models:
        for number, value in _masks_of(model, inputs).items():
            if values[number] is None:
                values[number] = value
    return values


def _masks_of(model, inputs):
    """Value of padding in the inputs that a model masks, by their number."""
    taken = taken_leaves(model, inputs) or range(len(keras.tree.flatten(inputs)))
    if len(taken) == 1:  # also where layers are not connected in a graph
        values = [layer.mask_value for layer in _maskings(model)[:1]]
    else:
        values = _masks_in_graph(model)
    return {n: value for n, value in zip(taken, values, strict=False) if value is not None}


def _maskings(model):
    return [layer for layer in all_layers(model) if isinstance(layer, keras.layers.Masking)]


def _masks_in_graph(model):
    """Value of padding in each input, `None` where it isn't masked first; empty for no masks."""
    if not has_graph(model) or not _maskings(model):
        return []
    layers = list(map(id, all_layers(model)))
    known, values = _KNOWN.get(model, (None, []))
    if known != layers:
        recorder = _MaskRecorder()
        symbols = keras.tree.flatten(trace(model, recorder=recorder).inputs)
        values = [recorder.values.get(id(symbol)) for symbol in symbols]
        _KNOWN[model] = layers, values
    return values


class _MaskRecorder(Recorder):
    """Calls layers, and notes the value of padding in tensors that `Masking` gets.

    Attributes:
        values: A number or `None` for each such tensor, by its `id`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[int, float | None] = {}

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What the layer outputs."""
        given = next(iter((*args, *kwargs.values())), None)
        if isinstance(layer, keras.layers.Masking):
            taken, values = [0], [layer.mask_value]
        else:
            taken, values = taken_leaves(layer, given), _masks_in_graph(layer)
        tensors = keras.tree.flatten(given)
        for number, value in zip(taken, values, strict=False):
            if self.values.get(id(tensors[number])) is None:
                self.values[id(tensors[number])] = value
        return super().__call__(layer, *args, **kwargs)


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


def points_of_draw(
    region: Region, inputs: Any, coefficients: Any, *models: keras.Model | None
) -> Any:
    """The points of a draw as a step of training has them, with padding where models mask it.

    Args:
        region: The region.
        inputs: Inputs from which it was drawn, none of them uint8.
        coefficients: The draw.
        *models: As in `mask_values`.

    Returns:
        Points of the structure of the inputs.
    """
    drawn = RegionPoints(region, [coefficients])
    return padded(drawn.at_region(inputs), inputs, mask_values(inputs, *models), drawn)
