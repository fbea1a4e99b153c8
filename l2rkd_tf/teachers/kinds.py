"""Makes one Keras model, from the student's inputs to outputs, of a teacher of any kind."""

from collections.abc import Mapping
from typing import Any

import keras

from l2rkd_tf.models import ensemble
from l2rkd_tf.models.ensembles import MeanOfMembers
from l2rkd_tf.teachers.callable_teacher import callable_teachers
from l2rkd_tf.utils.model_checks import (
    all_layers,
    are_compatible,
    check_kind,
    input_symbols,
    new_inputs,
)
from l2rkd_tf.utils.outputs import only_output, tensor_or_dict
from l2rkd_tf.utils.types import Divergence, FeatureFunction, TeacherLike, TeacherPreprocessing

__all__ = ["as_teacher", "features_of_given", "has_preprocessing", "kind_without_layers"]


def as_teacher(
    teacher: TeacherLike | None,
    preprocessing: TeacherPreprocessing | None,
    inputs: Any,
    divergence: Divergence | Mapping[str, Divergence | None] = "kl",
    from_logits: bool = True,
) -> keras.Model | None:
    """The Keras model that answers for a teacher at the student's inputs.

    Args:
        teacher: Keras model or layer, a list of such, or `None`.
        preprocessing: Keras layer, model or registered function from the student's inputs to the
            teacher's, or `None`.
        inputs: Symbolic inputs of the student, in its structure; `None` if they are not known.
        divergence: As the argument of `L2RKDDistiller`.
        from_logits: As the argument of `L2RKDDistiller`.

    Returns:
        `teacher` itself where it is a model that takes the student's inputs; otherwise a functional
        model that shares its layers; `None` for `None`.

    Raises:
        ValueError: If the teacher is of no such kind, not built, or takes other inputs;
            `preprocessing` cannot be saved or called; or their inputs are not known.
    """
    if teacher is None:
        if preprocessing is not None:
            raise ValueError(
                "`teacher_preprocessing` must be None where `teacher` is. Received: "
                f"teacher_preprocessing={preprocessing!r}"
            )
        return None
    members = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
    for member in members:
        check_kind("teacher", member, keras.layers.Layer)
        _check_is_built(member)
    if preprocessing is not None:
        preprocessing = _as_layer(preprocessing)
        inputs = input_symbols(preprocessing) if inputs is None else inputs
        if inputs is None:
            raise _unknown_inputs("`teacher_preprocessing`")
        inputs = new_inputs(inputs)
    words = "teacher_preprocessing"
    taken = inputs if preprocessing is None else _called(words, preprocessing, inputs)
    is_ensemble = isinstance(teacher, (list, tuple))
    models = [_as_model(member, taken, is_ensemble) for member in members]
    _check_takes(models, taken, preprocessing)
    if is_ensemble:
        model = ensemble(models, divergence=divergence, from_logits=from_logits)
    else:
        (model,) = models
    if preprocessing is None:
        return model
    outputs = tensor_or_dict("teacher", model, model(taken))
    prepared = keras.Model(inputs, outputs, name=model.name)
    prepared.has_preprocessing = True
    return prepared


def has_preprocessing(teacher: keras.Model) -> bool:
    """Whether `as_teacher` has put preprocessing before a teacher."""
    return getattr(teacher, "has_preprocessing", False)


def features_of_given(
    features: FeatureFunction | None, teacher: Any, preprocessing: TeacherPreprocessing | None
) -> FeatureFunction | None:
    """The argument `features` of a distiller for the model that `as_teacher` makes.

    It gets the teacher that was given, and the inputs that this one takes.
    """
    if not callable(features) or preprocessing is None:
        return features
    prepare = _as_layer(preprocessing)
    return lambda model, inputs, training: features(
        teacher, prepare(inputs, training=False), training
    )


def kind_without_layers(teacher: keras.Model | None, gradients: bool) -> str | None:
    """Words for a teacher that shows methods nothing but its outputs; `None` for any other.

    Args:
        teacher: What `as_teacher` returned.
        gradients: Whether gradients of its outputs are asked for, and not its layers.
    """
    if teacher is None:
        return "None, since data carry no more of the teacher"
    if any(callable_teachers(teacher)):
        return "a function, of which TensorFlow knows only the outputs"
    if not gradients and any(isinstance(layer, MeanOfMembers) for layer in all_layers(teacher)):
        return "an ensemble, whose members have layers of their own"
    return None


def _check_is_built(teacher):
    if not teacher.built:
        kind = "model" if isinstance(teacher, keras.Model) else "layer"
        raise ValueError(
            "`teacher` must be built and trained, or loaded with its weights. Received: the "
            f"unbuilt {kind} {teacher.name!r}; call it on a batch and load its weights first."
        )


def _as_layer(preprocessing):
    """The layer that preprocesses, which files can hold."""
    if isinstance(preprocessing, keras.layers.Layer):
        return preprocessing
    name = keras.saving.get_registered_name(preprocessing) if callable(preprocessing) else None
    if name is None or keras.saving.get_registered_object(name) is not preprocessing:
        raise ValueError(
            "`teacher_preprocessing` must be a Keras layer or model, or a registered function, so "
            "that it can be saved. Received: teacher_preprocessing="
            f"{preprocessing!r}. Decorate a function with "
            "@keras.saving.register_keras_serializable()."
        )
    return keras.layers.Lambda(preprocessing, name="teacher_preprocessing", dtype="float32")


def _called(argument, layer, inputs):
    """Symbolic outputs of a layer at inference."""
    try:
        return layer(inputs, training=False)
    except Exception as error:
        shapes = keras.tree.map_structure(lambda symbol: tuple(symbol.shape), inputs)
        raise ValueError(
            f"`{argument}` must take the inputs that it gets. Received: {argument}={layer!r}, "
            f"which fails for inputs of shape {shapes}: {error}"
        ) from error


def _as_model(teacher, taken, needs_graph):
    """A model of a layer; with `needs_graph` also of a model without a graph."""
    is_model = isinstance(teacher, keras.Model)
    if is_model and (not needs_graph or input_symbols(teacher) is not None):
        return teacher
    if taken is None:
        raise _unknown_inputs("`teacher`")
    inputs = new_inputs(taken)
    return keras.Model(inputs, only_output(_called("teacher", teacher, inputs)), name=teacher.name)


def _unknown_inputs(argument):
    return ValueError(
        f"{argument} of this kind needs a student whose inputs are known. Received: a student "
        "without them, or no model. Begin it with keras.Input, or wrap the teacher: `inputs = "
        "keras.Input(shape); teacher = keras.Model(inputs, layer(inputs))`."
    )


def _check_takes(models, taken, preprocessing):
    """Checks, as far as graphs show, that teachers take what preprocessing returns."""
    if preprocessing is None:
        return
    outputs = [tuple(symbol.shape) for symbol in keras.tree.flatten(taken)]
    for model in models:
        shapes = [tuple(one.shape) for one in getattr(model, "inputs", None) or []]
        fits = len(shapes) == len(outputs) and all(map(are_compatible, shapes, outputs))
        if shapes and not fits:
            raise ValueError(
                "`teacher_preprocessing` must turn the student's inputs into the teacher's. "
                f"Received: teacher inputs of shapes {shapes}, and outputs of "
                f"teacher_preprocessing of shapes {outputs}"
            )
