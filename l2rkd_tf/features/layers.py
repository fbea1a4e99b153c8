"""A model's layers by path: what is known of them, and how a name is told from others."""

import difflib
import weakref
from typing import Any

import keras

from l2rkd_tf.features.graph import LayerOutput, has_graph, trace
from l2rkd_tf.utils.types import Shape

__all__ = ["layer_outputs", "layer_path", "layer_shapes"]

# What is known of models that were traced before, with the state that they had then.
_KNOWN: Any = weakref.WeakKeyDictionary()


def layer_outputs(model: keras.Model) -> dict[str, LayerOutput]:
    """What is known of the outputs of a model's layers, by path, in the order of the calls.

    Args:
        model: Keras model.

    Returns:
        `{path: LayerOutput}` of all layers with one output, those of nested models as
        `"model/layer"`; empty, if the model's layers are not connected in a graph. Of a layer that
        is called several times, the last output counts.

    Example:
        >>> body = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(3, name="hidden")], name="body"
        ... )
        >>> model = keras.Sequential([keras.Input((4,)), body, keras.layers.Dense(2, name="top")])
        >>> {path: layer.shape for path, layer in layer_outputs(model).items()}
        {'body/hidden': (None, 3), 'body': (None, 3), 'top': (None, 2)}
    """
    if not has_graph(model):
        return {}
    state = _state(model)
    known, layers = _KNOWN.get(model, (None, {}))
    if known != state:
        layers = trace(model).layers
        _KNOWN[model] = state, layers
    return layers


def layer_shapes(model: keras.Model) -> dict[str, Shape]:
    """Shapes of the outputs of a model's layers, by path; see `layer_outputs`.

    Args:
        model: Keras model.

    Returns:
        `{path: shape}`, the channels last.
    """
    return {path: layer.shape for path, layer in layer_outputs(model).items()}


def layer_path(
    model: keras.Model, name: str, named_by: str = "`distillation_losses` compares"
) -> str:
    """The path of a layer that a user names.

    Args:
        model: A model whose layers are connected in a graph.
        name: A path, such as `"backbone/conv1"`, or its end, such as `"conv1"`, where no other
            path ends in the same.
        named_by: What names it, as the beginning of a message.

    Returns:
        The path.

    Raises:
        ValueError: If there is no such layer, it has several outputs, or several layers have that
            name; the message lists those that there are.

    Example:
        >>> body = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(3, name="hidden")], name="body"
        ... )
        >>> layer_path(keras.Sequential([body, keras.layers.Dense(2)]), "hidden")
        'body/hidden'
    """
    paths = list(layer_outputs(model))
    found = [name] if name in paths else [path for path in paths if path.endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{named_by} the layer {name!r}, which several nested models in "
            f"the model {model.name!r} have. Use one of these paths: {found}"
        )
    raise ValueError(
        f"{named_by} the layer {name!r}, which the model {model.name!r} does "
        f"not have, or not with one output.{_advice(name, paths)} Its layers: {paths}"
    )


def _advice(name, paths):
    """Names that the user may have meant."""
    by_ending = {ending: path for path in reversed(paths) for ending in (_last(path), path)}
    similar = difflib.get_close_matches(name, by_ending, n=3)
    close = list(dict.fromkeys(by_ending[ending] for ending in similar))
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _last(path):
    return path.rpartition("/")[2]


def _state(model):
    """Names of the layers, nested as models are, and whether they are frozen."""
    return [
        (layer.name, layer.trainable, has_graph(layer) and _state(layer)) for layer in model.layers
    ]
