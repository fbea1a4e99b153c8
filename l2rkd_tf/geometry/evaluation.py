"""Evaluates models batch by batch; means over examples with their standard errors."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import model_outputs
from l2rkd_tf.regions import Region
from l2rkd_tf.teacher_cache.inputs import without_outputs
from l2rkd_tf.utils.output_checks import check_outputs_agree
from l2rkd_tf.utils.types import Data, Divergence, TensorLike, Tensors
from l2rkd_tf.utils.validation import is_number, is_positive_float32, is_positive_integer

__all__ = [
    "Batches",
    "as_arrays",
    "batched",
    "check_region",
    "check_temperature",
    "checked_fractions",
    "half_width",
    "mean_and_stderr",
    "outputs_of_both",
    "per_example",
    "ratio_and_stderr",
    "results_of",
    "same_decisions",
    "traced",
]


class Batches(NamedTuple):
    """Data in batches.

    Attributes:
        dataset: Yields flat tuples of tensors, since `tf.data` would convert a list of inputs to
            one tensor.
        structure: What they are packed into: `(inputs,)` or `(inputs, labels)`.
    """

    dataset: tf.data.Dataset
    structure: Any


def batched(x: Data, batch_size: int, labels: TensorLike | None = None) -> Batches:
    """Data in batches of one size, from arrays or a dataset.

    Args:
        x: Inputs of shape `(examples, ...)`, an array, or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or of `(inputs, labels[, weights])`, which is rebatched.
        batch_size: Examples in a batch.
        labels: Labels of `x`, if `x` is not a dataset.

    Returns:
        `Batches`, without weights.

    Raises:
        ValueError: If `batch_size` is below 1, arrays are empty or differ in length, or a dataset
            is infinite, not batched, or given together with `labels`.
    """
    if not is_positive_integer(batch_size):
        raise ValueError(
            f"`batch_size` must be an integer of at least 1. Received: batch_size={batch_size!r}"
        )
    if isinstance(x, tf.data.Dataset):
        return _of_dataset(x, batch_size, labels)
    structure = (as_arrays(x),) if labels is None else (as_arrays(x), np.asarray(labels))
    leaves = keras.tree.flatten(structure)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    if len(lengths) != 1 or not lengths - {None, 0}:
        raise ValueError(
            "`x` and `labels` must be arrays of shape (examples, ...) of equal length, at least "
            f"1. Received: arrays of shapes {[leaf.shape for leaf in leaves]}"
        )
    return Batches(tf.data.Dataset.from_tensor_slices(tuple(leaves)).batch(batch_size), structure)


def _of_dataset(dataset, batch_size, labels):
    if labels is not None:
        raise ValueError(
            "`labels` must be part of the dataset if `x` is one: (inputs, labels). Received: both "
            "a dataset and labels"
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "`x` must be finite. Received: a dataset that repeats forever. Use `x.take(...)`, or "
            "leave out `repeat()`."
        )
    spec = dataset.element_spec
    structure = without_outputs(spec)[:2]
    if any(leaf.shape.rank == 0 for leaf in keras.tree.flatten(structure)):
        raise ValueError(
            f"`x` must be a batched dataset. Received: a dataset of single examples, {spec}. Use "
            "`x.batch(...)`."
        )

    def flat(*element):
        return tuple(keras.tree.flatten(without_outputs(element)[:2]))

    return Batches(dataset.rebatch(batch_size).map(flat), structure)


def as_arrays(x: Tensors) -> Any:
    """NumPy arrays of a structure of inputs; nested lists of numbers are one array."""
    if not all(np.ndim(leaf) for leaf in keras.tree.flatten(x)) and not isinstance(x, dict):
        return np.asarray(x)
    return keras.tree.map_structure(np.asarray, x)


def per_example(step: Callable[[Any, Any, tf.Tensor], Any], batches: Batches) -> Any:
    """Results of a step for each example: `results_of(traced(step, batches), batches)`."""
    return results_of(traced(step, batches), batches)


def traced(step: Callable[[Any, Any, tf.Tensor], Any], batches: Batches) -> Any:
    """A step that is traced once, for batches like these.

    Args:
        step: `step(inputs, labels, number)`, traced once; `labels` is `None` for data without
            labels, `number` counts the batches from 0, and uint8 inputs are cast to float32. It
            returns tensors of shape `(batch, ...)`, or a tuple of such.
        batches: `Batches`.

    Returns:
        A `tf.function` for `results_of`.
    """
    signature = [batches.dataset.element_spec, tf.TensorSpec((), tf.int32)]

    @tf.function(input_signature=signature)
    def run(leaves, number):
        inputs, *labels = keras.tree.pack_sequence_as(batches.structure, leaves)
        inputs = keras.tree.map_structure(_as_float, inputs)
        return step(inputs, labels[0] if labels else None, number)

    return run


def results_of(run: Any, batches: Batches) -> Any:
    """Results of a traced step for each example, evaluated batch by batch.

    Args:
        run: What `traced` has returned.
        batches: `Batches`.

    Returns:
        The results as NumPy arrays of shape `(examples, ...)`.

    Raises:
        ValueError: If there are no examples.
    """
    results = [
        keras.tree.map_structure(lambda tensor: tensor.numpy(), run(leaves, tf.constant(number)))
        for number, leaves in enumerate(batches.dataset)
    ]
    if not results:
        raise ValueError("`x` must hold at least one example. Received: an empty dataset")
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *results)


def _as_float(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor


def outputs_of_both(teacher: keras.Model, student: keras.Model, inputs: Tensors) -> list[tf.Tensor]:
    """As `model_outputs`, of two models that have outputs of the same shape."""
    outputs = [model_outputs(model, inputs) for model in (teacher, student)]
    check_outputs_agree(*(output.shape for output in outputs))
    return outputs


def same_decisions(teacher: tf.Tensor, student: tf.Tensor, divergence: Divergence) -> tf.Tensor:
    """Whether two models decide alike, at each example or position.

    Args:
        teacher: Outputs, shape `(batch, ..., outputs)`.
        student: Outputs of the same shape.
        divergence: `"kl"` for classes; `"binary_kl"` for logits of independent yes/no outputs, of
            which it is the fraction; `"mse"` for outputs that decide nothing.

    Returns:
        0 to 1, float32, shape `(batch, ...)`; NaN where an output is NaN, and for `"mse"`.
    """
    nan = np.float32(np.nan)
    if divergence == "mse":
        return tf.fill(tf.shape(teacher)[:-1], nan)
    unknown = tf.math.is_nan(teacher) | tf.math.is_nan(student)
    if divergence == "binary_kl":
        same = (teacher > 0.0) == (student > 0.0)
        return tf.reduce_mean(tf.where(unknown, nan, tf.cast(same, tf.float32)), axis=-1)
    same = tf.argmax(teacher, axis=-1) == tf.argmax(student, axis=-1)
    return tf.where(tf.reduce_any(unknown, axis=-1), nan, tf.cast(same, tf.float32))


def check_region(region: object) -> None:
    """Checks that an argument is a region."""
    if not isinstance(region, Region):
        raise ValueError(f"`region` must be a l2rkd_tf.regions.Region. Received: region={region!r}")


def check_temperature(temperature: object) -> None:
    """Checks that a temperature is positive."""
    if not is_positive_float32(temperature):
        raise ValueError(
            f"`temperature` must be a positive number. Received: temperature={temperature!r}"
        )


def checked_fractions(fractions: Sequence[float] | np.ndarray) -> np.ndarray:
    """Checked fractions of the way between two points, float32, shape `(fractions,)`."""
    values = list(fractions) if np.iterable(fractions) else [fractions]
    if not values or not all(is_number(value) and 0.0 <= value <= 1.0 for value in values):
        raise ValueError(
            "`fractions` must be numbers from 0 to 1, at least one. "
            f"Received: fractions={fractions!r}"
        )
    return np.asarray(values, np.float32)


def mean_and_stderr(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over examples and their standard errors.

    Args:
        values: Shape `(examples, ...)`.

    Returns:
        Means and standard errors `s / sqrt(examples)`, float64, shape `(...)`; NaN for a single
        example.
    """
    values = np.asarray(values, np.float64)
    return values.mean(axis=0), _stderr(values)


def half_width(stderr: TensorLike) -> np.ndarray:
    """Half widths of the 95 % confidence intervals of means, from their standard errors.

    About `1.96 stderr`: means of many examples are nearly normal.
    """
    # Imported here, since nothing else needs it.
    from scipy import special

    return special.ndtri(0.975) * np.asarray(stderr, np.float64)


def ratio_and_stderr(
    numerators: np.ndarray, denominators: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ratios of two means over examples and their standard errors.

    By the delta method: with `r = mean(a) / mean(b)`, the standard error is that of
    `mean(a - r b) / mean(b)`, the first-order error of `r`.

    Args:
        numerators: `a`, shape `(examples, ...)`.
        denominators: `b`, shape `(examples, ...)`.

    Returns:
        Ratios and standard errors, float64, shape `(...)`; NaN where the denominators are all 0.
    """
    numerators = np.asarray(numerators, np.float64)
    denominators = np.asarray(denominators, np.float64)
    mean = denominators.mean(axis=0)
    mean = np.where(mean == 0.0, np.nan, mean)
    ratio = numerators.mean(axis=0) / mean
    return ratio, _stderr(numerators - ratio * denominators) / np.abs(mean)


def _stderr(values):
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))
