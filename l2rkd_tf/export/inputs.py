"""The inputs of a student, and their names in its artifact."""

import re
from typing import Any

import keras
import tensorflow as tf

__all__ = ["declared_inputs", "input_specs"]


def declared_inputs(student: keras.Model) -> Any:
    """The symbolic inputs of a Sequential or functional student; None for a subclassed one."""
    try:
        return student.inputs[0] if isinstance(student, keras.Sequential) else student.input
    except AttributeError:
        return None


def input_specs(inputs: Any) -> Any:
    """A spec for each input of the artifact, with a name that is the same in every run.

    Args:
        inputs: Symbolic inputs of a student, or arrays: a structure.

    Returns:
        A `tf.TensorSpec` for each, in the same structure, of any batch size.
    """
    tensors = keras.tree.flatten_with_path(inputs)
    names = [_name(position, *entry) for position, entry in enumerate(tensors)]
    if len(set(names)) < len(names):
        names = [f"input_{position}" for position in range(len(names))]
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]), _dtype(tensor), name)
        for name, (_, tensor) in zip(names, tensors, strict=True)
    ]
    return keras.tree.pack_sequence_as(inputs, specs)


def _name(position, where, tensor):
    if where and isinstance(where[-1], str):
        name = where[-1]
    elif isinstance(tensor, keras.KerasTensor) and not tensor.name.startswith("keras_tensor"):
        name = tensor.name
    else:  # An array, or an automatic name with a number that Keras increments.
        name = f"input_{position}"
    return re.sub(r"\W", "_", name)


def _dtype(tensor):
    if tensor.dtype == "float64":
        return "float32"
    is_text = not isinstance(tensor.dtype, str) and tensor.dtype.kind in "OSU"
    return "string" if is_text else tensor.dtype
