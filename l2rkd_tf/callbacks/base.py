"""What the callbacks share: checks of the model, and the samples they evaluate."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.geometry.evaluation import batched, per_example
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.leaves import names_in_data
from l2rkd_tf.teacher_cache.inputs import without_outputs
from l2rkd_tf.utils.model_checks import data_format_of
from l2rkd_tf.utils.types import Data
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = [
    "DistillerCallback",
    "check_counts",
    "check_distiller",
    "check_draws_in_inputs",
    "check_epoch",
    "check_one_output",
    "prepare_regions",
    "take_points",
    "try_points",
]

# Enough for each example to have a partner.
_FEW = 2


class DistillerCallback(keras.callbacks.Callback):
    """Base class of callbacks of an `L2RKDDistiller`; `self.model` is the distiller.

    Attributes:
        needs_teacher: Whether the callback runs the distiller's teacher.

    Raises:
        ValueError: When training starts, if the fitted model is not an `L2RKDDistiller`, or has no
            teacher and the callback needs one.
    """

    needs_teacher = False

    def set_model(self, model: L2RKDDistiller) -> None:
        """Called by Keras when training starts."""
        check_distiller(model, type(self).__name__)
        if self.needs_teacher and model.get_teacher() is None:
            raise ValueError(
                f"`callbacks` may contain a {type(self).__name__} only in a distiller with a "
                "teacher. Received: a distiller with teacher=None. Pass the teacher: it is not "
                "run for batches that already carry its outputs."
            )
        super().set_model(model)


def check_distiller(model: object, callback: str) -> None:
    """Checks that a callback was given to the `fit` of a distiller."""
    if not isinstance(model, L2RKDDistiller):
        raise ValueError(
            f"`callbacks` may contain a {callback} only in the fit() of an L2RKDDistiller. "
            f"Received: the fit() of {model!r} of type {type(model).__name__}"
        )


def check_draws_in_inputs(model: L2RKDDistiller, callback: str, way_out: str) -> None:
    """Checks that a callback measures the regions in which a distiller is trained."""
    if model.region_at is not None:
        raise ValueError(
            f"`callbacks` may contain a {callback} only where regions are drawn in inputs, as it "
            f"draws them. Received: a distiller with region_at={model.region_at!r}. {way_out}"
        )


def check_one_output(model: L2RKDDistiller, callback: str) -> None:
    """Checks that the models of a distiller have one output, which a callback compares."""
    outputs = getattr(model.student, "output", None)
    if len(keras.tree.flatten(outputs)) > 1:
        raise ValueError(
            f"`callbacks` may contain a {callback} only for models of one output, which it "
            f"compares. Received: a student with the outputs {model.student.output_names}. Leave "
            "it out."
        )


def prepare_regions(model: L2RKDDistiller, regions: Sequence[Region], inputs: Any) -> None:
    """Tells regions what a distiller tells its own: the data format, and names in the data.

    Args:
        model: The distiller.
        regions: Regions of a callback.
        inputs: Inputs of the samples in which they are drawn.
    """
    for region in regions:
        region.set_data_format(data_format_of(model.student, model.get_teacher()))
        region.rename_fixed(names_in_data(model.student, inputs))


def take_points(data: Data, max_points: int, seed: int) -> tuple[Any, Any]:
    """Inputs and labels of at most `max_points` samples, as NumPy arrays.

    Args:
        data: Inputs, shape `(samples, ...)`, or a list or dict of such; or a tuple
            `(inputs, labels[, weights])`; or a batched `tf.data.Dataset` of either.
        max_points: Maximum number of samples: the first ones of a dataset, a random subset of
            arrays.
        seed: Integer seed of the subset.

    Returns:
        Inputs of shape `(samples, ...)` in their structure, and labels of shape `(samples, ...)`,
        or `None` without labels.

    Raises:
        ValueError: If `data` has no samples, its arrays differ in length, or a dataset is not
            batched.
    """
    if isinstance(data, tf.data.Dataset):
        return _first_points(data, max_points)
    points = keras.tree.map_structure(np.asarray, _points_of(data))
    shapes = [leaf.shape for leaf in keras.tree.flatten(points)]
    counts = {shape[0] if shape else 0 for shape in shapes}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(
            "`data` must be arrays of equal length, at least 1. Received: arrays of shapes "
            f"{shapes}"
        )
    rows = np.sort(np.random.default_rng(seed).permutation(counts.pop())[:max_points])
    return _with_labels(keras.tree.map_structure(lambda leaf: leaf[rows], points))


def _points_of(element):
    """`(inputs,)` or `(inputs, labels)`; regions ignore labels that are structures."""
    element = without_outputs(element)[:2]
    return element[:1] if keras.tree.is_nested(element[-1]) else element


def _with_labels(points):
    return points if len(points) == 2 else (points[0], None)


def try_points(points: tuple[Any, Any], step: Callable[[Any, Any], Any]) -> None:
    """Runs a step on a few samples, so that errors appear before training starts.

    Args:
        points: What `take_points` returned.
        step: `step(inputs, labels)`, which returns tensors of shape `(batch, ...)`.
    """
    inputs, labels = (
        None if part is None else keras.tree.map_structure(lambda leaf: leaf[:_FEW], part)
        for part in points
    )
    per_example(lambda inputs, labels, _: step(inputs, labels), batched(inputs, _FEW, labels))


def _first_points(dataset, max_points):
    if any(leaf.shape.rank == 0 for leaf in keras.tree.flatten(_points_of(dataset.element_spec))):
        raise ValueError(
            "`data` must be a batched dataset. Received: a dataset of single examples, "
            f"{dataset.element_spec}. Use `data.batch(...)`."
        )
    batches, count = [], 0
    for element in dataset:
        batches.append(keras.tree.map_structure(lambda leaf: leaf.numpy(), _points_of(element)))
        count += len(keras.tree.flatten(batches[-1])[0])
        if count >= max_points:
            break
    if not count:
        raise ValueError("`data` must hold at least one sample. Received: an empty dataset")
    return _with_labels(
        keras.tree.map_structure(lambda *leaves: np.concatenate(leaves)[:max_points], *batches)
    )


def check_counts(**counts: object) -> None:
    """Checks that arguments are integers of at least 1."""
    for argument, value in counts.items():
        if not is_positive_integer(value):
            raise ValueError(
                f"`{argument}` must be an integer of at least 1. Received: {argument}={value!r}"
            )


def check_epoch(argument: str, epoch: object) -> None:
    """Checks that an argument is a valid epoch number."""
    if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
        raise ValueError(
            f"`{argument}` must be the number of an epoch, counted from 0. "
            f"Received: {argument}={epoch!r}"
        )
