"""Checks of teachers and students: their kind, inputs, outputs and weights."""

import inspect
import os
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.utils.types import Shape

__all__ = [
    "all_layers",
    "are_compatible",
    "check_inputs_agree",
    "check_kind",
    "check_models",
    "check_models_are_built",
    "check_shares_nothing_trained",
    "check_takes_more_points",
    "data_format_of",
    "given_models",
    "input_symbols",
    "is_quantized",
    "new_inputs",
    "takes_integers",
]


def check_models(teacher: Any, student: Any) -> None:
    """Checks that teacher, if any, and student are different Keras models of the same inputs."""
    for argument, model in given_models(teacher, student):
        check_kind(argument, model, keras.Model)
    _warn_of_quantized_student(student)
    if teacher is None:
        return
    if teacher is student:
        raise ValueError(
            "`teacher` and `student` must be different models: the teacher would change while the "
            "student trains. Received: the same model twice; use keras.models.clone_model."
        )
    check_shares_nothing_trained(teacher, student)
    _warn_of_larger_student(teacher, student)
    check_inputs_agree(teacher, student)


def check_kind(argument: str, value: Any, kind: type) -> None:
    """Checks that an argument is a Keras model or layer.

    Args:
        argument: Name of the argument.
        value: Its value.
        kind: `keras.Model` or `keras.layers.Layer`.

    Raises:
        ValueError: If it is not; the message tells how to make one of it.
    """
    if not isinstance(value, kind):
        name = "keras.Model" if kind is keras.Model else "keras.Model, or another Keras layer"
        raise ValueError(
            f"`{argument}` must be a {name}. Received: {argument}={value!r} of type "
            f"{type(value).__name__}.{_way_to_a_model(argument, value)}"
        )


def _way_to_a_model(argument, value):
    """What makes a Keras model of something else, as the end of a message."""
    modules = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    if modules & {"tf_keras", "tensorflow_estimator"} or "tf_keras" in type(value).__module__:
        return (
            " That is a model of Keras 2, which Keras 3 cannot run. Save it with "
            "`tf.saved_model.save(model, folder)`; what is saved is a teacher: "
            "`keras.layers.TFSMLayer(folder, call_endpoint='serving_default')`."
        )
    if isinstance(value, (list, tuple)) and argument == "teacher":
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
    if callable(value) and argument == "teacher":
        return " Wrap the function: `l2rkd_tf.CallableTeacher(function, num_outputs)`."
    return ""


def _warn_of_larger_student(teacher, student):
    if not student.built:
        return
    sizes = teacher.count_params(), student.count_params()
    if sizes[0] and sizes[1] > 1.1 * sizes[0]:  # a function has no weights
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


def given_models(teacher: Any, student: Any) -> tuple[tuple[str, Any], ...]:
    """Arguments and their models; there is no teacher if the data carry its outputs."""
    both = (("teacher", teacher), ("student", student))
    return both[1:] if teacher is None else both


def check_shares_nothing_trained(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks that the student's training changes no weight of the teacher."""
    if teacher is None:
        return
    teacher_variables = {id(variable) for variable in teacher.variables}
    trained = [*student.trainable_variables, *_moving_statistics(student)]
    shared = [variable.path for variable in trained if id(variable) in teacher_variables]
    if shared:
        raise ValueError(
            "`teacher` and `student` must not share weights that the student trains, since the "
            f"teacher would change. Received: shared weights {shared}. Freeze the shared layers "
            "(`layer.trainable = False`) or clone the teacher."
        )


def _moving_statistics(model):
    """What batch normalizations move in training; some have nothing else."""
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            yield from layer.non_trainable_variables


def check_inputs_agree(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks, as far as graphs show, that teacher, if any, and student take the same inputs."""
    shapes = [
        [tuple(symbol.shape) for symbol in getattr(model, "inputs", None) or []]
        for _, model in given_models(teacher, student)
    ]
    if len(shapes) < 2 or not all(shapes):
        return
    if len(shapes[0]) != len(shapes[1]) or not all(map(are_compatible, *shapes)):
        raise ValueError(
            "`teacher` and `student` must take the same inputs. Received: teacher inputs of "
            f"shapes {shapes[0]}, student inputs of shapes {shapes[1]}. {_way_to_inputs(*shapes)}"
        )


def _way_to_inputs(teacher, student):
    """How a teacher comes to take the student's inputs, as the end of a message."""
    if len(teacher) != 1 or len(student) != 1 or min(len(teacher[0]), len(student[0])) < 3:
        return (
            "Wrap the teacher in a model that takes the student's inputs (and cuts or pads them, "
            "say), or pass a distiller `teacher_preprocessing`."
        )
    shape, layers = student[0][1:], "keras.layers.Rescaling(scale)"
    if len(teacher[0]) == 4 == len(student[0]):
        rows, columns = teacher[0][1:3]  # as in `channels_last`, the usual format
        layers = f"keras.layers.Resizing({rows}, {columns})"
    return (
        f"Wrap the teacher: `keras.Sequential([keras.Input({shape}), {layers}, teacher])`, with "
        "Resizing where sizes differ and Rescaling where scales do; or pass a distiller "
        f"`teacher_preprocessing={layers}`."
    )


def are_compatible(shape: Shape, other: Shape) -> bool:
    """Whether tensors of these shapes may be of one shape."""
    return len(shape) == len(other) and all(
        None in sizes or sizes[0] == sizes[1] for sizes in zip(shape, other, strict=True)
    )


def check_takes_more_points(teacher: keras.Model | None, student: keras.Model) -> None:
    """Checks that region points can pass through the models together with training points.

    Args:
        teacher: Keras model, or `None`.
        student: Keras model.

    Raises:
        ValueError: If a model keeps states between batches.
    """
    for argument, model in given_models(teacher, student):
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


def input_symbols(model: Any) -> Any:
    """Symbolic inputs of a model with a graph, in the structure that it takes; else `None`."""
    # A subclassed model has no graph of layers: asking for its inputs raises.
    try:
        if not model.inputs:
            return None
        return model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except (AttributeError, TypeError, ValueError):
        return None


def new_inputs(symbols: Any) -> Any:
    """`keras.Input`s like these symbolic inputs."""

    def like(one, name=None):
        return keras.Input(batch_shape=one.shape, dtype=one.dtype, name=name or one.name)

    if isinstance(symbols, dict):  # their names must be the keys
        return {name: like(one, name) for name, one in symbols.items()}
    return keras.tree.map_structure(like, symbols)


def takes_integers(model: keras.Model | None) -> bool:
    """Whether a model's graph casts its inputs to integers, which rounds them down."""
    inputs = getattr(model, "inputs", None) or []
    return any(not tf.as_dtype(symbol.dtype).is_floating for symbol in inputs)
