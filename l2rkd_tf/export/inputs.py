"""The inputs of an artifact, and the examples for comparing it with its student."""

import dataclasses
import operator
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.types import Data

__all__ = ["Examples", "batches", "declared_inputs", "examples_for"]

_MAX_EXAMPLES = 256
_UNIFORM_EXAMPLES = 32
_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Examples:
    """Inputs of a student, and the specs of its artifact's inputs.

    Attributes:
        arrays: Arrays of shape `(examples, ...)`, in the structure of the student's inputs.
        specs: A `tf.TensorSpec` for each of them, in the same structure, of any batch size, with
            the name of the artifact's input.
        source: `"representative_data"` or `"uniform [0, 1]"`.
    """

    arrays: object
    specs: object
    source: str

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The arrays by the names of the artifact's inputs."""
        names = [spec.name for spec in keras.tree.flatten(self.specs)]
        return dict(zip(names, keras.tree.flatten(self.arrays), strict=True))


def batches(arrays: Any, size: int = _BATCH_SIZE) -> Iterator[Any]:
    """The examples of a structure of arrays, in the same structure, at most `size` at a time."""
    for start in range(0, len(keras.tree.flatten(arrays)[0]), size):
        yield keras.tree.map_structure(operator.itemgetter(slice(start, start + size)), arrays)


def declared_inputs(student: keras.Model) -> Any:
    """The symbolic inputs of a Sequential or functional student; None for a subclassed one."""
    try:
        return student.inputs[0] if isinstance(student, keras.Sequential) else student.input
    except AttributeError:
        return None


def examples_for(student: keras.Model, representative_data: Data | None) -> Examples:
    """Examples from the data, or uniform ones without data."""
    declared = declared_inputs(student)
    if representative_data is not None:
        given = _gather(representative_data)
        specs = _input_specs(given if declared is None else declared)
        return Examples(_align(given, specs), specs, "representative_data")
    if declared is None:
        raise ValueError(
            "`representative_data` is required for a subclassed student, which does not declare "
            "its inputs. Pass an array of some inputs, or a dataset."
        )
    specs = _input_specs(declared)
    return Examples(_draw_uniform(specs), specs, "uniform [0, 1]")


def _gather(data):
    """At most 256 examples, as a structure of arrays."""
    if not isinstance(data, tf.data.Dataset):
        return keras.tree.map_structure(_spread_out, data)
    gathered, count = [], 0
    for element in data:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(element)
        batch = keras.tree.map_structure(np.asarray, inputs)
        if any(array.ndim == 0 for array in keras.tree.flatten(batch)):
            raise ValueError("`representative_data` must be batched: add `.batch(32)` to it.")
        gathered.append(batch)
        count += len(keras.tree.flatten(batch)[0])
        if count >= _MAX_EXAMPLES:
            break
    if not gathered:
        raise ValueError(
            "`representative_data` must hold at least one batch. Received: an empty dataset."
        )
    return keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays)[:_MAX_EXAMPLES], *gathered
    )


def _spread_out(array):
    """Evenly spaced examples, to cover data that are sorted by class."""
    array = np.asarray(array)
    if array.ndim == 0 or array.dtype == object:
        raise ValueError(
            "`representative_data` must be a batched `tf.data.Dataset`, or arrays of shape "
            f"(examples, ...). Received: an entry of {type(array[()])}."
        )
    if len(array) <= _MAX_EXAMPLES:
        return array
    return array[np.linspace(0, len(array) - 1, _MAX_EXAMPLES).astype(int)]


def _input_specs(inputs):
    """A spec for each input of the artifact, with a name that is the same in every run."""
    tensors = keras.tree.flatten_with_path(inputs)
    names = [_input_name(position, *entry) for position, entry in enumerate(tensors)]
    if len(set(names)) < len(names):
        names = [f"input_{position}" for position in range(len(names))]
    specs = []
    for name, (_, tensor) in zip(names, tensors, strict=True):
        dtype = "float32" if tensor.dtype == "float64" else tensor.dtype
        specs.append(tf.TensorSpec((None, *tensor.shape[1:]), dtype, name))
    return keras.tree.pack_sequence_as(inputs, specs)


def _input_name(position, where, tensor):
    if where and isinstance(where[-1], str):
        name = where[-1]
    elif isinstance(tensor, keras.KerasTensor) and not tensor.name.startswith("keras_tensor"):
        name = tensor.name
    else:  # An array, or an automatic name with a number that Keras increments.
        name = f"input_{position}"
    return re.sub(r"\W", "_", name)


def _draw_uniform(specs):
    generator = np.random.default_rng(0)

    def draw(spec):
        if not spec.dtype.is_floating or None in spec.shape[1:]:
            raise ValueError(
                f"`representative_data` is required for the input {spec.name!r}, which has unknown "
                f"sizes or does not take floats. It is {spec}."
            )
        shape = (_UNIFORM_EXAMPLES, *spec.shape[1:])
        return generator.uniform(size=shape).astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(draw, specs)


def _align(given, specs):
    """The given arrays in the structure, and with the dtypes, of the student's inputs."""
    flat_specs = keras.tree.flatten(specs)
    names = [spec.name for spec in flat_specs]
    if isinstance(given, dict) and set(names) <= set(given):
        given = [given[name] for name in names]
    arrays = keras.tree.flatten(given)
    counts = {len(array) for array in arrays}
    fits = len(arrays) == len(flat_specs) and all(map(_fits, arrays, flat_specs))
    if not fits or len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"`representative_data` must hold examples of the student's inputs {flat_specs}. "
            f"Received: {[(array.shape, str(array.dtype)) for array in arrays[:5]]}."
        )
    arrays = [
        array.astype(spec.dtype.as_numpy_dtype)
        for array, spec in zip(arrays, flat_specs, strict=True)
    ]
    return keras.tree.pack_sequence_as(specs, arrays)


def _fits(array, spec):
    return spec.shape.is_compatible_with(array.shape) and (
        spec.dtype.is_floating or not np.issubdtype(array.dtype, np.floating)
    )
