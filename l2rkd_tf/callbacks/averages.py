"""Whether weights and their moving averages have been exchanged since the last batch."""

import keras
import numpy as np

from l2rkd_tf.distiller.keras_fixes import average_of_weight

__all__ = ["SwappedAverages"]


class SwappedAverages:
    """Knows whether `keras.callbacks.SwapEMAWeights` has put averages into a model.

    A callback knows nothing of the others, nor in which order they are called. After an exchange,
    the average of a weight is what the weight was after the last batch; one weight tells it.
    """

    def __init__(self) -> None:
        self._weight: np.ndarray | None = None

    def note(self, model: keras.Model) -> None:
        """Keeps a weight, at the end of a batch."""
        if _average(model) is not None:
            self._weight = _numbers(model.trainable_variables[-1])

    def are_swapped(self, model: keras.Model) -> bool:
        """Whether weights and averages have been exchanged since `note`."""
        average, before = _average(model), self._weight
        if average is None or before is None:
            return False
        # The exchange rounds.
        is_near = np.abs(_numbers(average) - before) <= 1e-5 * (1.0 + np.abs(before))
        weight = _numbers(model.trainable_variables[-1])
        return bool(is_near.all()) and not np.array_equal(weight, before)


def _numbers(variable):
    return np.array(keras.ops.convert_to_numpy(variable))  # a copy: weights change in place


def _average(model):
    if model.optimizer is None or not model.optimizer.built or not model.trainable_variables:
        return None
    return average_of_weight(model.optimizer, model.trainable_variables[-1])
