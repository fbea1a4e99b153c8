"""Finds the layers that a distillation method compares if none are named."""

import re
from collections.abc import Sequence

import keras

from l2rkd_tf.features import has_graph, layer_outputs, layer_shapes
from l2rkd_tf.methods.stages import HIDDEN_STATES, MAPS_OF_IMAGES, Stages, stages_of
from l2rkd_tf.utils.types import Shape

__all__ = ["EMBEDDING", "LAST_MAP", "MAPS", "MIDDLE_MAP", "find_layers", "shapes_of"]

MAPS = "maps"
MIDDLE_MAP = "middle map"
LAST_MAP = "last map"
EMBEDDING = "embedding"

# Names of the vector that the classifier takes.
_EMBEDDING = re.compile(
    r"features?|embeddings?|pre_?logits|avg_?pool|max_?pool|global_.*pool.*|flatten.*",
    re.IGNORECASE,
)


def find_layers(
    method: str, teacher: keras.Model, student: keras.Model, kind: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Finds the layers of two models that a method compares, by their names, types and shapes.

    Layers of nested models are found by their paths, such as `backbone/conv1`. Only layers whose
    output depends on trained weights count: no rescaled or augmented inputs.

    - `"maps"`: one pair of feature maps for each resolution that both models have; if they have
      none in common, the last ones of each, paired from the end. Uses the last layer of each
      resolution whose name marks the end of a stage (`block2`, `stage_2_out`, `conv4_block6_out`,
      `block_5_add`, ...); without such names, the last layer of each resolution. In transformers
      and other networks of sequences, hidden states of shape `(batch, positions, channels)` take
      the place of maps: the ends of blocks, which are named as such, or are the last residual sum
      after each attention layer; without attention, the last layer of each length. Of the model
      with more of them, evenly spaced ones are taken.
    - `"middle map"`, `"last map"`: the middle or last one of these pairs. For the middle one,
      models without a pair use their embeddings; for the last one, one model may have maps and the
      other hidden states.
    - `"embedding"`: the last layer named as the classifier's input (`features`, `embedding`,
      `avg_pool`, `global_average_pooling2d`, `flatten`, ...) that outputs vectors; without such a
      name, the last layer before the output that outputs vectors.

    Args:
        method: Name of the method, for messages.
        teacher: Keras model.
        student: Keras model.
        kind: One of the above.

    Returns:
        Paths of layers of the teacher, and of equally many of the student: two tuples.

    Raises:
        ValueError: If a model is not a graph of layers, or has no such layer.

    Example:
        >>> teacher = l2rkd_tf.models.convnet((8, 8, 1), 3, (4, 6, 8))
        >>> student = l2rkd_tf.models.convnet((8, 8, 1), 3, (2, 3, 4))
        >>> find_layers("FitNet", teacher, student, "middle map")
        (('block2',), ('block2',))
    """
    if kind == EMBEDDING:
        return (_embedding(method, teacher),), (_embedding(method, student),)
    stages = stages_of(teacher), stages_of(student)
    alike = stages[0].form == stages[1].form
    if kind == MIDDLE_MAP and not (all(stages) and alike):
        return find_layers(method, teacher, student, EMBEDDING)
    for model, found in zip((teacher, student), stages, strict=True):
        if not found:
            raise _not_found(
                method, model, kind, "no layer that gives feature maps or hidden states"
            )
    if kind == LAST_MAP and not alike:
        return (stages[0].paths[-1],), (stages[1].paths[-1],)
    if not alike:
        raise _not_alike(method, kind, (teacher, student), stages)
    pairs = stages[0].paired_with(stages[1])
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


def _embedding(method, model):
    vectors = [
        path
        for path, layer in layer_outputs(model).items()
        if len(layer.shape) == 2 and layer.learned and not layer.is_output and not layer.is_model
    ]
    if not vectors:
        raise _not_found(
            method, model, EMBEDDING, "no layer before the output that outputs vectors"
        )
    named = [path for path in vectors if _EMBEDDING.fullmatch(path.rpartition("/")[2])]
    return (named or vectors)[-1]


def _arguments(kind):
    several = "s" if kind == MAPS else ""
    return f"`teacher_layer_name{several}` and `student_layer_name{several}`"


def _not_found(method, model, kind, reason):
    if not has_graph(model):
        return ValueError(
            f"{_arguments(kind)} must be given to {method}, since the layers of the model "
            f"{model.name!r} are not connected in a graph, and `features`, which returns them, to "
            "L2RKDDistiller."
        )
    return ValueError(
        f"{_arguments(kind)} must be given to {method}: in the model {model.name!r} it found "
        f"{reason} and depends on trained weights. Its layers and shapes: {layer_shapes(model)}"
    )


def _not_alike(method, kind, models, stages):
    def of(model: keras.Model, found: Stages) -> str:
        shapes = layer_shapes(model)
        return f"{model.name!r} has {found.form}: { {path: shapes[path] for path in found.paths} }"

    teacher, student = map(of, models, stages)
    return ValueError(
        f"{method} compares {MAPS_OF_IMAGES} with {MAPS_OF_IMAGES}, or {HIDDEN_STATES} with "
        f"{HIDDEN_STATES}. Received: the teacher {teacher}; the student {student}. Give "
        f"{_arguments(kind)} layers of one kind, or use a method that compares embeddings or "
        "examples, such as FitNet, RelationalKD or SimilarityPreserving."
    )
