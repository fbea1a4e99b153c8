"""A model in two parts: what comes before and with a layer's output, and what comes after it."""

import itertools
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.features.extract import channels_last
from l2rkd_tf.features.graph import Graph, Origin, Recorder, trace
from l2rkd_tf.features.layers import layer_path
from l2rkd_tf.features.names import OUTPUT
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import Features, Tensors

__all__ = ["CutModel", "Passing", "State"]


class Passing(NamedTuple):
    """A tensor that passes from the first part of a model to the second.

    Attributes:
        name: Name of the input or layer that it comes from.
        tensor: It, symbolic.
        is_mask: Whether it is boolean, or an integer that is called a mask, by the name of an
            input or by that of the argument of a layer.
    """

    name: str
    tensor: Any
    is_mask: bool


class State(NamedTuple):
    """What the first part of a model returns.

    Attributes:
        hidden: The layer's output; of several calls, one for each.
        along: What else the second part needs.
        features: Features before the cut, by name.
    """

    hidden: list[tf.Tensor]
    along: list[tf.Tensor]
    features: Features


class CutModel:
    """A model that is run up to the output of a layer, and then from there on.

    The second part is all that depends on the layer's output. Where the layer is called several
    times, each call counts that does not come after another one: both texts of a pair count, an
    embedding that also makes the logits is cut at its first call. Both parts share all layers with
    the model.

    Args:
        model: A model with a graph.
        name: Path of a layer, as `layer_path` takes it.
        layer_names: Paths of layers whose outputs are features.

    Attributes:
        path: Path of the layer.
        hidden: `Passing` of the layer's output, at least one.
        along: `Passing` of what else the second part needs.
        before: Those of `layer_names` that do not depend on the layer.
        bypassed: Whether any output of the model does not depend on the layer.
    """

    def __init__(self, model: Any, name: str, layer_names: Collection[str] = ()) -> None:
        self.path = layer_path(model, name, "`region_at` names")
        names = sorted(set(layer_names))
        paths = [layer_path(model, one) for one in names]
        graph, cutter = _cut(model, self.path)
        self._structure = graph.outputs
        outputs = keras.tree.flatten(graph.outputs)
        tensors = [*outputs, *(graph.tensors[path] for path in paths)]
        self._halves = _Halves(model.name, graph, cutter, tensors)
        self._transposed = [graph.layers[path].channels_first for path in paths]
        self._names = names
        self.hidden, self.along = cutter.hidden, list(cutter.along.values())
        is_after = self._halves.is_after
        self.bypassed = not all(is_after[: len(outputs)])
        self.before = [
            one for one, late in zip(names, is_after[len(outputs) :], strict=True) if not late
        ]

    def front(self, inputs: Tensors, training: bool) -> State:
        """Runs the first part on inputs of the model."""
        found = keras.tree.flatten(self._halves.front(inputs, training=training))
        count, end = len(self.hidden), len(self.hidden) + len(self.along)
        features = dict(zip(self.before, found[end:], strict=True))
        return State(found[:count], found[count:end], self._channels_last(features))

    def rest(self, hidden: Sequence[Any], along: Sequence[Any], training: bool) -> Features:
        """Runs the second part.

        Args:
            hidden: As in `State`, of the same points or of others.
            along: As in `State`.
            training: As for the model's `call`.

        Returns:
            A dict with the outputs under `features.OUTPUT`, and the features after the cut.
        """
        found = keras.tree.flatten(self._halves.rest([*hidden, *along], training=training))
        after = [name for name in self._names if name not in self.before]
        count = len(found) - len(after)
        outputs = keras.tree.pack_sequence_as(self._structure, found[:count])
        features = self._channels_last(dict(zip(after, found[count:], strict=True)))
        return {OUTPUT: only_output(outputs), **features}

    def _channels_last(self, features):
        transposed = dict(zip(self._names, self._transposed, strict=True))
        return {name: channels_last(one, transposed[name]) for name, one in features.items()}


class _Halves:
    """Two models that share the layers of one: together, what it outputs.

    Args:
        name: Name of the model.
        graph: Its graph.
        cutter: What has traced it.
        tensors: Symbolic outputs of layers, in the graph.

    Attributes:
        front: Model of what passes, and then of those of the tensors that come before it.
        rest: Model of those that come after it; `None` if there are none.
        is_after: Which of the tensors come after it.
    """

    def __init__(self, name: str, graph: Graph, cutter: "_Cutter", tensors: Sequence[Any]) -> None:
        self.name = name
        passing = [one.tensor for one in (*cutter.hidden, *cutter.along.values())]
        self.is_after = [cutter.is_after(tensor) for tensor in tensors]
        pairs = list(zip(tensors, self.is_after, strict=True))
        before = [tensor for tensor, is_after in pairs if not is_after]
        # No output of a Keras model is an input of it that another one has made.
        after = [cutter.same(tensor) for tensor, is_after in pairs if is_after]
        self.front = _Part(graph.inputs, [*passing, *before], name=name)
        self.rest: Any = _Part(passing, after, name=f"{name}_rest") if after else None


