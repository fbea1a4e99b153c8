"""Checks of what models output: its shape, its activation, and what a divergence can compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from l2rkd_tf.utils.model_checks import are_compatible, check_inputs_agree, given_models
from l2rkd_tf.utils.outputs import names_of_outputs
from l2rkd_tf.utils.validation import check_flag

__all__ = [
    "check_activation",
    "check_from_logits",
    "check_models_agree",
    "check_number_of_outputs",
    "check_outputs",
    "check_outputs_agree",
    "output_activation",
]

# The activation at the end of a model that makes its outputs probabilities of the divergence.
_PROBABILITIES = {"kl": "softmax", "binary_kl": "sigmoid"}


def output_activation(model: keras.Model | keras.layers.Layer, index: int = 0) -> str | None:
    """Name of a model's output activation, if the model's graph shows it.

    Args:
        model: A Keras model or layer.
        index: Which one of several outputs.

    Returns:
        `"softmax"`, `"sigmoid"`, `"linear"` or the name of another function; `None` if the graph
        does not show it, as in a subclassed model.
    """
    if isinstance(model, keras.Sequential) and model.layers:
        return output_activation([layer for layer in model.layers if not _is_cast(layer)][-1])
    output_names = getattr(model, "output_names", None)
    if output_names:
        operation = {o.name: o for o in model.operations}[output_names[index]]
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


def check_outputs(
    models: Mapping[str, keras.Model], divergence: str, from_logits: bool, name: str | None = None
) -> None:
    """Checks that an output of models with a graph is what the divergence compares.

    Args:
        models: The models, by the name of their argument.
        divergence: Name of the divergence.
        from_logits: Whether outputs are logits and not probabilities.
        name: Name of the output; `None` for the only one of each.

    Raises:
        ValueError: If it is not.
    """
    shapes = {}
    for argument, model in models.items():
        names = names_of_outputs(model) or (None,)
        if name is None and len(names) > 1:
            raise ValueError(
                f"`{argument}` must have one output of shape (batch, ..., outputs). Received: "
                f"outputs {list(names)} of shapes {[output.shape for output in model.outputs]}"
            )
        place = 0 if name is None else names.index(name)
        shapes[argument] = model.outputs[place].shape
        check_number_of_outputs(argument, shapes[argument], divergence)
        of_argument = f"`{argument}`" if name is None else f"The output {name!r} of `{argument}`"
        activation = output_activation(model, place)
        check_activation(of_argument, activation, divergence, from_logits)
    if len(shapes) > 1:
        check_outputs_agree(**shapes)


def check_from_logits(divergences: Sequence[str], from_logits: bool) -> None:
    """Checks that `from_logits` says something about one of these divergences."""
    check_flag("from_logits", from_logits)
    if not from_logits and set(divergences) == {"mse"}:
        raise ValueError(
            "`from_logits=False` has no meaning for divergence='mse', which compares raw outputs. "
            "Received: from_logits=False. Omit it."
        )


def check_models_agree(
    teacher: keras.Model | None, student: keras.Model, divergence: str, from_logits: bool
) -> None:
    """Checks, as far as graphs show, that models of one output each can be compared.

    Raises:
        ValueError: If they take other inputs, or output something else than is compared.
    """
    check_from_logits([divergence], from_logits)
    models = dict(given_models(teacher, student))
    check_inputs_agree(teacher, student)
    graphs = {name: model for name, model in models.items() if getattr(model, "outputs", None)}
    check_outputs(graphs, divergence, from_logits)


def check_outputs_agree(teacher: Any, student: Any) -> None:
    """Checks that outputs of these shapes can be compared."""
    shapes = [tuple(shape) for shape in (teacher, student)]
    shapes = [shape if len(shape) > 1 else (*shape, 1) for shape in shapes]
    if not are_compatible(*shapes):
        same = "number of outputs" if max(map(len, shapes)) == 2 else "shape of outputs"
        raise ValueError(
            f"`teacher` and `student` must have the same {same}. Received: teacher "
            f"outputs of shape {tuple(teacher)}, student outputs of shape {tuple(student)}"
        )


def check_number_of_outputs(argument: str, shape: Any, divergence: str) -> None:
    """Checks that a softmax has at least two outputs."""
    if divergence == "kl" and (len(shape) < 2 or shape[-1] == 1):
        raise ValueError(
            f"`{argument}` must have two outputs or more for divergence='kl', since a softmax of "
            f"one output is always 1. Received: outputs of shape {tuple(shape)}. Use "
            "divergence='binary_kl' for a yes/no output, or 'mse' for regression."
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
