"""The inputs of a student, and their names in its artifact."""

import re
from typing import Any

import keras
import tensorflow as tf

__all__ = ["declared_inputs", "input_names", "input_specs"]


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
    tensors = keras.tree.flatten(inputs)
    names = [re.sub(r"\W", "_", name) for name in input_names(inputs)]
    if len(set(names)) < len(names):
        names = [f"input_{position}" for position in range(len(names))]
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]), _dtype(tensor), name)
        for name, tensor in zip(names, tensors, strict=True)
    ]
    return keras.tree.pack_sequence_as(inputs, specs)


def input_names(inputs: Any) -> list[str]:
    """The key or name of each input, or `input_0` and so on, in the order of the structure."""
    entries = enumerate(keras.tree.flatten_with_path(inputs))
    return [_name(position, *entry) for position, entry in entries]


def _name(position, where, tensor):
    if where and isinstance(where[-1], str):
        return where[-1]
    if isinstance(tensor, keras.KerasTensor) and not tensor.name.startswith("keras_tensor"):
        return tensor.name
    return f"input_{position}"  # An array, or an automatic name with a number that increases.


def _dtype(tensor):
    if tensor.dtype in ("bfloat16", "float16", "float64"):
        return "float32"
    is_text = not isinstance(tensor.dtype, str) and tensor.dtype.kind in "OSU"
    return "string" if is_text else tensor.dtype
