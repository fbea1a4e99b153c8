"""Ready-made schedules: the value of a setting in each epoch.

Each function returns a schedule, a function of the 0-based epoch that can be pickled.
"""

import functools
import math

import numpy as np

from l2rkd_tf.callbacks.base import check_counts, check_epoch
from l2rkd_tf.utils.types import Schedule
from l2rkd_tf.utils.validation import is_number

__all__ = ["cosine", "linear_warmup", "start_at"]


def linear_warmup(value: float, epochs: int, start_epoch: int = 0) -> Schedule:
    """A linear warm-up from 0 to the full value, optionally after epochs at 0.

    ```
    value * min(1, (epoch - start_epoch + 1) / epochs),   and 0 before start_epoch
    ```

    The first warm-up epoch has `value / epochs` and the last one `value`, so that with
    `start_epoch=0` the value is never 0 and also suits temperatures and radii.

    Args:
        value: Full value, not negative.
        epochs: Number of warm-up epochs, at least 1.
        start_epoch: The first of them, counted from 0.

    Returns:
        Schedule: a function of the epoch.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = linear_warmup(0.9, epochs=3, start_epoch=1)
        >>> [round(schedule(epoch), 2) for epoch in range(5)]
        [0.0, 0.3, 0.6, 0.9, 0.9]

    Reference: linear growth is that of Goyal et al., Accurate, Large Minibatch SGD
    (arXiv:1706.02677), section 2.2, by epochs.
    """
    _check_values(value=value)
    check_counts(epochs=epochs)
    check_epoch("start_epoch", start_epoch)
    return functools.partial(_warmup, value=value, epochs=epochs, start_epoch=start_epoch)


def start_at(epoch: int, value: float) -> Schedule:
    """A value that is 0 before its first epoch.

    ```
    0 if present epoch < epoch else value
    ```

    Args:
        epoch: The first epoch with the value, counted from 0.
        value: The value, not negative.

    Returns:
        Schedule: a function of the epoch.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = start_at(2, 0.9)
        >>> [schedule(epoch) for epoch in range(4)]
        [0.0, 0.0, 0.9, 0.9]

    """
    check_epoch("epoch", epoch)
    _check_values(value=value)
    return functools.partial(_step, value=value, first_epoch=epoch)


def cosine(start: float, end: float, epochs: int) -> Schedule:
    """A value that moves from one number to another along half a cosine wave.

    ```
    end + (start - end) (1 + cos(pi min(1, epoch / (epochs - 1)))) / 2
    ```

    Args:
        start: Value of the first epoch, not negative.
        end: Value of the last epoch and of any after it, not negative.
        epochs: Number of epochs, usually that of `fit`, at least 1 (which leaves `start`).

    Returns:
        Schedule: a function of the epoch.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> schedule = cosine(4.0, 1.0, epochs=3)
        >>> [schedule(epoch) for epoch in range(4)]
        [4.0, 2.5, 1.0, 1.0]

    Reference: the annealing of Loshchilov and Hutter, SGDR (arXiv:1608.03983), equation 5.
    """
    _check_values(start=start, end=end)
    check_counts(epochs=epochs)
    return functools.partial(_cosine, start=start, end=end, epochs=epochs)


def _warmup(present_epoch, *, value, epochs, start_epoch):
    return value * float(np.clip((present_epoch - start_epoch + 1) / epochs, 0.0, 1.0))


def _step(present_epoch, *, value, first_epoch):
    return float(value) if present_epoch >= first_epoch else 0.0


def _cosine(present_epoch, *, start, end, epochs):
    position = min(1.0, present_epoch / max(1, epochs - 1))
    return end + (start - end) * (1.0 + math.cos(math.pi * position)) / 2.0


def _check_values(**values):
    for argument, value in values.items():
        if not is_number(value) or not 0.0 <= value < math.inf:
            raise ValueError(
                f"`{argument}` must be a finite number not below 0. Received: {argument}={value!r}"
            )
