"""Schedulers: numbers of the objective that change from epoch to epoch."""

import inspect
from typing import Any

import numpy as np

from l2rkd_tf.callbacks.base import DistillerCallback
from l2rkd_tf.regions import Mixture
from l2rkd_tf.utils.types import Logs, Schedule
from l2rkd_tf.utils.validation import check_choice

__all__ = ["LossWeightScheduler", "RegionRadiusScheduler", "TemperatureScheduler"]

_WEIGHTS = ("hard_weight", "kd_weight", "region_weight")


class _NumberScheduler(DistillerCallback):
    """Sets a number of the distiller when an epoch begins, and logs it when the epoch ends."""

    def __init__(self, schedule: Schedule, name: str) -> None:
        super().__init__()
        self.schedule = schedule
        self.name = name
        self._takes_value = _takes_value(schedule)

    def get_number(self) -> Any:
        """The number as the distiller has it."""
        return getattr(self.model, self.name)

    def set_number(self, value: float) -> None:
        """Sets the number, which the distiller checks."""
        setattr(self.model, self.name, value)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the number for the epoch."""
        present = (self.get_number(),) if self._takes_value else ()
        value = self.schedule(epoch, *present)
        try:
            self.set_number(_as_number(value))
        except ValueError as error:
            raise ValueError(
                f"`schedule` must give a {self.name} that can be used. Received: {value!r} for "
                f"epoch {epoch} (counted from 0). {error}"
            ) from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Logs the number of the epoch."""
        if logs is not None:
            logs[self.name] = self.get_number()


class LossWeightScheduler(_NumberScheduler):
    """Sets a weight of the objective for each epoch, such as a warm-up of the regions.

    ```
    weight = schedule(epoch)   or   schedule(epoch, weight)
    ```

    The compiled step reads the weight anew and is not traced again, except in an epoch where the
    weight becomes 0 or stops being 0: a term of weight 0 is not computed at all. The weight is
    logged under its name.

    Args:
        schedule: Function of the epoch, counted from 0, or of the epoch and the present weight
            (it is given the weight if it cannot be called without): one of
            `l2rkd_tf.callbacks.schedules`, your own, or a
            `keras.optimizers.schedules.LearningRateSchedule`, whose steps are then epochs. The
            present value is no part of weight checkpoints: what a resumed run should set again
            must follow from the epoch alone.
        weight: `"hard_weight"`, `"kd_weight"` or `"region_weight"`.

    Raises:
        ValueError: If an argument is wrong, or, when the epoch begins, if what the schedule gives
            is no finite number or below 0.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0)
        >>> distiller.compile("sgd")
        >>> warmup = LossWeightScheduler(schedules.linear_warmup(0.8, epochs=2))
        >>> history = distiller.fit(np.ones((8, 4)), epochs=3, callbacks=[warmup], verbose=0)
        >>> history.history["region_weight"]
        [0.4, 0.8, 0.8]

    Source: this library; logged and called as `keras.callbacks.LearningRateScheduler`.
    """

    def __init__(self, schedule: Schedule, weight: str = "region_weight") -> None:
        check_choice("weight", weight, _WEIGHTS)
        super().__init__(schedule, weight)


class TemperatureScheduler(_NumberScheduler):
    """Sets the temperature for each epoch, without a new trace; logs it as `temperature`.

    ```
    temperature = schedule(epoch)   or   schedule(epoch, temperature)
    ```

    Args:
        schedule: As in `LossWeightScheduler`.

    Raises:
        ValueError: If the schedule is no such function, or, when the epoch begins, if what it
            gives is no finite number above 0.

    Example:
        >>> cooling = TemperatureScheduler(schedules.cosine(8.0, 1.0, epochs=60))
        >>> cooling.schedule(59)
        1.0

    Source: this library.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule, "temperature")


class RegionRadiusScheduler(_NumberScheduler):
    """Sets the radius of the region for each epoch, without a new trace; logs `region_radius`.

    ```
    distiller.region.radius = schedule(epoch)   or   schedule(epoch, radius)
    ```

    A `Mixture` has no radius of its own. Its members have: set `mixture.regions[i].radius` in a
    `keras.callbacks.LambdaCallback(on_epoch_begin=...)`.

    Args:
        schedule: As in `LossWeightScheduler`.

    Raises:
        ValueError: If the schedule is no such function; when an epoch begins, if what it gives is
            no radius of the region, or if the region has none.

    Example:
        >>> growing = RegionRadiusScheduler(schedules.linear_warmup(1.0, epochs=10))
        >>> growing.schedule(0)
        0.1

    Source: this library.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule, "region_radius")

    def get_number(self) -> Any:
        """The region's radius."""
        return self._region().radius

    def set_number(self, value: float) -> None:
        """Sets the radius, which the region checks."""
        self._region().radius = value

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Checks that there is a radius."""
        self._region()

    def _region(self):
        region = self.model.region
        if region is None:
            raise ValueError(
                "`region` must be given to the L2RKDDistiller for a RegionRadiusScheduler: "
                "without it, and with a student that is not built, the region is not known yet. "
                "Received: region=None"
            )
        if isinstance(region, Mixture):
            raise ValueError(
                "`region` must have one radius for a RegionRadiusScheduler. Received: "
                f"region={region!r}, whose members have radii of their own: set "
                "`mixture.regions[i].radius` in a keras.callbacks.LambdaCallback."
            )
        return region


def _takes_value(schedule):
    """Whether a schedule must be called with the present value beside the epoch."""
    if callable(schedule):
        try:
            signature = inspect.signature(schedule)
        except ValueError:  # some functions written in C do not tell
            return False
        for arguments in [(0,), (0, 1.0)]:
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return len(arguments) == 2
    raise ValueError(
        "`schedule` must be a function of the epoch, or of the epoch and the present value. "
        f"Received: schedule={schedule!r}"
    )


def _as_number(value):
    """A Python number, from a number or a scalar tensor."""
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "fiu":
        raise ValueError("It must be one number.")
    return array.item()
