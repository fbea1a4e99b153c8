"""Locally linear region knowledge distillation for Keras 3 on TensorFlow.

`L2RKDDistiller` trains a small student to agree with a trained teacher at the training points and
in the regions around them; `regions` holds the kinds of regions, `methods` existing distillation
methods, `geometry` measures of local shape, `linear_region` regions that ask the teacher,
`callbacks` schedules and monitors; `teacher_cache` data that
carry the teacher's outputs; `export` writes the student to SavedModel and LiteRT; `data`,
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
    linear_region,
    losses,
    methods,
    models,
    plots,
    regions,
    teacher_cache,
)
from l2rkd_tf.distiller import L2RKDDistiller

__version__ = "0.1.0"

__all__ = [
    "L2RKDDistiller",
    "callbacks",
    "data",
    "export",
    "geometry",
    "linear_region",
    "losses",
    "methods",
    "models",
    "plots",
    "regions",
    "teacher_cache",
]
