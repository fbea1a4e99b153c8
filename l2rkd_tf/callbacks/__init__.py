"""Callbacks for the `fit` of an `L2RKDDistiller`.

- `LossWeightScheduler`, `TemperatureScheduler`, `RegionRadiusScheduler` change the objective from
  epoch to epoch, without a new trace; `schedules` has functions for them.
- `StudentCheckpoint` saves the student alone.
- `LocalShapeMonitor` logs how closely the student follows the teacher around the data.
- `BlindRegionSearch` trains where the student knows least of the teacher.
- `TrainingBackup`, for any model, has a run that was killed go on exactly.
- `DistillationTensorBoard`, for any model, shows a run in TensorBoard, which is imported only then.
"""

from l2rkd_tf.callbacks import schedules
from l2rkd_tf.callbacks.backup import TrainingBackup
from l2rkd_tf.callbacks.blind_region import BlindRegionSearch
from l2rkd_tf.callbacks.checkpoint import StudentCheckpoint
from l2rkd_tf.callbacks.local_shape import LocalShapeMonitor
from l2rkd_tf.callbacks.schedulers import (
    LossWeightScheduler,
    RegionRadiusScheduler,
    TemperatureScheduler,
)
from l2rkd_tf.callbacks.tensorboard import DistillationTensorBoard

__all__ = [
    "BlindRegionSearch",
    "LocalShapeMonitor",
    "LossWeightScheduler",
    "RegionRadiusScheduler",
    "StudentCheckpoint",
    "TemperatureScheduler",
    "TrainingBackup",
    "DistillationTensorBoard",
    "schedules",
]
