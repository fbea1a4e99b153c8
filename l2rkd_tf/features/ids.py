"""Which inputs of a model are ids, whatever their dtype."""

from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features.graph import has_graph
from l2rkd_tf.utils.model_checks import all_layers, input_symbols

# Layers that look up what belongs to a number.
_LOOKUPS = (
    keras.layers.CategoryEncoding,
    keras.layers.Embedding,
    keras.layers.IntegerLookup,
)


def reads_ids(model: Any) -> list[bool]:
    """Whether a model reads ids, such as those of words, from an input, for each.

    It does if it declares the input as integers, or declares floats, has a layer that looks up ids,
    and rounds the input, so that no gradient reaches it. Bytes may be images: `uint8` is never ids.
    Empty for a model without a graph.
    """
    if not has_graph(model):
        return []
    inputs = keras.tree.flatten(input_symbols(model))
    dtypes = [keras.backend.standardize_dtype(tensor.dtype) for tensor in inputs]
    are_integers = ["int" in dtype and dtype != "uint8" for dtype in dtypes]
    if not _looks_up(model):
        return are_integers
    return [
        is_integer or ("float" in dtype and not is_reached)
        for is_integer, dtype, is_reached in zip(
            are_integers, dtypes, _reached_by_gradients(model), strict=True
        )
    ]


def _looks_up(model: Any) -> bool:
    """Whether a layer of a model looks up ids; an `Embedding` in a layer is known by its weight."""
    return any(isinstance(layer, _LOOKUPS) for layer in all_layers(model)) or any(
        weight.name == "embeddings" for weight in model.weights
    )


def _reached_by_gradients(model: Any) -> list[bool]:
    """Whether an output has a gradient with respect to an input, for each input."""
    reached: list[bool] = []

    @tf.function
    def trace(inputs: Any) -> None:
        leaves = keras.tree.flatten(inputs)
        with tf.GradientTape() as tape:
            tape.watch([leaf for leaf in leaves if leaf.dtype.is_floating])
            outputs = keras.tree.flatten(model(inputs, training=False))
        outputs = [output for output in outputs if output.dtype.is_floating]
        reached.extend(gradient is not None for gradient in tape.gradient(outputs, leaves))

    trace.get_concrete_function(
        keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), input_symbols(model))
    )
    return reached
