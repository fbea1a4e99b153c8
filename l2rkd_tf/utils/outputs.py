"""Outputs of models."""

from typing import Any

import keras

__all__ = ["only_output"]


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
