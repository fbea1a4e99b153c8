"""The model that an artifact is made from and compared with."""

from typing import NamedTuple

import keras
import numpy as np

from l2rkd_tf.export.examples import Examples
from l2rkd_tf.export.inference import student_outputs
from l2rkd_tf.export.layer_search import describe, layers_of
from l2rkd_tf.export.parity import check_finite
from l2rkd_tf.export.precision import check_copy, computes_in_float32, float32_copy
from l2rkd_tf.utils.model_checks import is_quantized

__all__ = ["Reference", "check_not_quantized", "check_student", "reference_for"]


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
    if computes_in_float32(student):
        return Reference(student, examples, outputs, None)
    copy = float32_copy(student)
    copy_outputs = student_outputs(copy, examples.arrays)
    return Reference(copy, examples, copy_outputs, check_copy(outputs, copy_outputs))


def check_student(student: keras.Model) -> None:
    """Checks that the student is a built model without a state, not the model that distills it."""
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
    stateful = [layer for layer in layers_of(student) if getattr(layer, "stateful", False)]
    if stateful:
        raise ValueError(
            "`student` must not be stateful: an artifact cannot reset a state between two "
            f"sequences. Received: the stateful layers {', '.join(map(describe, stateful))}. Build "
            "the student again with stateful=False and set its weights to `student.get_weights()`."
        )


def check_not_quantized(student: keras.Model) -> None:
    """Checks that it is left to LiteRT to quantize the student."""
    quantized = [layer for layer in layers_of(student) if is_quantized(layer)]
    if quantized:
        raise ValueError(
            "`student` must have float weights, which LiteRT quantizes itself. Received: layers "
            f"that Keras has quantized, {', '.join(map(describe, quantized))}. Export the student "
            "as it was before `quantize`, with quantization='dynamic' or 'int8'."
        )
