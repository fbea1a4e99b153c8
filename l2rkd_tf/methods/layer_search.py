"""Finds the layers that a distillation method compares if none are named."""

import re
from collections.abc import Sequence

import keras

from l2rkd_tf.features import layer_shapes
from l2rkd_tf.utils.types import Shape

__all__ = ["EMBEDDING", "LAST_MAP", "MAPS", "MIDDLE_MAP", "find_layers", "shapes_of"]

MAPS = "maps"
MIDDLE_MAP = "middle map"
LAST_MAP = "last map"
EMBEDDING = "embedding"

# Names of the ends of stages, in this library's networks, `keras.applications` and the usual code.
_STAGE_END = re.compile(
    r"(?:block|stage|group|layer)_?\d+(?:_(?:out|output|add|relu))?"
    r"|conv\d+_block\d+_(?:out|concat)"  # ResNet, DenseNet
    r"|block\d+_conv\d+"  # VGG
    r"|block_?\d+[a-z]?_(?:add|project_bn)",  # MobileNet, EfficientNet
    re.IGNORECASE,
)
# Names of the vector that the classifier takes.
_EMBEDDING = re.compile(
    r"features?|embeddings?|pre_?logits|avg_?pool|max_?pool|global_.*pool.*|flatten.*",
    re.IGNORECASE,
)


def find_layers(
    method: str, teacher: keras.Model, student: keras.Model, kind: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finds the layers of two models that a method compares, by their names.

    - `"maps"`: one pair of feature maps for each resolution that both models have; if they have
      none in common, the last ones of each, paired from the end. Uses the last layer of each
      resolution whose name marks the end of a stage (`block2`, `stage_2_out`, `conv4_block6_out`,
      `block_5_add`, ...); without such names, the last layer of each resolution.
    - `"middle map"`, `"last map"`: the middle or last one of these pairs. Models without maps use
      their embeddings for the middle one.
    - `"embedding"`: the last layer named as the classifier's input (`features`, `embedding`,
      `avg_pool`, `global_average_pooling2d`, `flatten`, ...) that outputs vectors; without such a
      name, the last layer before the output that outputs vectors.

    Args:
        method: Name of the method, for messages.
        teacher: Keras model.
        student: Keras model.
        kind: One of the above.

    Returns:
        Names of layers of the teacher, and of equally many of the student: two tuples.

    Raises:
        ValueError: If a model is not a graph of layers, or has no such layer.
    """
    if kind == EMBEDDING:
        return (_embedding(method, teacher),), (_embedding(method, student),)
    ends = _ends_of_stages(teacher), _ends_of_stages(student)
    if kind == MIDDLE_MAP and not all(ends):
        return find_layers(method, teacher, student, EMBEDDING)
    for model, found in zip((teacher, student), ends, strict=True):
        if not found:
            raise _not_found(method, model, "no layer that outputs feature maps")
    pairs = _pairs(*ends)
    if kind == MIDDLE_MAP:
        pairs = [pairs[(len(pairs) - 1) // 2]]
    if kind == LAST_MAP:
        pairs = pairs[-1:]
    return tuple(t for t, _ in pairs), tuple(s for _, s in pairs)


def shapes_of(model: keras.Model, names: Sequence[str]) -> Shape | list[Shape] | None:
    """Output shapes of layers: one shape for one name or none (the model's output), else a list.

    `None` if the model is not a graph of layers.
    """
    shapes = layer_shapes(model)
    if not shapes or not set(names) <= set(shapes):
        return None
    if not names:
        return tuple(model.outputs[0].shape)
    found = [shapes[name] for name in names]
    return found[0] if len(found) == 1 else found


def _ends_of_stages(model):
    """`{resolution: name}` of the last feature map of each resolution, in the order of layers."""
    maps = {name: shape for name, shape in layer_shapes(model).items() if len(shape) == 4}
    named = {name: shape for name, shape in maps.items() if _STAGE_END.fullmatch(name)}
    ends = {}
    for name, shape in (named if _reach_the_end(named, model, maps) else maps).items():
        ends.pop(shape[1:3], None)
        ends[shape[1:3]] = name
    return ends


def _reach_the_end(named, model, maps):
    """Whether no layer after the named ones, except pooling, has another resolution.

    A network may have such names only in its first stage.
    """
    resolutions = [
        maps[layer.name][1:3]
        for layer in model.layers
        if layer.name in maps and "pool" not in f"{type(layer).__name__} {layer.name}".lower()
    ]
    return bool(named) and list(named.values())[-1][1:3] == resolutions[-1]


def _pairs(teacher, student):
    common = [resolution for resolution in student if resolution in teacher]
    if common:
        return [(teacher[resolution], student[resolution]) for resolution in common]
    names = list(teacher.values()), list(student.values())
    shorter = min(map(len, names))
    return list(zip(*(found[-shorter:] for found in names), strict=True))


def _embedding(method, model):
    output_layers = _layers_of_output(model)
    vectors = [
        name
        for name, shape in layer_shapes(model).items()
        if len(shape) == 2 and name not in output_layers
    ]
    if not vectors:
        raise _not_found(method, model, "no layer before the output that outputs vectors")
    named = [name for name in vectors if _EMBEDDING.fullmatch(name)]
    return (named or vectors)[-1]


def _layers_of_output(model):
    """Names of the layer that outputs the logits, and of an activation after it."""
    if not layer_shapes(model):
        return []
    if isinstance(model, keras.Sequential):
        chain = model.layers[::-1]
    else:
        chain = [model.get_layer(model.output_names[0])]
        while _is_activation(chain[-1]):
            before = [one for one in model.layers if one.output is chain[-1].input]
            if not before:
                break
            chain += before
    number = next((n for n, layer in enumerate(chain) if not _is_activation(layer)), 0)
    return [layer.name for layer in chain[: number + 1]]


def _is_activation(layer):
    return isinstance(layer, (keras.layers.Activation, keras.layers.Softmax))


def _not_found(method, model, reason):
    arguments = "`teacher_layer_name` and `student_layer_name`"
    if not getattr(model, "inputs", None):
        return ValueError(
            f"{arguments} must be given to {method}, since the layers of the model "
            f"{model.name!r} are not connected in a graph."
        )
    return ValueError(
        f"{arguments} must be given to {method}: in the model {model.name!r} it found {reason}. "
        f"Its layers and shapes: {layer_shapes(model)}"
    )
