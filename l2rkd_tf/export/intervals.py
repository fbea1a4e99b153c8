"""Confidence intervals of measured fractions."""

from l2rkd_tf.utils.validation import is_number, is_positive_integer

__all__ = ["wilson_interval"]


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson confidence interval of a fraction that was estimated by counting.

    Unlike `p ± 1.96 stderr` it stays within 0 and 1, and it does not shrink to a point when all
    trials succeed.

    Args:
        successes: Number of successes, an integer from 0 to `trials`.
        trials: Number of trials, an integer of at least 1.

    Returns:
        Lower and upper bound, two floats from 0 to 1.

    Raises:
        ValueError: If `trials` is below 1, or `successes` is not between 0 and `trials`.

    Example:
        >>> low, high = wilson_interval(351, 360)
        >>> round(low, 4), round(high, 4)
        (0.9532, 0.9868)

    Reference: Wilson, Probable Inference, the Law of Succession, and Statistical Inference
    (Journal of the American Statistical Association, 1927).
    """
    if not is_positive_integer(trials):
        raise ValueError(f"`trials` must be an integer of at least 1. Received: trials={trials!r}")
    is_zero = is_number(successes) and successes == 0
    if not (is_zero or is_positive_integer(successes)) or successes > trials:
        raise ValueError(
            f"`successes` must be an integer from 0 to trials={trials}. "
            f"Received: successes={successes!r}"
        )
    # Imported here, since it takes a second.
    from scipy import stats

    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
