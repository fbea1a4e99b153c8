"""How far values spread, such that a few examples out of order do not change it."""

import numpy as np

__all__ = ["FRACTION", "distances", "outliers", "robust_spread"]

FRACTION = 0.9  # of the examples count as usual
# An outlier is this many times farther from the median than the usual examples.
_OUTLIER = 10.0
# Of outputs that hardly differ, as a fraction of their size: float32 has seven digits.
_SMALLEST_SPREAD = 1e-2


def distances(values: np.ndarray) -> np.ndarray:
    """Absolute distance of each value of an example, shape `(examples, values)`, from the median.

    The median is that of all values: int8 has one range for a tensor, and the outputs of a
    classifier differ as much between classes as between examples.
    """
    flat = values.reshape(len(values), -1).astype("float64")
    return np.abs(flat - np.median(flat))


def robust_spread(values: np.ndarray) -> float:
    """Twice the distance from the median that all values of 90 % of the examples keep.

    It is at least a hundredth of their size. The size stands for it if these values are equal,
    and 1 if they are 0.
    """
    spread = 2 * _of_most(distances(values))
    size = _of_most(np.abs(values.reshape(len(values), -1)))
    return max(spread, _SMALLEST_SPREAD * size) if spread else size or 1.0


def outliers(values: np.ndarray) -> np.ndarray:
    """Indices of the examples that are far outside the range of the others, farthest first."""
    farthest = distances(values).max(axis=1)
    limit = _OUTLIER * _of_most(farthest)
    found = np.flatnonzero(farthest > limit) if limit > 0 else np.array([], int)
    return found[np.argsort(-farthest[found], kind="stable")]


def _of_most(sizes):
    """The largest number of each example, at most this in 90 % of the examples."""
    largest = sizes.reshape(len(sizes), -1).max(axis=1)
    return float(np.quantile(largest, FRACTION, method="lower"))
