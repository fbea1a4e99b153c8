"""Several classifiers as one Keras model."""

import math
from collections.abc import Sequence

import keras

__all__ = ["ensemble"]


def ensemble(teachers: Sequence[keras.Model]) -> keras.Model:
    """Combine classifiers into one model that averages their probabilities.

    An ensemble is often a more accurate teacher than any of its members. Its outputs are logits, as
    those of any other teacher:

    ```
    logits(x) = log( mean_k softmax(logits_k(x)) )
    ```

    At temperature 1 a student thus learns the ensemble's own predictions. A mean of the logits
    would instead be dominated by the member with the largest logits, and a single confident member
    could rule out what all others consider possible.

    Args:
        teachers: One or more functional or sequential `keras.Model`s that return logits, each with
            one input of shape `(batch, ...)` and one output of shape `(batch, num_classes)`. The
            shapes must be the same for all.

    Returns:
        A functional `keras.Model` from inputs, shape `(batch, ...)`, to float32 logits, shape
        `(batch, num_classes)`. It shares the layers of `teachers`, and can be saved.

    Raises:
        ValueError: If `teachers` is empty, if a member has several inputs or outputs or is a
            subclassed model without a graph of layers, or if the shapes of inputs or outputs
            differ.

    Example:
        >>> from l2rkd_tf import models
        >>> members = [models.convnet((8, 8, 1), 10) for _ in range(3)]
        >>> teacher = models.ensemble(members)
        >>> teacher.output_shape
        (None, 10)
    """
    _check(teachers)
    image = keras.Input(teachers[0].input_shape[1:], name="image")
    members = [  # under names of their own
        keras.Model(teacher.inputs[0], teacher.outputs[0], name=f"teacher{index}")
        for index, teacher in enumerate(teachers)
    ]
    log_probabilities = [
        keras.ops.log_softmax(keras.ops.cast(member(image), "float32")) for member in members
    ]
    total = keras.ops.logsumexp(keras.ops.stack(log_probabilities), axis=0)
    return keras.Model(image, total - math.log(len(members)), name="ensemble")


def _check(teachers):
    if not teachers or not all(map(_has_one_input_and_output, teachers)):
        raise ValueError(
            "`teachers` must be one or more functional or sequential Keras models with one input "
            f"and one output each. Received: teachers={teachers}"
        )
    shapes = [(teacher.input_shape, teacher.output_shape) for teacher in teachers]
    if len(set(shapes)) != 1:
        raise ValueError(
            "`teachers` must have the same input shape and the same output shape. Received: models "
            f"with input and output shapes {shapes}"
        )


def _has_one_input_and_output(model):
    # A subclassed model has no graph of layers: asking for its inputs raises.
    try:
        return len(model.inputs) == len(model.outputs) == 1
    except (AttributeError, TypeError, ValueError):
        return False
