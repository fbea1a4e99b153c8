"""Stops training at the first NaN or Inf, and names where it appeared."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.types import Logs, TensorLike

__all__ = ["NonFiniteGuard"]

_LOG = "not_finite"


class NonFiniteGuard:
    """Looks for NaN and Inf in training steps, also in compiled ones and on several replicas.

    XLA leaves out TensorFlow's own checks. Here a step only counts, and the count comes back with
    its logs. To read it from a GPU is to wait for the step, so there it is read after the next step
    has been started, or at the end of the epoch.

    Args:
        names: What is looked at, `{name: what an error calls it}`, in the order in which a step
            computes it.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._unread: tf.Tensor | None = None
        # Steps since the first one in which a value was not finite; each replica counts its own.
        self._ages = tf.Variable(
            tf.zeros(len(self._names)),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    @classmethod
    def of_terms(cls, names: Iterable[str]) -> "NonFiniteGuard":
        """A guard of inputs, teacher outputs, terms of these names, and their sum."""
        watched = {"x": "the inputs `x`", "teacher": "the teacher's outputs"}
        return cls(watched | {name: f"`{name}`" for name in (*names, "loss")})

    def note(self, step: TensorLike, values: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Notes, within a step, which values are not finite.

        Args:
            step: Number of the step, an integer scalar.
            values: A tensor, or a structure of tensors, for each name; those that are missing or
                None are taken to be finite.

        Returns:
            An entry for the logs of the step, which `checked` takes out again.
        """
        bad = tf.stack([_is_bad(values.get(name)) for name in self._names])
        ages = self._ages.read_value()
        ages = tf.where(tf.logical_or(bad, ages > 0), ages + 1, ages)
        self._ages.assign(ages)
        return {_LOG: tf.concat([ages, [tf.cast(step, tf.float32)]], axis=0)}

    def checked(self, train_function: Callable[[Any], Logs]) -> Callable[[Any], Logs]:
        """The train function of a Keras model that raises what its steps have noted."""

        def function(iterator):
            logs = train_function(iterator)
            if _LOG in logs:
                before, self._unread = self._unread, logs.pop(_LOG)
                self._read(before)
                if not _is_on_gpu(self._unread):
                    self.finish()
            return logs

        return function

    def finish(self) -> None:
        """Reads what the last step has noted."""
        last, self._unread = self._unread, None
        self._read(last)

    def _read(self, noted):
        if noted is not None:
            self._check(*np.split(noted.numpy(), [-1]))

    def _check(self, ages, step):
        ages = np.ceil(ages)  # a mean over replicas, above 0 where one of them has counted
        if not ages.any():
            return
        self._ages.assign(tf.zeros(len(self._names)))
        self._unread = None
        first = int(step.item() + 1 - ages.max())
        names = [name for name, age in zip(self._names, ages, strict=True) if age == ages.max()]
        labels = "its labels (class numbers must be below the number of outputs) and weights, "
        raise FloatingPointError(
            f"NaN or Inf in {', '.join(self._names[name] for name in names)} at step {first}, "
            "counted from 0: training stopped. If several are named, the first one is the cause. "
            f"Check batch {first} of the training data, {labels * (names[0] == 'hard_loss')}the "
            "teacher, and the learning rate. The student's weights may be unusable: restore its "
            "last checkpoint. With check_finite=False, training continues."
        )


def _is_on_gpu(tensor):
    return "GPU" in tensor.device


def _is_bad(value):
    tensors = [tensor for tensor in tf.nest.flatten(value) if tensor is not None]
    floats = [tensor for tensor in tensors if tf.as_dtype(tensor.dtype).is_floating]
    if not floats:
        return tf.constant(False)
    return tf.reduce_any([tf.reduce_any(~tf.math.is_finite(tensor)) for tensor in floats])
