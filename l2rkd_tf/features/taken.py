"""Which tensor of the data each input of a model takes."""

from typing import Any

import keras

from l2rkd_tf.features.graph import has_graph
from l2rkd_tf.utils.model_checks import input_symbols

__all__ = ["check_taken", "taken_leaves"]


def taken_leaves(model: Any, data: Any) -> list[int]:
    """The leaf of the data that each input of a model takes.

    Inputs that aren't those of a dict take keys of a dict by their own names. Otherwise, they take
    what is at the same path, or, where the structures differ, all in the same order. A dict may
    have more keys.

    Args:
        model: Keras model.
        data: Tensors, in any structure that the model takes; or their specs, or symbolic ones.

    Returns:
        The number of a leaf for each of the model's inputs; empty for a model without a graph, and
        for data that it does not take.
    """
    if not has_graph(model):
        return []
    symbols = input_symbols(model)
    taken = keras.tree.flatten_with_path(symbols)
    paths = [path for path, _ in keras.tree.flatten_with_path(data)]
    if _are_named(symbols, data):
        wanted = [(symbol.name,) for _, symbol in taken]
    else:
        wanted = [path for path, _ in taken]
    if set(wanted) <= set(paths):
        return [paths.index(path) for path in wanted]
    return list(range(len(wanted))) if len(wanted) == len(paths) else []


def check_taken(argument: str, model: Any, data: Any) -> None:
    """Checks that other keys are not in the way of those that a model takes.

    Where a model takes a dict, Keras counts the keys of the data, all others included.

    Args:
        argument: `"teacher"` or `"student"`, for the message.
        model: Keras model.
        data: As in `taken_leaves`.

    Raises:
        ValueError: If Keras would take a wrong tensor.
    """
    numbers = taken_leaves(model, data)
    if numbers == list(range(len(numbers))) or _are_named(input_symbols(model), data):
        return
    names = ["/".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(data)]
    raise ValueError(
        f"`x` must hold the keys that the {argument} takes before all others, in its order: Keras "
        f"counts the keys of a dict, which it sorts. Received: the keys {names} for a {argument} "
        f"that takes {[names[number] for number in numbers]}. Leave out the others, for example "
        "with `.map(lambda x, y: ({key: x[key] for key in keys}, y))`."
    )


def _are_named(symbols, data):
    """Whether inputs take keys of the data by their own names."""
    return isinstance(data, dict) and not isinstance(symbols, dict)
