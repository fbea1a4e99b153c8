"""Regions after a layer: drawn in its output, by one draw for both models.

Training points pass through the whole model. A region point is what the rest of a model makes of
the layer's output, moved by the region: so inputs that have no points between them, such as token
ids, have some after their embedding.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.features import has_graph
from l2rkd_tf.features.cut import CutModel, State
from l2rkd_tf.regions import LinearRegion, Region
from l2rkd_tf.regions.points import RegionPoints
from l2rkd_tf.utils.types import Features

__all__ = [
    "HiddenPoints",
    "check_region",
    "features_after",
    "hidden_of",
    "layer_pair",
    "make_cut",
]


@dataclasses.dataclass(frozen=True)
class HiddenPoints:
    """Points after a layer of each model, in the place of inputs.

    Attributes:
        inputs: Inputs of the batch from which they were drawn.
        drawn: The draw.
        with_data: Whether the training points come first, and then the region points.
    """

    inputs: Any
    drawn: RegionPoints
    with_data: bool = False


def layer_pair(region_at: Any) -> tuple[str | None, str] | None:
    """Layers of teacher and student, from the argument `region_at` of `L2RKDDistiller`.

    Raises:
        ValueError: If it is neither a name nor a pair of names.
    """
    if region_at is None:
        return None
    pair = (region_at, region_at) if isinstance(region_at, str) else region_at
    is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
    if not is_pair or not isinstance(pair[0], (str, type(None))) or not isinstance(pair[1], str):
        raise ValueError(
            "`region_at` must be the name of a layer of both models, a pair of names, the "
            "teacher's first, or None for regions in the inputs. Received: "
            f"region_at={region_at!r}. Use region_at='token_embedding', say."
        )
    return pair[0], pair[1]


def make_cut(argument: str, model: Any, name: str | None, layer_names: Collection[str]) -> CutModel:
    """Cuts a model after a layer.

    Args:
        argument: `"teacher"` or `"student"`, for messages.
        model: The model.
        name: Path of the layer.
        layer_names: Paths of layers whose outputs terms compare.

    Raises:
        ValueError: If the model has no graph or no such layer, or not one in whose output regions
            can be drawn.
    """
    if name is None:
        raise ValueError(
            f"`region_at` must name a layer of the {argument}, which is run in regions. Received: "
            "None. Use region_targets='interpolated' to leave it out."
        )
    if not has_graph(model):
        raise ValueError(
            f"`region_at` needs a `{argument}` whose layers are connected in a graph. Received: "
            f"{model!r}. Use a Functional model, or a Sequential model with a keras.Input; or "
            "regions.Swap(), which takes token ids as they are."
        )
    cut = CutModel(model, name, layer_names)
    where = f"Received: the layer {cut.path!r} of the {argument}"
    if not all(tf.as_dtype(one.tensor.dtype).is_floating for one in cut.hidden):
        raise ValueError(
            "`region_at` must name a layer whose output is floating-point, such as an embedding. "
            f"{where}, whose output is of dtype {cut.hidden[0].tensor.dtype}."
        )
    if cut.bypassed:
        raise ValueError(
            f"`region_at` must name a layer that all outputs depend on. {where}, without which "
            "some are made. Name a layer before it."
        )
    others = [one for one in cut.along if not one.is_mask and not _is_float(one)]
    if others:
        raise ValueError(
            "`region_at` must name a layer after which the model needs no other integers than "
            f"masks. {where}; what follows also needs {others[0].name!r} of dtype "
            f"{others[0].tensor.dtype}. Name a layer where all inputs have come together; make a "
            "mask boolean, or call it a mask."
        )
    return cut


def _is_float(passing):
    return tf.as_dtype(passing.tensor.dtype).is_floating


def check_region(region: Region, teacher: CutModel | None, student: CutModel) -> None:
    """Checks that one draw of a region moves hidden states of both models.

    Args:
        region: The region.
        teacher: The cut teacher; `None` where it is not run in regions.
        student: The cut student.

    Raises:
        ValueError: If it does not.
    """
    if any(isinstance(one, LinearRegion) for one in getattr(region, "regions", [region])):
        raise ValueError(
            "`region` must not be a LinearRegion with region_at, since it runs the teacher on "
            f"inputs. Received: region={region!r}. Use regions.Segment()."
        )
    cuts = [cut for cut in (teacher, student) if cut is not None]
    floats = [one.name for cut in cuts for one in cut.along if not one.is_mask]
    if floats and not region.interpolates_targets:
        raise ValueError(
            "`region` must be linear where a model needs more than the output of `region_at`. "
            f"Received: region={region!r}, while {floats} pass by {student.path!r}. Use "
            "regions.Segment(), or name a layer where they have come together."
        )
    if teacher is not None:
        _check_shared(region, teacher, student)


def _check_shared(region, teacher, student):
    """Checks that a draw has the same shape in both models, where their hidden states differ."""
    if [one.tensor.shape for one in teacher.hidden] == [one.tensor.shape for one in student.hidden]:
        return
    try:
        drawn = _shapes_of_draw(region, student)
    except ValueError:
        return  # a step says so, which knows the labels
    try:
        fits = _shapes_of_draw(region, teacher) == drawn
    except ValueError:
        fits = False
    if not fits:
        teachers, students = (
            ", ".join(str(tuple(one.tensor.shape)) for one in cut.hidden)
            for cut in (teacher, student)
        )
        raise ValueError(
            "`region_at` must name layers in which one draw of the region has a meaning. Received: "
            f"{teacher.path!r} of the teacher with outputs of shape {teachers}, {student.path!r} "
            f"of the student with outputs of shape {students}, and region={region!r}. Use "
            "regions.Segment(), which draws one number for each example."
        )


def _shapes_of_draw(region, cut):
    specs = [tf.TensorSpec(one.tensor.shape, one.tensor.dtype) for one in cut.hidden]

    @tf.function
    def draw(*hidden):
        labels = tf.zeros(tf.shape(hidden[0])[:1], tf.int32)
        return region.draw(_one_or_all(hidden), tf.zeros(2, tf.int32), labels)

    drawn = draw.get_concrete_function(*specs).structured_outputs
    return [tuple(tensor.shape) for tensor in keras.tree.flatten(drawn)]


def hidden_of(state: State) -> Any:
    """What a region is drawn in: the layer's output, or a list of several."""
    return _one_or_all(state.hidden)


