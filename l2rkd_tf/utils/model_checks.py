"""Checks of teachers and students: their kind, inputs, outputs and weights."""

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.utils.outputs import names_of_outputs
from l2rkd_tf.utils.validation import check_flag

__all__ = [
    "all_layers",
    "check_activation",
    "check_from_logits",
    "check_inputs_agree",
    "check_models",
    "check_models_agree",
    "check_models_are_built",
    "check_number_of_outputs",
    "check_outputs",
    "check_outputs_agree",
    "check_shares_nothing_trained",
    "check_takes_more_points",
    "data_format_of",
    "is_quantized",
    "output_activation",
    "takes_integers",
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


def check_models(teacher: Any, student: Any) -> None:
    """Checks that teacher, if any, and student are Keras models, and the teacher is built."""
    for argument, model in _given(teacher, student):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"`{argument}` must be a keras.Model. Received: {argument}={model!r} of type "
                f"{type(model).__name__}.{_way_to_a_model(argument, model)}"
            )
    _warn_of_quantized_student(student)
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
    _warn_of_larger_student(teacher, student)


def _way_to_a_model(argument, value):
    """What makes a Keras model of something else, as the end of a message."""
    modules = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    if modules & {"tf_keras", "tensorflow_estimator"} or "tf_keras" in type(value).__module__:
        return (
            " That is a model of Keras 2, which Keras 3 cannot run. Save it with "
            "`tf.saved_model.save(model, folder)`, and wrap what is saved: "
            "`inputs = keras.Input(shape); outputs = keras.layers.TFSMLayer(folder, "
            "call_endpoint='serving_default')(inputs)`."
        )
    if isinstance(value, (list, tuple)):
        return " Make one model of several teachers: `l2rkd_tf.models.ensemble(teachers)`."
    if isinstance(value, (str, os.PathLike)):
        return f" Load the model first: `keras.models.load_model({os.fspath(value)!r})`."
    if isinstance(value, keras.layers.Layer):
        return (
            " Wrap the layer in a model: `inputs = keras.Input(shape); "
            f"{argument} = keras.Model(inputs, layer(inputs))`."
        )
    if inspect.isclass(value):
        return f" Did you mean `{value.__name__}()`?"
    if callable(value):
        return " Wrap the function in a subclass of keras.Model whose `call` runs it."
    return ""


def _warn_of_larger_student(teacher, student):
    if not student.built:
        return
    sizes = teacher.count_params(), student.count_params()
    if sizes[1] > 1.1 * sizes[0]:
        warnings.warn(
            f"`student` has more weights than `teacher`, {sizes[1]:,} and {sizes[0]:,}. If they "
            "are swapped: L2RKDDistiller(teacher, student) takes the teacher first.",
            stacklevel=4,
        )


def _warn_of_quantized_student(student):
    fixed = [
        layer.name
        for layer in all_layers(student)
        if is_quantized(layer) and not getattr(layer, "lora_enabled", False)
    ]
    if fixed:
        warnings.warn(
            f"`student` has layers that Keras has quantized, {fixed}, whose kernels are not "
            "trained. Train the student first and call `quantize` afterwards, or use "
            "`enable_lora`.",
            stacklevel=4,
        )


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
    models = dict(_given(teacher, student))
    check_inputs_agree(teacher, student)
    graphs = {name: model for name, model in models.items() if getattr(model, "outputs", None)}
    check_outputs(graphs, divergence, from_logits)


def check_outputs_agree(teacher: Any, student: Any) -> None:
    """Checks that outputs of these shapes can be compared."""
    shapes = [tuple(shape) for shape in (teacher, student)]
    shapes = [shape if len(shape) > 1 else (*shape, 1) for shape in shapes]
    if not _are_compatible(*shapes):
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


def check_inputs_agree(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks, as far as graphs show, that teacher, if any, and student take the same inputs."""
    shapes = [
        [tuple(symbol.shape) for symbol in getattr(model, "inputs", None) or []]
        for _, model in _given(teacher, student)
    ]
    if len(shapes) < 2 or not all(shapes):
        return
    if len(shapes[0]) != len(shapes[1]) or not all(map(_are_compatible, *shapes)):
        raise ValueError(
            "`teacher` and `student` must take the same inputs. Received: teacher inputs of "
            f"shapes {shapes[0]}, student inputs of shapes {shapes[1]}. {_way_to_inputs(*shapes)}"
        )


def _way_to_inputs(teacher, student):
    """How a teacher comes to take the student's inputs, as the end of a message."""
    if len(teacher) != 1 or len(student) != 1:
        return "Wrap the teacher in a model that takes the student's inputs."
    shape, layers = student[0][1:], "keras.layers.Rescaling(scale)"
    if len(teacher[0]) == 4 == len(student[0]):
        rows, columns = teacher[0][1:3]  # as in `channels_last`, the usual format
        layers = f"keras.layers.Resizing({rows}, {columns})"
    return (
        f"Wrap the teacher: `keras.Sequential([keras.Input({shape}), {layers}, teacher])`, with "
        "Resizing where sizes differ and Rescaling where scales do."
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


def check_takes_more_points(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks that region points can pass through the models together with training points.

    Args:
        teacher: Keras model, or `None`.
        student: Keras model.

    Raises:
        ValueError: If a model keeps states between batches.
    """
    for argument, model in _given(teacher, student):
        names = [layer.name for layer in all_layers(model) if getattr(layer, "stateful", False)]
        if names:
            raise ValueError(
                f"`{argument}` must not be stateful: region points double the batch, and a state "
                f"belongs to one example. Received: stateful layers {names}. Make them with "
                "stateful=False, or set region_weight=0."
            )


def all_layers(model: Any) -> Iterator[keras.layers.Layer]:
    """All layers of a model, also those of models in it."""
    for layer in getattr(model, "layers", []):
        yield layer
        yield from all_layers(layer)


def is_quantized(layer: keras.layers.Layer) -> bool:
    """Whether `quantize` of Keras has made integers of a layer's weights."""
    return isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy)


def data_format_of(*models: keras.Model | None) -> str | None:
    """Where images have their channels, as layers of one of the models say; `None` if none does."""
    for model in models:
        for layer in all_layers(model):
            if isinstance(getattr(layer, "data_format", None), str):
                return layer.data_format
    return None


def takes_integers(model: keras.Model | None) -> bool:
    """Whether a model's graph casts its inputs to integers, which rounds them down."""
    inputs = getattr(model, "inputs", None) or []
    return any(not tf.as_dtype(symbol.dtype).is_floating for symbol in inputs)
