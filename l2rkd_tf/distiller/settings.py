"""Settings of a distiller: those that a traced step has taken in, and those that may change."""

import dataclasses

import tensorflow as tf

from l2rkd_tf.utils.types import Divergence, RegionTargets, TeacherDtype
from l2rkd_tf.utils.validation import (
    check_choice,
    check_flag,
    check_number_of_points,
    is_positive_float32,
    is_weight,
)

__all__ = ["Number", "Settings"]

_REGION_TARGETS = ("teacher", "interpolated")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Arguments of `L2RKDDistiller` that are fixed; see there.

    Raises:
        ValueError: If one of them is not what it may be; the message names it.
    """

    region_targets: RegionTargets
    num_region_points: int
    replace_fraction: float | None
    divergence: Divergence | dict[str, Divergence | None]
    from_logits: bool
    output_weights: dict[str, float] | None
    check_finite: bool
    seed: int
    region_at: tuple[str | None, str] | None
    teacher_dtype: TeacherDtype

    def __post_init__(self) -> None:
        """Checks all but the seed, and what concerns outputs and teacher."""
        check_choice("region_targets", self.region_targets, _REGION_TARGETS)
        check_number_of_points(self.num_region_points, self.replace_fraction)
        check_flag("from_logits", self.from_logits)
        check_flag("check_finite", self.check_finite)


class Number:
    """A number that callbacks may change between epochs without a new trace.

    Args:
        name: Name of the argument of the distiller.
        value: The number.
        may_be_zero: Whether it may be 0.

    Attributes:
        value: The number, a float.
        variable: What a traced step reads, a float32 `tf.Variable`.

    Raises:
        ValueError: If the value is negative, not finite, or 0 where it must not be.
    """

    def __init__(self, name: str, value: float, may_be_zero: bool = True) -> None:
        self._name = name
        self._may_be_zero = may_be_zero
        self.value = self.checked(value)
        self.variable = tf.Variable(value, dtype=tf.float32, trainable=False, name=name)

    def assign(self, value: float) -> bool:
        """Sets the number; returns whether it has become 0, or is 0 no longer."""
        previous, self.value = self.value, self.checked(value)
        self.variable.assign(value)
        return (previous > 0) != (self.value > 0)

    def checked(self, value: float) -> float:
        """The value as a float; raises the `ValueError` if it is not what it may be."""
        if not (is_weight(value) if self._may_be_zero else is_positive_float32(value)):
            bound = "not below 0" if self._may_be_zero else "above 0"
            raise ValueError(
                f"`{self._name}` must be a finite number {bound}. Received: {self._name}={value!r}"
            )
        return float(value)
