"""The model that an artifact is made from and compared with."""

from typing import NamedTuple

import keras
import numpy as np

from l2rkd_tf.export.examples import Examples
from l2rkd_tf.export.inference import student_outputs
from l2rkd_tf.export.parity import check_finite
from l2rkd_tf.export.precision import check_copy, float32_copy, is_half_precision

__all__ = ["Reference", "check_student", "reference_for"]


class Reference(NamedTuple):
    """A float32 model, the examples to compare on, and its outputs there by name.

    `copy_difference` is the largest difference from the student when the model is a float32 copy
    of it, and `None` when the model is the student.
    """

    model: keras.Model
    examples: Examples
    outputs: dict[str, np.ndarray]
    copy_difference: float | None


def reference_for(student: keras.Model, examples: Examples) -> Reference:
    """The student or its float32 copy, on the examples."""
    outputs = student_outputs(student, examples.arrays)
    check_finite(outputs, "Keras student", examples.source)
    if not is_half_precision(student):
        return Reference(student, examples, outputs, None)
    copy = float32_copy(student)
    copy_outputs = student_outputs(copy, examples.arrays)
    return Reference(copy, examples, copy_outputs, check_copy(outputs, copy_outputs))


def check_student(student: keras.Model) -> None:
    """Checks that the student is a built model, and not the model that distills it."""
    if not isinstance(student, keras.Model):
        raise ValueError(f"`student` must be a `keras.Model`. Received: {type(student)}")
    if isinstance(getattr(student, "student", None), keras.Model):
        raise ValueError(
            "`student` must be only the student, not the model that distills it. Pass "
            f"`distiller.student`. Received: a {type(student).__name__}."
        )
    if not student.built:
        raise ValueError(
            "`student` must be built: call it on a batch, or start it with `keras.Input`."
        )
