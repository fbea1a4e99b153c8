"""Which layers of a student are the cause of something."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "describe",
    "inner_outputs",
    "layer_of_variable",
    "layers_of",
    "named_in",
    "rolled_recurrent",
]


def layers_of(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """All layers inside a layer or model, however it holds them, each once."""
    seen = {id(layer)}
    waiting = [layer]
    while waiting:
        for value in _values(vars(waiting.pop(0))):
            if isinstance(value, keras.layers.Layer) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
                yield value


def _values(container):
    for value in container.values() if isinstance(container, Mapping) else container:
        if isinstance(value, (Mapping, list, tuple)):
            yield from _values(value)
        else:
            yield value


def describe(layer: keras.layers.Layer) -> str:
    """A layer's name and class, for messages."""
    return f"{layer.name!r} ({type(layer).__name__})"


def rolled_recurrent(student: keras.Model) -> list[keras.layers.Layer]:
    """The recurrent layers whose steps are a loop in the graph."""
    return [
        layer
        for layer in layers_of(student)
        if isinstance(layer, keras.layers.RNN) and not getattr(layer, "unroll", False)
    ]


def layer_of_variable(student: keras.Model, variable: keras.Variable) -> str:
    """Describes the layer that holds a variable, or the seed generator with this state."""
    for layer in [*layers_of(student), student]:
        own = [*_values(vars(layer))]
        seeds = [value.state for value in own if isinstance(value, keras.random.SeedGenerator)]
        if any(variable is one for one in [*own, *seeds]):
            return describe(layer)
    return repr(variable.path)


def named_in(student: keras.Model, message: str) -> list[str]:
    """Describes the layers whose operations an error of the converter names, and the operations."""
    layers = {layer.name: layer for layer in layers_of(student)}
    found: dict[str, None] = {}  # in order, each once
    for operation, scopes in re.findall(r'fused\["(\w+):", "([^"@]+)@', message):
        # TensorFlow adds the same number to the names of model and layers, in each new trace.
        model, *parts = scopes.split("/")
        suffix = model.removeprefix(student.name)
        names = [name for part in parts for name in (part, part.removesuffix(suffix))]
        inside = [name for name in names if name in layers]
        if inside:
            found[f"{describe(layers[inside[-1]])} uses the operation {operation}"] = None
    return list(found)


def inner_outputs(
    student: keras.Model, inputs: Any, in_graph: bool = False
) -> list[tuple[keras.layers.Layer, np.ndarray]]:
    """Each layer of a Sequential or functional student, and its output, in the order of the graph.

    Args:
        student: The student.
        inputs: A batch.
        in_graph: Whether to trace the layers, as an export does.

    Returns:
        Layers with one float output each, `()` if they cannot be told, as in subclassed students.
    """
    try:
        is_sequential = isinstance(student, keras.Sequential)
        layers = student.layers if is_sequential else student.operations
        layers = [one for one in layers if not isinstance(one, keras.layers.InputLayer)]
        layers = [one for one in layers if isinstance(one.output, keras.KerasTensor)]
        inner = keras.Model(student.inputs, [one.output for one in layers])
    except (AttributeError, ValueError):
        return []
    flat = keras.tree.flatten(inputs)

    def run(batch):
        return keras.tree.flatten(inner(batch, training=False))

    with tf.device("CPU"):
        outputs = (tf.function(run, autograph=False) if in_graph else run)(flat)
    return [
        (layer, np.asarray(output))
        for layer, output in zip(layers, outputs, strict=True)
        if output.dtype.is_floating
    ]
