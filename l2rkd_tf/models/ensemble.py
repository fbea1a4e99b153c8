"""Several teachers as one Keras model."""

import math

import keras


def load(paths):
    """The teacher of a file, or the ensemble of the teachers of several."""
    teachers = [keras.models.load_model(path) for path in paths]
    return teachers[0] if len(teachers) == 1 else mean_of_probabilities(teachers)


def mean_of_probabilities(teachers):
    """An ensemble whose probabilities are the mean of its members', as a model of logits.

    ```
    logits(x) = log( mean_k softmax(f_k(x)) )
    ```

    At temperature 1 the student is thus shown the ensemble's own answer. The mean of logits, a
    geometric mean of probabilities, would let the member with the largest logits decide, and one
    member that is certain would exclude what all others hold possible.

    Args:
        teachers: Keras models with graphs of layers, of the same inputs, that give logits.

    Returns:
        A functional `keras.Model`. It shares the layers of the teachers, and can be saved.

    Raises:
        ValueError: If the teachers differ in the shapes of their inputs or outputs.
    """
    shapes = [(teacher.input_shape, teacher.output_shape) for teacher in teachers]
    if len(set(shapes)) != 1:
        raise ValueError(
            "`teachers` must have the same shape of inputs, and of outputs. Received: models of "
            f"shapes {shapes}"
        )
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
