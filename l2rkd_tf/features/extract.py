"""A model's output and features of its layers, from one pass."""

from collections.abc import Callable, Collection

import keras
import tensorflow as tf

from l2rkd_tf.features.graph import has_graph, trace
from l2rkd_tf.features.layers import layer_path
from l2rkd_tf.features.names import OUTPUT
from l2rkd_tf.features.taken import taken_leaves
from l2rkd_tf.utils.model_checks import input_symbols
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import FeatureFunction, Features, Tensors

__all__ = ["feature_model", "grey_levels", "model_outputs"]


def feature_model(
    model: keras.Model, layer_names: Collection[str], explicit: FeatureFunction | None = None
) -> Callable[..., Features]:
    """A function that gives a model's output and features of named layers in one pass.

    Features of layers that put the channels first are transposed: their channels are last. The
    output of a model that names its only one, in a dict, is the tensor.

    Args:
        model: A Functional or Sequential Keras model; any model if `layer_names` is empty, or with
            `explicit`.
        layer_names: Paths of layers of the model, as `layer_path` takes them: `"backbone/conv1"`
            is a layer of a nested model.
        explicit: A callable `(model, inputs, training) -> (outputs, {name: feature, ...})` that is
            used in place of the model's graph.

    Returns:
        A callable `(inputs, training) -> {OUTPUT: output, name: feature, ...}` that shares all
        layers with `model`.

    Raises:
        ValueError: If the model has no such layer, or no graph to take a layer's output from; or
            if `explicit` isn't callable.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden")])
        >>> features = feature_model(model, ["hidden"])(tf.zeros((2, 4)), training=False)
        >>> features["hidden"].shape
        TensorShape([2, 3])
    """
    if explicit is not None and not callable(explicit):
        raise ValueError(
            "`features` must be a callable `(model, inputs, training) -> (outputs, {name: "
            f"feature}})`, or None. Received: features={explicit!r}"
        )
    names = sorted(set(layer_names))
    if not names:
        return lambda inputs, training: {OUTPUT: only_output(model(inputs, training=training))}
    if explicit is not None:
        return _explicit_features(model, names, explicit)
    if not has_graph(model):
        raise ValueError(
            f"`distillation_losses` compares layers {names} of the model {model.name!r}, whose "
            "layers are not connected in a graph. Use a Functional model, or a Sequential model "
            "with a keras.Input, or pass the distiller a callable `features(model, inputs, "
            "training)` that returns (outputs, {name: feature})."
        )
    return _graph_features(model, names)


def _graph_features(model, names):
    paths = [layer_path(model, name) for name in names]
    graph = trace(model)
    output = only_output(graph.outputs)
    inner = [graph.tensors[path] for path in paths]
    extractor = keras.Model(graph.inputs, [output, *inner], name=model.name)
    transposed = [graph.layers[path].channels_first for path in paths]

    def extract(inputs, training):
        output, *inner = extractor(inputs, training=training)
        inner = map(channels_last, inner, transposed)
        return {OUTPUT: output, **dict(zip(names, inner, strict=True))}

    return extract


def channels_last(feature, channels_first):
    return tf.einsum("bc...->b...c", feature) if channels_first else feature


def _explicit_features(model, names, explicit):
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
        return {OUTPUT: only_output(output), **{name: features[name] for name in names}}

    return extract


def model_outputs(model: keras.Model, inputs: Tensors, training: bool = False) -> tf.Tensor:
    """A model's outputs, by default in inference mode, float32, shape `(batch, ..., outputs)`.

    Floats for inputs that the model declares as uint8 are rounded to whole grey levels, 0 to 255.
    """
    outputs = only_output(model(_as_declared(model, inputs), training=training))
    if keras.tree.is_nested(outputs):
        shapes = [tuple(output.shape) for output in keras.tree.flatten(outputs)]
        raise ValueError(
            "`teacher`, `student` or `model` must have one output of shape (batch, ..., outputs). "
            f"Received: the model {model.name!r} with outputs of shapes {shapes}"
        )
    outputs = tf.cast(outputs, tf.float32)
    return outputs[:, None] if outputs.shape.rank == 1 else outputs


def _as_declared(model, inputs):
    """Inputs, with whole grey levels for those that the model declares as uint8."""
    leaves = keras.tree.flatten(inputs)
    symbols = keras.tree.flatten(input_symbols(model))
    for leaf, symbol in zip(taken_leaves(model, inputs), symbols, strict=False):
        if symbol.dtype == "uint8" and tf.as_dtype(leaves[leaf].dtype).is_floating:
            leaves[leaf] = grey_levels(leaves[leaf])
    return keras.tree.pack_sequence_as(inputs, leaves)


def grey_levels(images: tf.Tensor) -> tf.Tensor:
    """Floats as whole grey levels, 0 to 255: a cast to integers would wrap others around."""
    return tf.clip_by_value(tf.round(images), 0, 255)
