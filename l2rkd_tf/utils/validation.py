"""Argument checks shared by several modules."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "check_choice",
    "check_flag",
    "check_number_of_points",
    "checked_seed",
    "is_number",
    "is_positive_float32",
    "is_positive_integer",
    "is_weight",
]

# Range of the positive float32 numbers.
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
_LARGEST = float(np.finfo(np.float32).max)


def is_number(value: Any) -> bool:
    """Whether the value is a real number (a bool is not)."""
    is_real = isinstance(value, (int, float, np.integer, np.floating))
    return is_real and not isinstance(value, bool)


def is_positive_float32(value: Any) -> bool:
    """Whether the value is a number that float32, in which it is used, holds above 0 and finite."""
    # NumPy's numbers bring the bounds to their own dtype, where the bounds may overflow.
    value = value.item() if isinstance(value, np.number) else value
    return is_number(value) and _SMALLEST <= value <= _LARGEST


def is_weight(value: Any) -> bool:
    """Whether the value is 0, or a number that float32 holds above 0 and finite."""
    return is_positive_float32(value) or (is_number(value) and value == 0)


def is_positive_integer(value: Any) -> bool:
    """Whether the value is an integer of at least 1."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and bool(value >= 1)


def check_flag(argument: str, value: object) -> None:
    """Checks that an argument is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{argument}` must be True or False. Received: {argument}={value!r}")


def check_choice(argument: str, value: object, choices: Sequence[str | None]) -> None:
    """Checks that an argument is one of the choices: names, or None."""
    if not isinstance(value, (str, type(None))) or value not in choices:
        raise ValueError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


def check_number_of_points(num_region_points: Any, replace_fraction: Any) -> None:
    """Checks the arguments for the number of region points in a batch."""
    if not is_positive_integer(num_region_points):
        raise ValueError(
            "`num_region_points` must be an integer of at least 1. "
            f"Received: num_region_points={num_region_points!r}. Use region_weight=0 for none."
        )
    if replace_fraction is None:
        return
    if not is_number(replace_fraction) or not 0 < replace_fraction < 1:
        raise ValueError(
            "`replace_fraction` must be a number between 0 and 1, or None. "
            f"Received: replace_fraction={replace_fraction!r}"
        )
    if num_region_points != 1:
        raise ValueError(
            "`num_region_points` must be 1 when `replace_fraction` is given, since every "
            "replaced example becomes one region point. "
            f"Received: num_region_points={num_region_points}"
        )


def checked_seed(seed: int | None) -> int:
    """An integer seed: the given one, or one from Python's generator."""
    if seed is None:
        return random.randrange(2**31)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ValueError(
            f"`seed` must be an integer from 0 to 2^31 - 1, or None. Received: seed={seed!r}"
        )
    return int(seed)