class _Part(keras.Model):
    """A Functional model whose layers pass on masks; Keras would warn that it loses them."""

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Masks of outputs that have none: none."""


class _Cutter(Recorder):
    """Calls layers, and notes which come after the output of one, and what else these need.

    Whatever passes is the output of an operation of its own, since Keras takes an operation that
    makes an input of a model for an input in all of its calls.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._head, _, self._inner = path.partition("/")
        self.hidden: list[Passing] = []
        self.along: dict[int, Passing] = {}
        self._after: set[int] = set()
        self._numbers = itertools.count()

    def is_after(self, tensors: Any) -> bool:
        """Whether any of the tensors depends on the layer's output."""
        return any(id(tensor) in self._after for tensor in keras.tree.flatten(tensors))

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What the layer outputs."""
        if not self.is_after((args, kwargs)):
            outputs = super().__call__(layer, *args, **kwargs)
            if layer.name != self._head or self._inner:
                return outputs
            outputs = keras.tree.map_structure(self._hide, outputs)
            self.note(layer.name, outputs, type(layer).__name__, False)
            return outputs
        args = tuple(self._take_along(value, "") for value in args)
        kwargs = {name: self._take_along(value, name) for name, value in kwargs.items()}
        outputs = super().__call__(layer, *args, **kwargs)
        self.mark_after(outputs)
        return outputs

    def mark_after(self, tensors: Any) -> None:
        """Notes that tensors depend on the layer's output."""
        self._after.update(map(id, keras.tree.flatten(tensors)))

    def _hide(self, tensor):
        """The layer's output, which passes."""
        hidden = self._gate(tensor, self.origins[id(tensor)])
        self.hidden.append(Passing(self._name_of(tensor), hidden, False))
        self._after.add(id(hidden))
        return hidden

    def _take_along(self, value, argument):
        """An argument of a call after the layer, with what passes in the place of its origin."""
        return keras.tree.map_structure(lambda one: self._passing(one, argument), value)

    def _passing(self, tensor, argument):
        if id(tensor) not in self.origins or id(tensor) in self._after:
            return tensor  # no tensor, or one of the second part
        name, dtype = self._name_of(tensor), tf.as_dtype(tensor.dtype)
        is_mask = dtype.is_bool or (dtype.is_integer and "mask" in f"{argument} {name}")
        known = self.along.get(id(tensor))
        if known is None:
            known = Passing(name, self._gate(tensor, self.origins[id(tensor)]), False)
        self.along[id(tensor)] = known._replace(is_mask=known.is_mask or is_mask)
        return known.tensor

    def _name_of(self, tensor):
        layer, _ = self.made_by.get(id(tensor), (tensor, ()))  # inputs are made by nothing
        return layer.name

    def _gate(self, tensor, origin):
        gate = self.same(tensor)
        self.origins[id(gate)] = origin
        return gate

    def same(self, tensor: Any) -> Any:
        """The tensor, as the output of an operation that makes no other."""
        name = f"passing_{next(self._numbers)}"  # Keras's own names may be in the model already
        return keras.layers.Identity(autocast=False, name=name)(tensor)

    def extractor(self, model: Any, origins: Sequence[Origin]) -> tuple[Graph, Any]:
        """A nested model's graph, and what returns its tensors: in two parts, if it is cut."""
        if model.name != self._head or not self._inner:
            return super().extractor(model, origins)
        graph, cutter = _cut(model, self._inner, origins)
        halves = _Halves(model.name, graph, cutter, graph.all_tensors)
        return graph, _NestedHalves(self, halves, cutter)

    def pass_on(self, inner: Passing, tensor: Any, origin: Origin, is_hidden: bool) -> Any:
        """What passes in a nested model, as a tensor of this one that passes."""
        gate = self._gate(tensor, origin)
        if is_hidden:
            self.hidden.append(inner._replace(tensor=gate))
            self._after.add(id(gate))
        else:
            self.along[id(tensor)] = inner._replace(tensor=gate)
        return gate


class _NestedHalves:
    """The two parts of a nested model, called one after the other."""

    def __init__(self, outer: _Cutter, halves: _Halves, inner: _Cutter) -> None:
        self.name = halves.name
        self._outer, self._halves, self._inner = outer, halves, inner

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        """All tensors of the nested model."""
        passing, count = [*self._inner.hidden, *self._inner.along.values()], len(self._inner.hidden)
        is_after = self._outer.is_after((args, kwargs))
        found = keras.tree.flatten(self._halves.front(*args, **kwargs))
        gates = found[: len(passing)]
        if not is_after:
            gates = [
                self._outer.pass_on(one, gate, self._inner.origins[id(one.tensor)], n < count)
                for n, (one, gate) in enumerate(zip(passing, gates, strict=True))
            ]
        later = keras.tree.flatten(self._halves.rest(gates))
        self._outer.mark_after([*found, *later] if is_after else later)
        before, after = iter(found[len(passing) :]), iter(later)
        return [next(after if late else before) for late in self._halves.is_after]


def _cut(model, path, origins=()):
    cutter = _Cutter(path)
    return trace(_as_functional(model), origins, cutter), cutter


def _as_functional(model):
    """The model with the graph that its layers make: that of a Sequential model hides masks."""
    if not isinstance(model, keras.Sequential):
        return model
    inputs = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    outputs = inputs
    for layer in model.layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs, name=model.name)