def _one_or_all(hidden):
    return hidden[0] if len(hidden) == 1 else list(hidden)


def features_after(
    cut: CutModel, points: HiddenPoints, training: bool, state: State | None = None
) -> Features:
    """Features of points, from one pass of the second part of a model.

    Args:
        cut: The model.
        points: The points.
        training: As for the model's `call`.
        state: What the first part has returned for `points.inputs`; `None` to run it.

    Returns:
        As `feature_model`. Features before the cut are those of the training points only.
    """
    state = cut.front(points.inputs, training) if state is None else state
    moved = keras.tree.flatten(points.drawn.at_region(hidden_of(state)))
    pairs = zip(cut.along, state.along, strict=True)
    along = [_move_along(one.is_mask, tensor, points.drawn) for one, tensor in pairs]
    found = cut.rest(
        [_joined(*pair, points) for pair in zip(state.hidden, moved, strict=True)],
        [_joined(*pair, points) for pair in zip(state.along, along, strict=True)],
        training,
    )
    return found | (points.drawn.at_data(state.features) if points.with_data else {})


def _move_along(is_mask, tensor, drawn):
    """A position of a mask is data where it is data in all that is mixed there."""
    if not is_mask:
        return drawn.at_region(tensor)
    return tf.cast(drawn.mask_at_region(tf.cast(tensor, tf.bool)), tensor.dtype)


def _joined(tensor, moved, points):
    """A tensor at the points, with its Keras mask."""
    mask, drawn = keras_fixes.mask_of(tensor), points.drawn
    joined = tf.concat([drawn.at_data(tensor), moved], 0) if points.with_data else moved
    if mask is None:
        return joined
    at_region = drawn.mask_at_region(mask)
    mask = tf.concat([drawn.at_data(mask), at_region], 0) if points.with_data else at_region
    return keras_fixes.with_mask(joined, mask)
