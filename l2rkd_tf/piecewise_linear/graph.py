"""Traces a piecewise-linear Keras model as a list of calls in float64 that show where it bends."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.piecewise_linear.kinks import Kink, elementwise, global_max_pooling, max_pooling

__all__ = ["Graph", "run", "trace"]

_layers = keras.layers
_IDENTITIES = (
    _layers.AlphaDropout,
    _layers.Dropout,
    _layers.GaussianDropout,
    _layers.GaussianNoise,
    _layers.Identity,
    _layers.SpatialDropout1D,
    _layers.SpatialDropout2D,
)
_AFFINE = (
    _layers.Add,
    _layers.Average,
    _layers.AveragePooling1D,
    _layers.AveragePooling2D,
    _layers.Concatenate,
    _layers.Cropping1D,
    _layers.Cropping2D,
    _layers.Flatten,
    _layers.GlobalAveragePooling1D,
    _layers.GlobalAveragePooling2D,
    _layers.Normalization,
    _layers.Permute,
    _layers.Rescaling,
    _layers.Reshape,
    _layers.Subtract,
    _layers.UpSampling1D,
    _layers.UpSampling2D,
    _layers.ZeroPadding1D,
    _layers.ZeroPadding2D,
)
# Affine except for their `activation`.
_ACTIVATED = (
    _layers.Conv1D,
    _layers.Conv1DTranspose,
    _layers.Conv2D,
    _layers.Conv2DTranspose,
    _layers.Dense,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
    _layers.SeparableConv1D,
    _layers.SeparableConv2D,
)
_POOLS = (_layers.MaxPooling1D, _layers.MaxPooling2D)
_GLOBAL_POOLS = (_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D)
# TensorFlow computes these in float64 on a CPU only if channels are the last axis.
_MOVED_TO_LAST = (
    *(_layers.AveragePooling1D, _layers.AveragePooling2D),
    *_ACTIVATED,
    *_POOLS,
    *_GLOBAL_POOLS,
)
_RELUS = (_layers.LeakyReLU, _layers.PReLU, _layers.ReLU)
_OTHERS = (_layers.Activation, _layers.BatchNormalization)
# Thresholds, slopes and offsets of the pieces. Only these functions are recognized, not lambdas
# around them.
_ACTIVATIONS = {
    keras.activations.linear: None,
    keras.activations.relu: ((0.0,), (0.0, 1.0), (0.0, 0.0)),
    keras.activations.relu6: ((0.0, 6.0), (0.0, 1.0, 0.0), (0.0, 0.0, 6.0)),
    keras.activations.leaky_relu: ((0.0,), (0.2, 1.0), (0.0, 0.0)),
}
# `a + b` and `a - b` of symbolic tensors: operations without a public class.
_OPERATIONS = ("Add", "Subtract")


class Step(NamedTuple):
    """One call: a stage, its arguments and its output, the symbolic tensors of the graph."""

    stage: Any
    args: Any
    kwargs: Any
    output: Any


class Graph(NamedTuple):
    """The calls of a model in the order in which they are made."""

    inputs: Any
    steps: Any
    outputs: Any


class _Call(keras.Operation):
    """A symbolic call of the user's layer that the layer does not record."""

    def __init__(self, layer):
        super().__init__()
        self._layer = layer

    def compute_output_spec(self, *args, **kwargs):
        return self._layer.compute_output_spec(*args, **kwargs)


