"""Ids that a model declares as floats, as `keras.Input` does by default."""

from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features import has_graph, reads_ids
from l2rkd_tf.utils.model_checks import all_layers

__all__ = ["with_ids_as_integers"]


def with_ids_as_integers(inputs: Any, student: keras.Model) -> Any:
    """The inputs of a student, as a list; those that an `Embedding` reads are integers.

    Args:
        inputs: Inputs, symbolic ones or tensors.
        student: The student. Without a graph, the inputs are returned as they are.

    Raises:
        ValueError: If such ids are declared as floats, and other inputs are floats too: a region
            could not tell them apart.
    """
    layers = all_layers(student)
    embeds = any(isinstance(layer, keras.layers.Embedding) for layer in layers)
    if not embeds or not has_graph(student):
        return inputs
    leaves = keras.tree.flatten(inputs)
    are_ids = reads_ids(student)
    floats = [tf.as_dtype(leaf.dtype).is_floating for leaf in leaves]
    hidden = [is_id and is_float for is_id, is_float in zip(are_ids, floats, strict=True)]
    if any(hidden) and hidden != floats:
        names = [
            one.name for one, is_hidden in zip(student.inputs, hidden, strict=True) if is_hidden
        ]
        raise ValueError(
            f"`region` must be given, or ids be declared as integers: an Embedding of `student` "
            f"reads {names}, declared as floats, next to other floats. Received: region=None. "
            "Declare them with `keras.Input(shape, dtype='int32')`."
        )
    return [
        keras.KerasTensor(leaf.shape, "int32") if is_hidden else leaf
        for leaf, is_hidden in zip(leaves, hidden, strict=True)
    ]
