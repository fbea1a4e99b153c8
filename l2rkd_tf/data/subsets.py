"""Class-balanced subsets of labelled data."""

import decimal
from collections.abc import Sequence
from typing import Any

import numpy as np

from l2rkd_tf.data import epoch_order
from l2rkd_tf.utils.validation import is_number

__all__ = ["class_balanced_subset"]


def class_balanced_subset(
    labels: Sequence[int] | np.ndarray, fraction: float, seed: int = 0
) -> np.ndarray:
    """Chooses the same fraction of every class, for training on little labelled data.

    A class of `n` examples keeps `max(1, round(fraction * n))` of them, with halves rounded up. For
    the same `seed`, subsets are nested: a smaller fraction keeps a subset of what a larger one
    keeps, which makes curves over the fraction comparable.

    Args:
        labels: Integer class of each example, shape `(examples,)`.
        fraction: Fraction of each class to keep, in `(0, 1]`.
        seed: Integer in `[0, 2**32)` that decides which examples are kept.

    Returns:
        Indices of the kept examples in ascending order, int64, shape `(kept,)`.

    Raises:
        ValueError: If `labels` is not one-dimensional, or `fraction` or `seed` is out of range.

    Example:
        >>> class_balanced_subset([0, 0, 1, 1, 1, 1], fraction=0.5, seed=0).tolist()
        [1, 2, 4]
    """
    check_fraction(fraction)
    epoch_order.check_seed(seed)
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(
            "`labels` must hold one class for each example, shape `(examples,)`. "
            f"Received: labels of shape {labels.shape}"
        )
    # `RandomState` and not `default_rng`, since only its stream never changes between releases.
    random = np.random.RandomState(seed)
    kept = [
        random.permutation(np.flatnonzero(labels == label))[: _count(fraction, size)]
        for label, size in zip(*np.unique(labels, return_counts=True), strict=True)
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *kept]))


def check_fraction(fraction: Any) -> None:
    """Raises a `ValueError` unless `fraction` is a number in `(0, 1]`."""
    if not is_number(fraction) or not 0 < fraction <= 1:
        raise ValueError(
            "`fraction` must be a number above 0 and at most 1, such as 0.1 for a tenth of each "
            f"class. Received: fraction={fraction!r}"
        )


def _count(fraction, size):
    # In decimal, since in binary 0.29 * 50 falls short of 14.5 and would round down.
    exact = decimal.Decimal(str(float(fraction))) * int(size)
    return max(1, int(exact.to_integral_value(decimal.ROUND_HALF_UP)))
