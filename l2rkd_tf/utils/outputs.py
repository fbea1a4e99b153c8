"""Outputs of models."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

__all__ = [
    "flat_outputs",
    "mean_over_positions",
    "named_outputs",
    "names_of_outputs",
    "only_output",
    "tensor_or_dict",
]


def only_output(outputs: Any) -> Any:
    """The tensor in a list or dict of one, as models with named outputs return it.

    Args:
        outputs: What a model returned, or labels in the same form.

    Returns:
        The tensor; `outputs` themselves where they are a tensor, or several.
    """
    if not keras.tree.is_nested(outputs):
        return outputs
    leaves = keras.tree.flatten(outputs)
    return leaves[0] if len(leaves) == 1 else outputs


def flat_outputs(outputs: tf.Tensor) -> tf.Tensor:
    """All outputs of an example in one row: shape `(batch, ...)` becomes `(batch, outputs)`."""
    if outputs.shape.rank == 2:
        return outputs
    size = outputs.shape[1:].num_elements()
    size = tf.reduce_prod(tf.shape(outputs)[1:]) if size is None else size
    return tf.reshape(outputs, [tf.shape(outputs)[0], size])


def mean_over_positions(values: tf.Tensor) -> tf.Tensor:
    """Values of shape `(batch, ...)` as one for each example, the mean over its positions."""
    return tf.reduce_mean(values, axis=tuple(range(1, values.shape.rank)))


def named_outputs(outputs: Any, names: Sequence[str] | None) -> dict[str, Any]:
    """Several outputs by name.

    Args:
        outputs: What a model returned: a dict, a list, or a tensor.
        names: Names of the outputs in a list; `None` if they are not known.

    Returns:
        A dict with a tensor for each name.

    Raises:
        ValueError: If outputs in a list have no names, or outputs are structures themselves.
    """
    if not isinstance(outputs, dict):
        leaves = keras.tree.flatten(outputs)
        if names is None or len(names) != len(leaves):
            raise ValueError(
                "Several outputs must have names. Received: a list of "
                f"{len(leaves)} outputs; return a dict, `{{name: output, ...}}`."
            )
        outputs = dict(zip(names, leaves, strict=True))
    if any(keras.tree.is_nested(output) for output in outputs.values()):
        raise ValueError(
            "Several outputs must be a dict or a list of tensors. Received: "
            f"{keras.tree.map_structure(lambda output: '*', outputs)}"
        )
    return outputs


def tensor_or_dict(argument: str, model: keras.Model, outputs: Any) -> Any:
    """What a model returned as one tensor, or as a dict by name of several.

    Args:
        argument: The argument that is the model, for messages.
        model: The model.
        outputs: What it returned.

    Raises:
        ValueError: If several outputs do not have different names.
    """
    outputs = only_output(outputs)
    if not keras.tree.is_nested(outputs):
        return outputs
    leaves = keras.tree.flatten(outputs)
    names = tuple(outputs) if isinstance(outputs, dict) else names_of_outputs(model) or ()
    are_names = all(isinstance(name, str) and name for name in names)
    if not are_names or len(set(names)) != len(leaves):
        shapes = keras.tree.map_structure(lambda output: tuple(output.shape), outputs)
        raise ValueError(
            f"`{argument}` must give several outputs different names. Received: the names "
            f"{list(names)} for outputs of shapes {shapes}. Return a dict: "
            "`keras.Model(inputs, {name: output, ...})`."
        )
    return named_outputs(outputs, names)


def names_of_outputs(model: keras.Model) -> tuple[str, ...] | None:
    """Names of a model's outputs, in the order of `model.outputs`: keys of a dict, or layers.

    Returns:
        The names; `None` if the model's graph does not show them.
    """
    if not getattr(model, "outputs", None):
        return None
    if isinstance(model, keras.Sequential):
        return (model.layers[-1].name,)
    structure = getattr(model, "output", None)
    if isinstance(structure, dict) and len(structure) == len(model.outputs):
        return tuple(sorted(structure))  # as Keras sorts them in `outputs`
    return tuple(model.output_names)
