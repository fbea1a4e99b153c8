"""Locally linear region knowledge distillation for Keras 3 on TensorFlow.

`L2RKDDistiller` trains a small student to match its trained teacher at the training examples and in
the regions around them; `rank_regions` finds a region by short trainings, and `CallableTeacher` is
a teacher that is a function. `regions` holds the kinds of regions, `methods` published distillation
methods, `geometry` measures of local shape, `callbacks` schedules and monitors. `teacher_cache`
computes the teacher's outputs once, `export` writes the student to SavedModel and LiteRT; `data`,
`models` and `plots` hold what experiments need.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "l2rkd_tf runs on Keras's TensorFlow backend. The backend in use is "
        f"{keras.backend.backend()!r}: set the environment variable KERAS_BACKEND=tensorflow."
    )

from l2rkd_tf import (
    callbacks,
    data,
    export,
    geometry,
    losses,
    methods,
    models,
    plots,
    regions,
    teacher_cache,
)
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.region_ranking import RankedRegion, rank_regions
from l2rkd_tf.teachers import CallableTeacher

__version__ = "0.1.0"

__all__ = [
    "CallableTeacher",
    "L2RKDDistiller",
    "RankedRegion",
    "callbacks",
    "data",
    "export",
    "geometry",
    "losses",
    "methods",
    "models",
    "plots",
    "rank_regions",
    "regions",
    "teacher_cache",
]
