"""A teacher's weights as constants of the graph of a training step."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.types import Logs

__all__ = ["FrozenWeights"]

# Each copy of the step holds a copy of them, and TensorFlow cannot hold a graph of 2 GiB.
_LARGEST = 2**28


class FrozenWeights:
    """Weights of a teacher as constants, since training does not change them.

    TensorFlow computes in advance what depends only on constants: it multiplies the scale of a
    batch normalization into the kernel of the convolution before it, for instance. Weights of more
    than 256 MiB, and those that the student has too, stay variables.

    Training takes the weights as they are at its beginning. Where they change during it, as those
    of a moving average do, the step is traced again with variables. It is looked for before each
    `fit`, epoch and `train_on_batch`, and before the steps 1, 2, 4, 8 and so on: steps between a
    change and the next look compute with the former weights.

    Args:
        model: The teacher, a Keras model, or `None`.
        student: The student.
        make_step: Function that traces the step again, and returns its function.

    Attributes:
        callback: The last callback of a `fit`, which looks for changes before each epoch.
    """

    def __init__(
        self,
        model: keras.Model | None,
        student: keras.Model,
        make_step: Callable[[], Callable[[Any], Logs]],
    ) -> None:
        self._model = model
        self._student = student
        self._make_step = make_step
        self._values: list[tuple[keras.Variable, np.ndarray]] = []
        self._is_running = False
        self._num_changes = 0
        self.callback = keras.callbacks.LambdaCallback(on_epoch_begin=self._look)

    def checked(self, train_function: Callable[[Any], Logs]) -> Callable[[Any], Logs]:
        """The train function of a Keras model that takes the weights as constants."""
        self._values = self._take()
        numbers = itertools.count(1)

        def function(iterator):
            number = next(numbers)
            is_power_of_two = number & (number - 1) == 0
            if is_power_of_two and self.have_changed(in_training=True):
                return self._make_step()(iterator)
            with self._running():
                return train_function(iterator)

        return function

    def have_changed(self, in_training: bool) -> bool:
        """Whether weights are others than those that steps compute with.

        Args:
            in_training: Whether training goes on: then they are variables from now on. So they are
                at the second change in any case.
        """
        # By bytes: a weight that is NaN equals itself.
        changed = any(weight.numpy().tobytes() != old.tobytes() for weight, old in self._values)
        self._num_changes += (2 if in_training else 1) * changed
        return changed

    @contextlib.contextmanager
    def as_constants(self) -> Iterator[None]:
        """Within it, the teacher computes with constants, where it is traced for training."""
        if not (self._values and self._is_running and tf.inside_function()):
            yield
            return
        constants = [(weight, tf.constant(value, weight.dtype)) for weight, value in self._values]
        with _Scope(state_mapping=constants) as scope:
            yield
        # What the teacher itself moves, such as the state of a layer of noise, goes on moving.
        for variable, value in scope.moved.values():
            variable.assign(value)

    def _look(self, epoch, logs=None):
        del epoch, logs
        if self.have_changed(in_training=True):
            self._make_step()

    @contextlib.contextmanager
    def _running(self):
        # A step that is traced by others, who do not look for changes, computes with variables.
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False

    def _take(self):
        if self._model is None or not self._model.built or self._num_changes > 1:
            return []
        shared = {id(variable) for variable in self._student.variables}
        weights = [weight for weight in self._model.weights if id(weight) not in shared]
        size = sum(np.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in weights)
        return [(weight, weight.numpy()) for weight in weights] if size <= _LARGEST else []


class _Scope(keras.StatelessScope):
    """Notes which variables are assigned within it, and what: their last values."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.moved = {}

    def add_update(self, update):
        super().add_update(update)
        self.moved[id(update[0])] = update
