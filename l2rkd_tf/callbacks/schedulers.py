"""Schedulers: settings of the objective that change from epoch to epoch."""

import inspect
from typing import Any

import numpy as np

from l2rkd_tf.callbacks.base import DistillerCallback
from l2rkd_tf.regions.members import RegionOfRegions
from l2rkd_tf.utils.types import Logs, Schedule
from l2rkd_tf.utils.validation import check_choice

__all__ = ["LossWeightScheduler", "RegionRadiusScheduler", "TemperatureScheduler"]

_WEIGHTS = ("hard_weight", "kd_weight", "region_weight")


class _NumberScheduler(DistillerCallback):
    """Sets a number of the distiller at the start of an epoch, and logs it at the end."""

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
                f"`schedule` must return a valid {self.name}. Received: {value!r} for epoch "
                f"{epoch} (counted from 0). {error}"
            ) from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Logs the number of the epoch."""
        if logs is not None:
            logs[self.name] = self.get_number()


class LossWeightScheduler(_NumberScheduler):
    """Sets a weight of the objective for each epoch, for example to warm up the region loss.

    ```
    weight = schedule(epoch)   or   schedule(epoch, weight)
    ```

    The compiled step is not retraced, except in an epoch where the weight becomes 0 or stops being
    0: a term of weight 0 is not computed at all. The weight is logged under its name.

    Args:
        schedule: Function of the epoch, counted from 0, or of the epoch and the current weight (if
            it cannot be called with only the epoch): one of `l2rkd_tf.callbacks.schedules`, your
            own, or a `keras.optimizers.schedules.LearningRateSchedule`, whose steps are then
            epochs. Weight files do not contain the current value: to resume a run, the schedule
            must depend only on the epoch.
        weight: `"hard_weight"`, `"kd_weight"` or `"region_weight"`.

    Raises:
        ValueError: If `schedule` is not such a function or `weight` is not one of these names; at
            the start of an epoch, if the schedule returns anything but a finite number of at least
            0.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0)
        >>> distiller.compile("sgd")
        >>> warmup = LossWeightScheduler(schedules.linear_warmup(0.8, epochs=2))
        >>> history = distiller.fit(np.ones((8, 4)), epochs=3, callbacks=[warmup], verbose=0)
        >>> history.history["region_weight"]
        [0.4, 0.8, 0.8]

    """

    def __init__(self, schedule: Schedule, weight: str = "region_weight") -> None:
        check_choice("weight", weight, _WEIGHTS)
        super().__init__(schedule, weight)


class TemperatureScheduler(_NumberScheduler):
    """Sets the temperature for each epoch without retracing; logs it as `temperature`.

    ```
    temperature = schedule(epoch)   or   schedule(epoch, temperature)
    ```

    Args:
        schedule: As in `LossWeightScheduler`.

    Raises:
        ValueError: If `schedule` is not such a function; at the start of an epoch, if it returns
            anything but a finite number above 0.

    Example:
        >>> cooling = TemperatureScheduler(schedules.cosine(8.0, 1.0, epochs=60))
        >>> cooling.schedule(59)
        1.0

    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule, "temperature")


class RegionRadiusScheduler(_NumberScheduler):
    """Sets the radius of the region for each epoch without retracing; logs it as `region_radius`.

    ```
    distiller.region.radius = schedule(epoch)   or   schedule(epoch, radius)
    ```

    A `Mixture` or `Compose` has no radius, but its members do: set `region.regions[i].radius` in a
    `keras.callbacks.LambdaCallback(on_epoch_begin=...)`.

    Args:
        schedule: As in `LossWeightScheduler`.

    Raises:
        ValueError: If `schedule` is not such a function; when training starts, if the region has no
            radius; at the start of an epoch, if the schedule returns an invalid radius.

    Example:
        >>> growing = RegionRadiusScheduler(schedules.linear_warmup(1.0, epochs=10))
        >>> growing.schedule(0)
        0.1

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
                "`region` must be known for a RegionRadiusScheduler: pass it to the "
                "L2RKDDistiller, or pass a student that is built. Received: region=None"
            )
        if isinstance(region, RegionOfRegions):
            raise ValueError(
                "`region` must have a single radius for a RegionRadiusScheduler. Received: "
                f"region={region!r}, whose members have radii of their own: set "
                "`region.regions[i].radius` in a keras.callbacks.LambdaCallback."
            )
        return region


def _takes_value(schedule):
    """Whether a schedule must be called with the current value in addition to the epoch."""
    if callable(schedule):
        try:
            signature = inspect.signature(schedule)
        except ValueError:  # some functions written in C have no signature
            return False
        for arguments in [(0,), (0, 1.0)]:
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return len(arguments) == 2
    raise ValueError(
        "`schedule` must be a function of the epoch, or of the epoch and the current value. "
        f"Received: schedule={schedule!r}"
    )


def _as_number(value):
    """A Python number, from a number or a scalar tensor."""
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "fiu":
        raise ValueError("It must be one number.")
    return array.item()
