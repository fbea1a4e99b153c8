"""Calls a model's layers again, one by one, those of nested models included."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from l2rkd_tf.utils.types import Shape

__all__ = ["Graph", "LayerOutput", "Origin", "Recorder", "has_graph", "trace"]

# Layers with weights that only shift and scale what they get: pixels stay pixels.
_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
)
# Types of layers and operations between the logits and a model's output.
_ACTIVATIONS = ("Activation", "Cast", "Identity", "LogSoftmax", "Sigmoid", "Softmax")


class Origin(NamedTuple):
    """What a tensor comes from.

    `learned`: whether a layer with trained weights lies between the inputs and it.
    `trainable`: whether a weight is there that is trained now.
    `channels_first`: whether its channels are in the axis after the batch.
    """

    learned: bool = False
    trainable: bool = False
    channels_first: bool = False


@dataclasses.dataclass(frozen=True)
class LayerOutput:
    """What is known of a layer's output.

    Attributes:
        shape: Its shape, with the channels last.
        learned: Whether a layer with trained weights lies between the model's inputs and it.
        trainable: Whether any weight is there that is not frozen.
        channels_first: Whether the layer itself puts the channels first.
        layer_type: Name of the layer's class.
        is_model: Whether the layer is a model whose own layers are known as well.
        is_output: Whether it is the model's output, or the logits before its last activation.
    """

    shape: Shape
    learned: bool
    trainable: bool
    channels_first: bool
    layer_type: str
    is_model: bool = False
    is_output: bool = False


@dataclasses.dataclass
class Graph:
    """A model's layers, called again on new inputs.

    Attributes:
        inputs: Symbolic inputs, in the structure that the model takes.
        outputs: Symbolic outputs, in the structure that the model returns.
        tensors: Symbolic outputs of layers, by path, in the order of the last call of each: those
            with one output.
        layers: What is known of them, by path.
        origins: Of the outputs.
    """

    inputs: Any
    outputs: Any
    tensors: dict[str, Any]
    layers: dict[str, LayerOutput]
    origins: list[Origin]

    @property
    def all_tensors(self) -> list[Any]:
        """The outputs, then those of the layers."""
        return [*keras.tree.flatten(self.outputs), *self.tensors.values()]


def has_graph(model: Any) -> bool:
    """Whether a layer is a model that does nothing but call its layers, in a known graph."""
    if isinstance(model, keras.Sequential):
        return type(model).call is keras.Sequential.call and bool(getattr(model, "inputs", None))
    functional = _functional_class()
    return isinstance(model, functional) and type(model).call is functional.call


def trace(model: Any, origins: Sequence[Origin] = (), recorder: "Recorder | None" = None) -> Graph:
    """Calls all layers of a model on new symbolic inputs.

    `layer.output` will not do: it belongs to the first graph that the layer was ever part of,
    such as another model's, or an earlier state of a Sequential model.

    Args:
        model: A model with a graph.
        origins: Those of the tensors that a nested model is called on.
        recorder: What calls the layers; `None` for a new one.

    Returns:
        A `Graph` whose layers are those of the model. A layer of a nested model has the path
        `"model/layer"`.
    """
    recorder = Recorder() if recorder is None else recorder
    if isinstance(model, keras.Sequential):
        inputs = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
        recorder.start(inputs, origins)
        outputs = inputs
        for layer in model.layers:
            outputs = recorder(layer, outputs)
    else:
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), model.input
        )
        recorder.start(inputs, origins)
        outputs = keras.models.clone_model(
            model,
            input_tensors=inputs,
            clone_function=lambda layer: layer,
            call_function=recorder,
        ).output
    return recorder.graph(inputs, outputs)


class Recorder:
    """Calls layers, and notes what they output.

    Attributes:
        tensors: As in `Graph`.
        layers: As in `Graph`.
        origins: Of each tensor, by its `id`.
        made_by: The layer that made a tensor, by the `id` of this, and the tensors it was given.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self.layers: dict[str, LayerOutput] = {}
        self.origins: dict[int, Origin] = {}
        self.made_by: dict[int, tuple[Any, list[Any]]] = {}
        self._nested: dict[Any, tuple[Graph, keras.Model]] = {}

    def start(self, inputs: Any, origins: Sequence[Origin]) -> None:
        """Notes where the inputs come from; those of a whole model are nobody's."""
        for number, tensor in enumerate(keras.tree.flatten(inputs)):
            self.origins[id(tensor)] = origins[number] if number < len(origins) else Origin()

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What the layer outputs."""
        given = [x for x in keras.tree.flatten((args, kwargs)) if id(x) in self.origins]
        if has_graph(layer):
            outputs = self._call_model(layer, args, kwargs)
        else:
            outputs = layer(*args, **kwargs)
            origins = [self.origins[id(x)] for x in given]
            for output in keras.tree.flatten(outputs):
                self.origins[id(output)] = Origin(
                    _learns(layer) or any(origin.learned for origin in origins),
                    _is_trainable(layer) or any(origin.trainable for origin in origins),
                    _channels_first(layer, given, origins, output),
                )
        self.made_by.update({id(x): (layer, given) for x in keras.tree.flatten(outputs)})
        self.note(layer.name, outputs, type(layer).__name__, has_graph(layer))
        return outputs

    def _call_model(self, model, args, kwargs):
        """Calls a nested model once, for its outputs and for those of its layers."""
        origins = tuple(self.origins.get(id(x), Origin()) for x in keras.tree.flatten(args))
        key = id(model), origins
        if key not in self._nested:
            self._nested[key] = self.extractor(model, origins)
        graph, extractor = self._nested[key]
        found = keras.tree.flatten(extractor(*args, **kwargs))
        count = len(graph.origins)
        for tensor, origin in zip(found[:count], graph.origins, strict=True):
            self.origins[id(tensor)] = origin
        for (path, layer), tensor in zip(graph.layers.items(), found[count:], strict=True):
            origin = Origin(layer.learned, layer.trainable, layer.channels_first)
            self.origins[id(tensor)] = origin
            self.note(f"{model.name}/{path}", tensor, layer.layer_type, layer.is_model)
        return keras.tree.pack_sequence_as(graph.outputs, found[:count])

    def extractor(self, model: Any, origins: Sequence[Origin]) -> tuple[Graph, Any]:
        """A nested model's graph, and what returns its outputs and all that it has noted."""
        graph = trace(model, origins)
        return graph, keras.Model(graph.inputs, graph.all_tensors, name=model.name)

    def note(self, path: str, output: Any, layer_type: str, is_model: bool) -> None:
        """Notes what a layer has output."""
        self.layers.pop(path, None)
        self.tensors.pop(path, None)  # the last call counts, also for the order
        if keras.tree.is_nested(output):
            return
        origin, shape = self.origins[id(output)], tuple(output.shape)
        if origin.channels_first:
            shape = (shape[0], *shape[2:], shape[1])
        self.tensors[path] = output
        self.layers[path] = LayerOutput(shape, *origin, layer_type, is_model)

    def graph(self, inputs: Any, outputs: Any) -> Graph:
        """All that was noted of a model."""
        self._mark_outputs(outputs)
        origins = [self.origins[id(x)] for x in keras.tree.flatten(outputs)]
        return Graph(inputs, outputs, self.tensors, self.layers, origins)

    def _mark_outputs(self, outputs):
        """Marks the layers that make the outputs, back to the one before an activation."""
        for output in keras.tree.flatten(outputs):
            layer, given = self.made_by.get(id(output), (None, ()))
            while layer is not None:
                self._mark(layer)
                if type(layer).__name__ not in _ACTIVATIONS or len(given) != 1:
                    break
                layer, given = self.made_by.get(id(given[0]), (None, ()))

    def _mark(self, layer):
        paths = [layer.name]
        for graph, extractor in self._nested.values():
            if extractor.name == layer.name:
                paths += [
                    f"{layer.name}/{path}" for path, of in graph.layers.items() if of.is_output
                ]
        for path in paths:
            if path in self.layers:
                self.layers[path] = dataclasses.replace(self.layers[path], is_output=True)


