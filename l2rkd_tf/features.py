"""Outputs and inner features of a model in one forward pass."""

import weakref
from collections.abc import Callable, Collection
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import FeatureFunction, Features, Shape, Tensors

__all__ = ["INPUT_GRADIENT", "LOGITS", "OUTPUT", "feature_model", "layer_shapes", "model_outputs"]

# Shapes of models that were traced before, with the layers that they had then.
_SHAPES: Any = weakref.WeakKeyDictionary()

#: Key of a model's own output among its features; no layer has an empty name.
OUTPUT = ""
#: Key of the model's output as float32 logits; no layer's name.
LOGITS = "logits/of/the/output"
#: Key of the projected gradient of a model's output with respect to its inputs; no layer's name.
INPUT_GRADIENT = "gradient/of/the/output"


def feature_model(
    model: keras.Model, layer_names: Collection[str], explicit: FeatureFunction | None = None
) -> Callable[..., Features]:
    """A function that gives a model's output and features of named layers in one pass.

    Args:
        model: A Functional or Sequential Keras model; any model if `layer_names` is empty.
        layer_names: Names of layers of the model.
        explicit: For a model whose layers are not connected in a graph: a callable
            `(model, inputs, training) -> (outputs, {name: feature, ...})`.

    Returns:
        A callable `(inputs, training) -> {OUTPUT: output, name: feature, ...}` that shares all
        layers with `model`.

    Raises:
        ValueError: If the model has no such layer, or no graph to take a layer's output from; or
            if `explicit` is no callable.
    """
    if explicit is not None and not callable(explicit):
        raise ValueError(
            "`features` must be a callable `(model, inputs, training) -> (outputs, {name: "
            f"feature}})`, or None. Received: features={explicit!r}"
        )
    if not layer_names:
        return lambda inputs, training: {OUTPUT: model(inputs, training=training)}
    if not model.built or not getattr(model, "inputs", None):
        return _explicit_features(model, sorted(layer_names), explicit)
    existing = [layer.name for layer in model.layers]
    missing = sorted(set(layer_names) - set(existing))
    if missing:
        raise ValueError(
            f"`distillation_losses` compares layers {missing}, which the model {model.name!r} "
            f"does not have. Its layers: {existing}"
        )
    names = sorted(set(layer_names))
    inputs, output, features = _trace(model)
    extractor = keras.Model(inputs, [output, *(features[name] for name in names)])

    def extract(inputs, training):
        output, *inner = extractor(inputs, training=training)
        return {OUTPUT: output, **dict(zip(names, inner, strict=True))}

    return extract


def layer_shapes(model: keras.Model) -> dict[str, Shape]:
    """Shapes of what the layers of a model give, by name, in the order of the layers.

    Args:
        model: Keras model.

    Returns:
        `{name: shape}` of all layers with one output, but for inputs; empty, if the model's layers
        are not connected in a graph.
    """
    if not model.built or not getattr(model, "inputs", None):
        return {}
    names = [layer.name for layer in model.layers]
    known, shapes = _SHAPES.get(model, (None, None))
    if known != names:
        _, _, features = _trace(model)
        shapes = {
            name: tuple(features[name].shape)
            for name in names
            if name in features and not keras.tree.is_nested(features[name])
        }
        _SHAPES[model] = names, shapes
    return shapes


def _explicit_features(model, names, explicit):
    if explicit is None:
        raise ValueError(
            f"`distillation_losses` compares layers {names} of the model "
            f"{model.name!r}, whose layers are not connected in a graph. Use a Functional model, "
            "or a Sequential model with a keras.Input, or pass the distiller a callable "
            "`features(model, inputs, training)` that returns (outputs, {name: feature})."
        )

    def extract(inputs, training):
        result = explicit(model, inputs, training)
        if not isinstance(result, (list, tuple)) or len(result) != 2:
            raise ValueError(
                "`features` must return (outputs, {name: feature}). Received, for the model "
                f"{model.name!r}: {result!r}"
            )
        output, features = result
        if not isinstance(features, dict):
            raise ValueError(
                "`features` must return (outputs, {name: feature}). Received, for the model "
                f"{model.name!r}, instead of the dict: {features!r}"
            )
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(
                f"`distillation_losses` compares {missing}, which `features` does not return for "
                f"the model {model.name!r}. It returns: {sorted(features)}"
            )
        return {OUTPUT: output, **{name: features[name] for name in names}}

    return extract


def _trace(model):
    """Inputs, output and the outputs of all layers in one new graph of the model's own layers.

    `layer.output` will not do: it belongs to the first graph that the layer was ever part of,
    such as another model's, or an earlier state of a Sequential model.
    """
    features = {}

    def record(layer, *args, **kwargs):
        features[layer.name] = layer(*args, **kwargs)
        return features[layer.name]

    if isinstance(model, keras.Sequential):
        inputs = x = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
        for layer in model.layers:
            x = record(layer, x)
        return inputs, x, features
    traced = keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=record
    )
    return traced.input, traced.outputs[0], features


def model_outputs(model: keras.Model, inputs: Tensors) -> tf.Tensor:
    """A model's outputs in inference mode, float32, shape `(batch, outputs)`."""
    outputs = only_output(model(inputs, training=False))
    if keras.tree.is_nested(outputs) or outputs.shape.rank != 2:
        shapes = [tuple(output.shape) for output in keras.tree.flatten(outputs)]
        raise ValueError(
            "`teacher`, `student` or `model` must have one output of shape (batch, outputs). "
            f"Received: the model {model.name!r} with outputs of shapes {shapes}"
        )
    return tf.cast(outputs, tf.float32)
