"""The examples on which an artifact is compared with its student, and calibrated."""

import dataclasses
import itertools
import operator
from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.export.inputs import declared_inputs, input_names, input_specs
from l2rkd_tf.teacher_cache.inputs import split_inputs
from l2rkd_tf.utils.types import Data

__all__ = ["Examples", "RepresentativeData", "batches", "examples_for"]

#: Examples of a student's inputs, alone or with labels, weights and cached teacher outputs.
RepresentativeData: TypeAlias = Data | keras.utils.PyDataset

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
        positions: Position of each example in the data it was taken from.
    """

    arrays: Any
    specs: Any
    source: str
    positions: np.ndarray

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The arrays by the names of the artifact's inputs."""
        names = [spec.name for spec in keras.tree.flatten(self.specs)]
        return dict(zip(names, keras.tree.flatten(self.arrays), strict=True))


def batches(arrays: Any, size: int = _BATCH_SIZE) -> Iterator[Any]:
    """The examples of a structure of arrays, in the same structure, at most `size` at a time."""
    for start in range(0, len(keras.tree.flatten(arrays)[0]), size):
        yield keras.tree.map_structure(operator.itemgetter(slice(start, start + size)), arrays)


def examples_for(student: keras.Model, representative_data: RepresentativeData | None) -> Examples:
    """Examples from the data, or uniform ones without data."""
    declared = declared_inputs(student)
    if representative_data is not None:
        given, positions = _gather(representative_data, declared)
        taken = given if declared is None else declared
        specs = input_specs(taken)
        given = _in_order(given, taken)
        examples = Examples(_align(given, specs), specs, "representative_data", positions)
        _check_finite(examples)
        return examples
    if declared is None:
        raise ValueError(
            "`representative_data` is required for a subclassed student, which does not declare "
            "its inputs. Pass an array of some inputs, or a dataset."
        )
    specs = input_specs(declared)
    return Examples(_draw_uniform(specs), specs, "uniform [0, 1]", np.arange(_UNIFORM_EXAMPLES))


def _gather(data, declared):
    """At most 256 examples, as a structure of arrays, and their positions in the data."""
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        inputs = _first_examples(data, declared)
        return inputs, np.arange(len(keras.tree.flatten(inputs)[0]))
    inputs = keras.tree.map_structure(_as_array, _without_labels(data, declared))
    arrays = keras.tree.flatten(inputs)
    count = len(arrays[0]) if arrays else 0
    # Evenly spaced, to cover data that are sorted by class.
    chosen = np.linspace(0, max(count - 1, 0), min(count, _MAX_EXAMPLES)).astype(int)
    if any(len(array) != count for array in arrays):
        return inputs, chosen  # which does not fit the student
    return keras.tree.map_structure(lambda array: array[chosen], inputs), chosen


def _first_examples(data, declared):
    num_axes = [1] if declared is None else [len(one.shape) for one in keras.tree.flatten(declared)]
    gathered, count = [], 0
    for element in _elements(data):
        # A tuple is `(x, y)` here, but cached inputs are a tuple as well.
        cached, _ = split_inputs(element)
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(
            element if cached is element else (cached,)
        )
        batch = keras.tree.map_structure(np.asarray, split_inputs(inputs)[0])
        found = [array.ndim for array in keras.tree.flatten(batch)]
        if 0 in found or found == [axes - 1 for axes in num_axes]:
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


def _elements(data):
    if isinstance(data, tf.data.Dataset):
        return iter(data)
    count = data.num_batches
    return (data[index] for index in (itertools.count() if count is None else range(count)))


def _without_labels(data, declared):
    """`x` of arrays `(x, y)` or `(x, y, sample_weight)`, unless the student takes a tuple."""
    inputs, _ = split_inputs(data)
    if inputs is data and isinstance(data, tuple) and 1 <= len(data) <= 3:
        takes_one = declared is None or len(keras.tree.flatten(declared)) == 1
        if takes_one or isinstance(data[0], (tuple, list, dict)):
            inputs, _ = split_inputs(data[0])
    return inputs


def _as_array(values):
    array = np.asarray(values)
    if array.ndim == 0 or (array.dtype == object and not isinstance(array.flat[0], (str, bytes))):
        raise ValueError(
            "`representative_data` must be a batched `tf.data.Dataset`, a `keras.utils.PyDataset`, "
            "or arrays of shape (examples, ...). Received: an entry of "
            f"{type(values if array.ndim else array[()])}."
        )
    return array


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


def _in_order(given, taken):
    """The given arrays in the order of the inputs that the student takes: a dict says by name."""
    if not isinstance(given, dict):
        return given
    names = input_names(taken)
    if set(names) <= set(given):
        return [given[name] for name in names]
    if len(names) > 1 and input_names(given) != names:
        raise ValueError(
            f"`representative_data` must have the names of the student's inputs, {names}. "
            f"Received: a dict with {list(given)}."
        )
    return given


def _align(given, specs):
    """The given arrays in the structure, and with the dtypes, of the student's inputs."""
    flat_specs = keras.tree.flatten(specs)
    arrays = keras.tree.flatten(given)
    counts = {len(array) for array in arrays}
    fits = len(arrays) == len(flat_specs) and all(map(_fits, arrays, flat_specs))
    if not fits or len(counts) != 1 or counts == {0}:
        raise ValueError(
            f"`representative_data` must hold examples of the student's inputs {flat_specs}. "
            f"Received: {[(array.shape, str(array.dtype)) for array in arrays[:5]]}."
            + _advice(arrays, flat_specs)
        )
    with np.errstate(over="ignore"):  # a number too large for float32 is found to be infinite
        arrays = [
            array.astype(spec.dtype.as_numpy_dtype)
            for array, spec in zip(arrays, flat_specs, strict=True)
        ]
    return keras.tree.pack_sequence_as(specs, arrays)


def _fits(array, spec):
    if (spec.dtype == tf.string) != (array.dtype.kind in "OSU"):
        return False
    return spec.shape.is_compatible_with(array.shape) and (
        spec.dtype.is_floating or not np.issubdtype(array.dtype, np.floating)
    )


def _advice(arrays, specs):
    """What would make data fit, where their shapes show it."""
    if len(arrays) == len(specs) and all(
        spec.shape[1:].is_compatible_with(array.shape)
        for array, spec in zip(arrays, specs, strict=True)
    ):
        return " They are single examples: add an axis for the batch."
    if len(specs) == 1 < len(arrays) and _fits(arrays[0], specs[0]):
        return " Without labels and weights they would fit: pass only x."
    return ""


def _check_finite(examples):
    for name, array in examples.by_name.items():
        if not np.issubdtype(array.dtype, np.inexact):
            continue
        unusable = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if unusable.any():
            indices = examples.positions[unusable]
            more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
            raise ValueError(
                "`representative_data` must hold finite numbers. Received: NaN or Inf in the input "
                f"{name!r} of examples {indices[:5].tolist()}{more}, counted from 0. Leave them "
                "out."
            )