def _learns(layer):
    """Whether the layer has weights that are trained, now or before it was frozen."""
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, _NORMALIZATIONS):
        return False
    if isinstance(layer, keras.layers.Wrapper):
        return _learns(layer.layer)  # which may be frozen when the wrapper is not
    return bool(layer.trainable_weights if layer.trainable else layer.weights)


def _is_trainable(layer):
    return isinstance(layer, keras.layers.Layer) and bool(layer.trainable_weights)


def _channels_first(layer, given, origins, output):
    """Whether the output's channels are in the axis after the batch.

    A layer with a `data_format` says so; others leave the channels where they are, except those
    that move or merge axes.
    """
    rank = len(output.shape)
    data_format = getattr(layer, "data_format", None)
    if rank < 3 or data_format is not None:
        return rank >= 3 and data_format == "channels_first"
    before = [x for x, origin in zip(given, origins, strict=True) if origin.channels_first]
    if not before:
        return False
    kind = type(layer).__name__
    if kind == "Permute":
        return layer.dims[0] == 1
    if kind == "Transpose":  # an operation
        return layer.axes is not None and layer.axes[1] == 1
    if kind == "Reshape":
        return output.shape[1] == before[0].shape[1]
    return any(len(x.shape) == rank for x in before)


@functools.cache
def _functional_class():
    """The class of models that connect layers in a graph, which Keras does not export."""
    inputs = keras.Input((1,), name="inputs")
    outputs = keras.layers.Identity(name="outputs")(inputs)
    return type(keras.Model(inputs, outputs, name="graph"))