def trace(model: keras.Model) -> Graph:
    """Lists the calls of a model.

    Args:
        model: A Functional or Sequential Keras model, built; nested models are followed.

    Returns:
        A `Graph` for `run`.

    Raises:
        ValueError: If the model has no graph, overrides `call`, or has a layer that is not known to
            be piecewise linear.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a Functional model, or a Sequential model that is built, with a "
            f"keras.Input: its graph of layers is followed. Received: model={model!r} of type "
            f"{type(model).__name__}"
        )
    steps = []

    def record(layer, *args, **kwargs):
        _check_inference(layer, kwargs)
        output = _Call(layer)(*args, **kwargs)
        steps.append(Step(_stage(layer), args, kwargs, output))
        return output

    if isinstance(model, keras.Sequential):
        _check_call(model, keras.Sequential)
        inputs = x = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
        for layer in model.layers:
            x = record(layer, x)
        return Graph([inputs], steps, [x])
    # A separate model, since the clone of a compiled model would also be compiled.
    plain = keras.Model(model.inputs, model.outputs)
    _check_call(model, type(plain))
    traced = keras.models.clone_model(
        plain, clone_function=lambda layer: layer, call_function=record
    )
    return Graph(traced.inputs, steps, traced.outputs)


def run(graph: Graph, *inputs: tf.Tensor) -> tuple[list[tf.Tensor], list[Kink]]:
    """Evaluates a model.

    Args:
        graph: A `Graph`.
        *inputs: Float64 tensors of shape `(batch, ...)`, one for each input.

    Returns:
        `(outputs, kinks)`: a list of tensors, and a list of the `Kink` of each layer that bends.
    """
    values = dict(zip(map(id, graph.inputs), inputs, strict=True))
    kinks = []

    def value(leaf):
        return values[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    for step in graph.steps:
        args, kwargs = keras.tree.map_structure(value, (step.args, step.kwargs))
        output, found = step.stage(*args, **kwargs)
        leaves = zip(keras.tree.flatten(step.output), keras.tree.flatten(output), strict=True)
        values.update((id(symbol), tensor) for symbol, tensor in leaves)
        kinks += found
    return [values[id(output)] for output in graph.outputs], kinks


def _stage(layer):
    """The stage of a layer: `(*args, **kwargs) -> (output, kinks)`."""
    kind = type(layer)
    if getattr(layer, "data_format", None) == "channels_first" and kind in _MOVED_TO_LAST:
        return _with_channels_last(layer)
    if isinstance(layer, keras.Model):
        nested = trace(layer)
        return lambda *args, **_: run(nested, *keras.tree.flatten(args))
    if kind in _IDENTITIES:
        return lambda inputs, **_: (inputs, [])
    if not isinstance(layer, keras.Layer) and kind.__name__ in _OPERATIONS:
        return _affine(layer)
    if kind in _ACTIVATED:
        activate, affine = _activation(layer), _affine(_copy(layer, activation=None))
        return lambda inputs, **kwargs: activate(affine(inputs, **kwargs)[0])
    if kind is _layers.Activation:
        return _activation(layer)
    if kind is _layers.BatchNormalization:
        copy = _copy(layer)
        return lambda inputs, **_: (copy(inputs, training=False), [])
    if kind is _layers.UpSampling2D and layer.interpolation != "nearest":
        # TensorFlow computes the other modes in float32, without forward-mode derivatives.
        raise _unsupported(layer, f"of type UpSampling2D with {layer.interpolation!r}")
    if kind in _AFFINE:
        return _affine(_copy(layer))
    if kind in _POOLS + _GLOBAL_POOLS:
        return _pooling(layer)
    if kind in _RELUS:
        return elementwise(*_pieces(layer))
    raise _unsupported(layer, f"of type {kind.__name__}")


def _with_channels_last(layer):
    """The stage of a channels-first layer, as that of a channels-last one with the same weights."""
    stage = _stage(_copy(layer, data_format="channels_last"))

    def with_channels_last(inputs, **kwargs):
        output, kinks = stage(keras.ops.moveaxis(inputs, 1, -1), **kwargs)
        return keras.ops.moveaxis(output, -1, 1), kinks

    return with_channels_last


def _affine(layer):
    return lambda *args, **kwargs: (layer(*args, **kwargs), [])


def _copy(layer, **changes):
    """A layer with the same weights that computes in float64."""
    if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
        raise _unsupported(layer, f"of type {type(layer).__name__}, quantized")
    config = layer.get_config() | {"dtype": "float64"} | changes
    # Zeros do not use Python's random generator, which belongs to the user.
    config |= {name: "zeros" for name in config if name.endswith("_initializer")}
    config |= {name: None for name in config if name.endswith("_regularizer")}
    copy = type(layer).from_config(config)
    build = layer.get_build_config() or {}
    if "data_format" in changes and "input_shape" in build:  # it is channels-first
        examples, channels, *positions = build["input_shape"]
        build = {"input_shape": (examples, *positions, channels)}
    copy.build_from_config(build)
    weights = {}
    layer.save_own_variables(weights)
    copy.load_own_variables({name: np.asarray(value) for name, value in weights.items()})
    return copy


def _activation(layer):
    """Stage of a layer's activation."""
    activation = layer.activation
    if isinstance(activation, keras.Layer):
        return _stage(activation)
    if activation not in _ACTIVATIONS:
        name = getattr(activation, "__name__", repr(activation))
        raise _unsupported(layer, f"of type {type(layer).__name__} with activation {name!r}")
    pieces = _ACTIVATIONS[activation]
    return elementwise(*pieces) if pieces else lambda inputs, **_: (inputs, [])


def _pieces(layer):
    """Thresholds, slopes and offsets of an activation layer."""
    if isinstance(layer, _layers.LeakyReLU):
        return (0.0,), (layer.negative_slope, 1.0), (0.0, 0.0)
    if isinstance(layer, _layers.PReLU):
        return (0.0,), (layer.alpha, 1.0), (0.0, 0.0)
    threshold, largest, slope = layer.threshold, layer.max_value, layer.negative_slope
    offset = -slope * threshold
    if largest is None:
        return (threshold,), (slope, 1.0), (offset, 0.0)
    if largest <= threshold:  # the piece of slope 1 is empty
        return (threshold,), (slope, 0.0), (offset, largest)
    return (threshold, largest), (slope, 1.0, 0.0), (offset, 0.0, largest)


def _pooling(layer):
    if type(layer) in _GLOBAL_POOLS:
        return global_max_pooling(layer.keepdims)
    rank = 1 if type(layer) is _layers.MaxPooling1D else 2
    pool_size, strides = (_tuple(value, rank) for value in (layer.pool_size, layer.strides))
    return max_pooling(pool_size, strides, layer.padding)


def _tuple(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _check_call(model, kind):
    """Checks that a model of a custom class computes nothing except its graph."""
    if type(model).call is not kind.call:
        raise ValueError(
            "`model` must be computed only by its graph of layers. Received: the model "
            f"{model.name!r} of type {type(model).__name__}, which overrides `call`"
        )


def _check_inference(layer, kwargs):
    if kwargs.get("training"):
        raise ValueError(
            "`model` must be the same function at every call. Received: the layer "
            f"{layer.name!r} of type {type(layer).__name__}, called with training=True"
        )


def _unsupported(layer, description):
    kinds = _IDENTITIES + _AFFINE + _ACTIVATED + _POOLS + _GLOBAL_POOLS + _RELUS + _OTHERS
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    activations = ", ".join(function.__name__ for function in _ACTIVATIONS)
    return ValueError(
        f"`model` must be piecewise linear. Received: the layer {layer.name!r} {description}, "
        "which is not, or is not known to be. If it is the last layer, such as a softmax, pass a "
        f"model that ends at the logits. Supported layers: {names}, and models of them "
        "(channels-last where they pool, nearest where they upsample); activations: "
        f"{activations}."
    )
