"""Callbacks for the `fit` of an `L2RKDDistiller`.

- `LossWeightScheduler`, `TemperatureScheduler`, `RegionRadiusScheduler` change the objective from
  epoch to epoch without retracing; `schedules` has functions for them.
- `StudentCheckpoint` saves only the student.
- `LocalShapeMonitor` logs how closely the student matches the teacher around the data.
- `BlindRegionSearch` trains in the region where student and teacher differ most.
- `TrainingBackup`, for any model, resumes an interrupted run exactly.
- `DistillationTensorBoard`, for any model, shows a run in TensorBoard, which is imported only when
  it is used.
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
    "DistillationTensorBoard",
    "LocalShapeMonitor",
    "LossWeightScheduler",
    "RegionRadiusScheduler",
    "StudentCheckpoint",
    "TemperatureScheduler",
    "TrainingBackup",
    "schedules",
]
