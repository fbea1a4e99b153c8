"""Argument and model checks shared by several modules."""

import random
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "check_activation",
    "check_choice",
    "check_flag",
    "check_loss",
    "check_models",
    "check_models_are_built",
    "check_number_of_outputs",
    "check_number_of_points",
    "check_outputs",
    "check_shares_nothing_trained",
    "checked_seed",
    "is_number",
    "is_positive_float32",
    "is_positive_integer",
    "is_weight",
    "output_activation",
    "takes_integers",
]

# The activation at the end of a model that makes its outputs probabilities of the divergence.
_PROBABILITIES = {"kl": "softmax", "binary_kl": "sigmoid"}

# Range of the positive float32 numbers.
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
_LARGEST = float(np.finfo(np.float32).max)


def is_number(value: Any) -> bool:
    """Whether the value is a real number (a bool is not)."""
    is_real = isinstance(value, (int, float, np.integer, np.floating))
    return is_real and not isinstance(value, bool)


def is_positive_float32(value: Any) -> bool:
    """Whether the value is a number that float32, in which it is used, holds above 0 and finite."""
    # NumPy's numbers bring the bounds to their own dtype, where the bounds may overflow.
    value = value.item() if isinstance(value, np.number) else value
    return is_number(value) and _SMALLEST <= value <= _LARGEST


def is_weight(value: Any) -> bool:
    """Whether the value is 0, or a number that float32 holds above 0 and finite."""
    return is_positive_float32(value) or (is_number(value) and value == 0)


def is_positive_integer(value: Any) -> bool:
    """Whether the value is an integer of at least 1."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_integer and bool(value >= 1)


def output_activation(model: keras.Model | keras.layers.Layer) -> str | None:
    """Name of a model's output activation, if the model's graph shows it.

    Args:
        model: A Keras model or layer.

    Returns:
        `"softmax"`, `"sigmoid"`, `"linear"` or the name of another function; `None` if the graph
        does not show it, as in a subclassed model.
    """
    if isinstance(model, keras.Sequential) and model.layers:
        return output_activation([layer for layer in model.layers if not _is_cast(layer)][-1])
    output_names = getattr(model, "output_names", None)
    if output_names:
        operation = {o.name: o for o in model.operations}[output_names[0]]
        while _is_cast(operation):
            operation = next(o for o in model.operations if o.output is operation.input)
        return output_activation(operation)
    if type(model).__name__ in ("Softmax", "Sigmoid"):  # the layer, and `keras.ops` in a graph
        return type(model).__name__.lower()
    return getattr(getattr(model, "activation", None), "__name__", None)


def _is_cast(operation):
    """Whether it is the linear `Activation` that casts the output of mixed-precision models."""
    return isinstance(operation, keras.layers.Activation) and (
        operation.activation is keras.activations.linear
    )


def check_flag(argument: str, value: object) -> None:
    """Checks that an argument is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{argument}` must be True or False. Received: {argument}={value!r}")


def check_choice(argument: str, value: object, choices: Sequence[str | None]) -> None:
    """Checks that an argument is one of the choices: names, or None."""
    if not isinstance(value, (str, type(None))) or value not in choices:
        raise ValueError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


def check_models(teacher: Any, student: Any) -> None:
    """Checks that teacher, if any, and student are Keras models, and the teacher is built."""
    for argument, model in _given(teacher, student):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{argument}` must be a keras.Model. Received: {argument}={model!r} of type "
                f"{type(model).__name__}"
            )
    if teacher is None:
        return
    if not teacher.built:
        raise ValueError(
            "`teacher` must be built and trained, or loaded with its weights. Received: the "
            f"unbuilt model {teacher.name!r}; call it on a batch and load its weights first."
        )
    if teacher is student:
        raise ValueError(
            "`teacher` and `student` must be different models: the teacher would change while the "
            "student trains. Received: the same model twice; use keras.models.clone_model."
        )
    check_shares_nothing_trained(teacher, student)


def check_models_are_built(**models: object) -> None:
    """Checks that arguments are Keras models with weights."""
    for argument, model in models.items():
        if not isinstance(model, keras.Model) or not model.built:
            kind = "unbuilt model" if isinstance(model, keras.Model) else "value"
            raise ValueError(
                f"`{argument}` must be a keras.Model that has been built. Received: the {kind} "
                f"{model!r}. Call an unbuilt model on a batch first."
            )


def _given(teacher, student):
    """Arguments and their models; there is no teacher if the data carry its outputs."""
    both = (("teacher", teacher), ("student", student))
    return both[1:] if teacher is None else both


