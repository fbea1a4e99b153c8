"""A teacher that computes in half precision while its weights stay as they are."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.teachers.callable_teacher import callable_teachers
from l2rkd_tf.utils.model_checks import is_quantized
from l2rkd_tf.utils.types import TeacherDtype
from l2rkd_tf.utils.validation import check_choice

__all__ = ["Precision"]

_DTYPES = (None, "bfloat16", "float16")


class Precision:
    """The precision in which the layers of a teacher compute.

    Layers that have a policy of their own, other than float32, keep it.

    Args:
        teacher: The argument `teacher` of a distiller.
        dtype: `"bfloat16"`, `"float16"`, or `None` for that of the teacher.

    Raises:
        ValueError: If `dtype` is another one, or given for a teacher whose computation Keras does
            not know.
    """

    def __init__(self, teacher: Any, dtype: TeacherDtype) -> None:
        check_choice("teacher_dtype", dtype, _DTYPES)
        self._policy = None if dtype is None else keras.DTypePolicy(f"mixed_{dtype}")
        if self._policy is None or teacher is None:
            self._layers = []
            return
        members = teacher if isinstance(teacher, (list, tuple)) else [teacher]
        layers = [layer for member in members for layer in keras_fixes.layers_within(member)]
        for layer in layers:
            if isinstance(layer, keras.layers.TFSMLayer) or any(callable_teachers(layer)):
                raise ValueError(
                    "`teacher_dtype` must be None for a function or a SavedModel, whose precision "
                    f"is fixed. Received: teacher_dtype={dtype!r}, and the teacher has "
                    f"{layer.name!r}"
                )
        self._layers = [layer for layer in layers if _computes_in_float32(layer)]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within it, the layers compute in this precision."""
        before = [layer.dtype_policy for layer in self._layers]
        try:
            for layer in self._layers:
                layer.dtype_policy = self._policy
            yield
        finally:
            for layer, policy in zip(self._layers, before, strict=True):
                layer.dtype_policy = policy


def _computes_in_float32(layer):
    is_map = isinstance(layer.dtype_policy, keras.dtype_policies.DTypePolicyMap)
    return layer.compute_dtype == "float32" and not is_map and not is_quantized(layer)
