"""Whether an artifact computes the same as its student."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.export.inputs import batches
from l2rkd_tf.export.report import ExportError

__all__ = ["Comparison", "check_finite", "compare", "student_outputs"]


class Comparison(NamedTuple):
    """Differences between outputs and expected ones, named as in `ExportReport`."""

    max_abs_difference: float
    mean_abs_difference: float
    output_spread: float
    top1_agreement: float | None

    def is_within(self, tolerance: float) -> bool:
        """Whether the largest difference is at most this fraction of the spread."""
        return self.max_abs_difference <= tolerance * self.output_spread


def student_outputs(student: keras.Model, arrays: Any) -> np.ndarray:
    """The student's outputs on all examples, float32, shape `(examples, ...)`."""
    # On the CPU, where the artifact runs: a GPU may round float32 products to fewer bits.
    with tf.device("CPU"):
        outputs = [student(batch, training=False) for batch in batches(arrays)]
    if not tf.is_tensor(outputs[0]) or len(outputs[0].shape) < 2:
        raise ValueError(
            "`student` must have one output of shape (batch, ...). Received: a student "
            f"whose output is {keras.tree.map_structure(lambda x: x.shape, outputs[0])}."
        )
    return np.concatenate(outputs).astype("float32")


def check_finite(outputs: np.ndarray, owner: str, source: str) -> None:
    """Checks the outputs of the student or the artifact for NaN and Inf."""
    unusable = np.sum(~np.isfinite(outputs))
    if unusable:
        raise ExportError(
            f"{unusable} of {outputs.size} outputs of the {owner} are NaN or Inf, on inputs from "
            f"{source}."
        )


def compare(expected: np.ndarray, actual: np.ndarray) -> Comparison:
    """Compares outputs of shape `(examples, ...)` with the expected ones."""
    difference = np.abs(expected.astype("float64") - actual)
    # For a student with constant outputs, their size is used instead.
    spread = float(np.ptp(expected)) or float(np.abs(expected).max()) or 1.0
    top1 = None
    if expected.shape[-1] > 1:
        top1 = float(np.mean(expected.argmax(axis=-1) == actual.argmax(axis=-1)))
    return Comparison(float(difference.max()), float(difference.mean()), spread, top1)