def check_shares_nothing_trained(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks that the student trains no weight of the teacher."""
    if teacher is None:
        return
    teacher_variables = {id(variable) for variable in teacher.variables}
    shared = [v.path for v in student.trainable_variables if id(v) in teacher_variables]
    if shared:
        raise ValueError(
            "`teacher` and `student` must not share weights that the student trains, since the "
            f"teacher would change. Received: shared weights {shared}. Freeze the shared layers "
            "(`layer.trainable = False`) or clone the teacher."
        )


def check_loss(loss: Any, divergence: str, from_logits: bool) -> None:
    """Warns if the compiled loss expects logits and the distiller probabilities, or the reverse."""
    if divergence == "mse" or not isinstance(loss, (str, keras.losses.Loss)):
        return
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        takes_logits = loss.get_config().get("from_logits")
    else:
        takes_logits = False if "crossentropy" in loss.__name__ else None
    if takes_logits is not None and takes_logits != from_logits:
        name = loss.name if isinstance(loss, keras.losses.Loss) else loss.__name__
        warnings.warn(
            f"`loss` {name!r} has from_logits={takes_logits} and the distiller has "
            f"from_logits={from_logits}: one of them misinterprets the student's outputs. Pass a "
            f"loss object with from_logits={from_logits} to compile().",
            stacklevel=2,
        )


def check_outputs(
    teacher: keras.Model | None, student: keras.Model, divergence: str, from_logits: bool
) -> None:
    """Checks, as far as graphs show, that both models output what the divergence compares."""
    check_flag("from_logits", from_logits)
    if divergence == "mse" and not from_logits:
        raise ValueError(
            "`from_logits=False` has no meaning for divergence='mse', which compares raw outputs. "
            "Received: from_logits=False. Omit it."
        )
    models = _given(teacher, student)
    _check_inputs(dict(models))
    shapes = {}
    for argument, model in models:
        outputs = getattr(model, "outputs", None)
        if not outputs:  # subclassed, or not built yet: checked when the first step is traced
            continue
        if len(outputs) > 1 or len(outputs[0].shape) != 2:
            raise ValueError(
                f"`{argument}` must have one output of shape (batch, outputs). Received: outputs "
                f"of shapes {[output.shape for output in outputs]}"
            )
        check_number_of_outputs(argument, outputs[0].shape, divergence)
        shapes[argument] = outputs[0].shape
        check_activation(f"`{argument}`", output_activation(model), divergence, from_logits)
    if len({shape[-1] for shape in shapes.values()}) > 1:
        raise ValueError(
            "`teacher` and `student` must have the same number of outputs. Received: teacher "
            f"outputs of shape {shapes['teacher']}, student outputs of shape {shapes['student']}"
        )


def check_number_of_outputs(argument: str, shape: tf.TensorShape, divergence: str) -> None:
    """Checks that a softmax has at least two outputs."""
    if divergence == "kl" and shape[-1] == 1:
        raise ValueError(
            f"`{argument}` must have two outputs or more for divergence='kl', since a softmax of "
            f"one output is always 1. Received: outputs of shape {tuple(shape)}. Use "
            "divergence='binary_kl' for a yes/no output, or 'mse' for regression."
        )


def _check_inputs(models):
    shapes = [
        [tuple(symbol.shape) for symbol in getattr(model, "inputs", None) or []]
        for model in models.values()
    ]
    if len(shapes) < 2 or not all(shapes):
        return
    if len(shapes[0]) != len(shapes[1]) or not all(map(_are_compatible, *shapes)):
        raise ValueError(
            "`teacher` and `student` must take the same inputs. Received: teacher inputs of "
            f"shapes {shapes[0]}, student inputs of shapes {shapes[1]}"
        )


def _are_compatible(shape, other):
    return len(shape) == len(other) and all(
        None in sizes or sizes[0] == sizes[1] for sizes in zip(shape, other, strict=True)
    )


def check_activation(
    subject: str, activation: str | None, divergence: str, from_logits: bool
) -> None:
    """Checks that a model with this output activation outputs what the divergence compares.

    Args:
        subject: Words for the model in the message.
        activation: From `output_activation`; `None` if it is not known.
        divergence: Name of the divergence.
        from_logits: Whether outputs are logits and not probabilities.
    """
    if divergence == "mse":
        return
    if from_logits and activation in ("softmax", "sigmoid"):
        raise ValueError(
            f"{subject} must output logits. Received: a model that ends in a {activation}. Pass "
            "from_logits=False, or remove the activation (and use a loss with from_logits=True)."
        )
    if not from_logits and activation not in (None, _PROBABILITIES[divergence]):
        raise ValueError(
            f"{subject} must output probabilities, by a {_PROBABILITIES[divergence]} at the end, "
            f"when from_logits=False and divergence={divergence!r}. Received: a model that ends in "
            f"the activation {activation!r}. Pass from_logits=True if these are logits."
        )


def check_number_of_points(num_region_points: Any, replace_fraction: Any) -> None:
    """Checks the arguments for the number of region points in a batch."""
    if not is_positive_integer(num_region_points):
        raise ValueError(
            "`num_region_points` must be an integer of at least 1. "
            f"Received: num_region_points={num_region_points!r}. Use region_weight=0 for none."
        )
    if replace_fraction is None:
        return
    if not is_number(replace_fraction) or not 0 < replace_fraction < 1:
        raise ValueError(
            "`replace_fraction` must be a number between 0 and 1, or None. "
            f"Received: replace_fraction={replace_fraction!r}"
        )
    if num_region_points != 1:
        raise ValueError(
            "`num_region_points` must be 1 when `replace_fraction` is given, since every "
            "replaced example becomes one region point. "
            f"Received: num_region_points={num_region_points}"
        )


def checked_seed(seed: int | None) -> int:
    """An integer seed: the given one, or one from Python's generator."""
    if seed is None:
        return random.randrange(2**31)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ValueError(
            f"`seed` must be an integer from 0 to 2^31 - 1, or None. Received: seed={seed!r}"
        )
    return int(seed)


def takes_integers(model: keras.Model | None) -> bool:
    """Whether a model's graph casts its inputs to integers, which rounds them down."""
    inputs = getattr(model, "inputs", None) or []
    return any(not tf.as_dtype(symbol.dtype).is_floating for symbol in inputs)
