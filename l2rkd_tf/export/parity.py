"""Whether an artifact computes the same as its student."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from l2rkd_tf.export.outputs import of_output
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.export.spread import robust_spread

__all__ = ["Comparison", "Limits", "check_finite", "compare", "compare_each", "worst"]

# The largest outputs of one example that differ by less than float32 rounds are equally large.
_TIE = 1e-6


class Limits(NamedTuple):
    """What an artifact must keep to, named as in `ExportReport`."""

    tolerance: float
    min_top1_agreement: float


class Comparison(NamedTuple):
    """Differences between outputs and expected ones, named as in `ExportReport`."""

    max_abs_difference: float
    mean_abs_difference: float
    output_spread: float
    top1_agreement: float | None

    @property
    def relative_difference(self) -> float:
        """The largest difference as a fraction of the spread."""
        return self.max_abs_difference / self.output_spread

    def is_within(self, tolerance: float) -> bool:
        """Whether the largest difference is at most this fraction of the spread."""
        return self.max_abs_difference <= tolerance * self.output_spread

    def agrees(self, min_top1_agreement: float) -> bool:
        """Whether enough largest outputs are the same; true if there is only one output."""
        return self.top1_agreement is None or self.top1_agreement >= min_top1_agreement


def check_finite(outputs: Mapping[str, np.ndarray], owner: str, source: str) -> None:
    """Checks the outputs of the student or the artifact, by name, for NaN and Inf."""
    for name, array in outputs.items():
        unusable = np.sum(~np.isfinite(array))
        if unusable:
            raise ExportError(
                f"{unusable} of {array.size} outputs of the {owner} are NaN or Inf"
                f"{of_output(name, outputs)}, on inputs from {source}."
            )


def compare(expected: np.ndarray, actual: np.ndarray) -> Comparison:
    """Compares outputs of shape `(examples, ...)` with the expected ones."""
    difference = np.abs(expected.astype("float64") - actual)
    return Comparison(
        float(difference.max()),
        float(difference.mean()),
        robust_spread(expected),
        _top1_agreement(expected, actual) if expected.shape[-1] > 1 else None,
    )


def compare_each(
    expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]
) -> dict[str, Comparison]:
    """Compares outputs by name with the expected ones, each with its own spread."""
    return {name: compare(array, actual[name]) for name, array in expected.items()}


def worst(comparisons: Iterable[Comparison]) -> Comparison:
    """The differences of the output that differs most, and the lowest agreement of all."""
    found = list(comparisons)
    agreements = [one.top1_agreement for one in found if one.top1_agreement is not None]
    farthest = max(found, key=lambda one: one.relative_difference)
    return farthest._replace(top1_agreement=min(agreements, default=None))


def _top1_agreement(expected, actual):
    chosen = np.take_along_axis(expected, actual.argmax(axis=-1)[..., None], axis=-1)
    size = np.abs(expected).max(axis=-1, keepdims=True)
    return float(np.mean(chosen >= expected.max(axis=-1, keepdims=True) - _TIE * size))
