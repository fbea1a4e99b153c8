"""A batch of a training step: its training points, its region points, and what belongs to them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.distiller import positions
from l2rkd_tf.distiller.carried import carried_points
from l2rkd_tf.distiller.region_at import HiddenPoints, hidden_of
from l2rkd_tf.features.cut import State
from l2rkd_tf.methods.jacobian import draw_directions
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import padded
from l2rkd_tf.regions.points import (
    RegionPoints,
    as_floats,
    count_split,
    draw_points,
)
from l2rkd_tf.teacher_cache.inputs import CarriedPoints
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.types import Features, TensorLike, Tensors, Where

__all__ = [
    "Batch",
    "BatchSampler",
    "Points",
    "PointsPerStep",
    "draw_batch",
    "num_rows",
    "plain_batch",
]

# Sets the draw of directions apart from those of the region, which count from 0.
_DIRECTIONS = 2**30


class Points(NamedTuple):
    """Points and what belongs to each of them.

    Attributes:
        inputs: Tensor of shape `(points, ...)`, or a structure of such; `HiddenPoints` where the
            points are after a layer.
        labels: As given to `fit`; `None` where the points have none.
        weights: Example weights; `None` for 1 each. A dict or list for several outputs.
        directions: What their outputs are projected on, shape `(points, projections, outputs)`;
            `None` where nothing asks for gradients of the outputs.
        count: `distribution.Count` of the points.
    """

    inputs: Any
    labels: Any
    weights: Any
    directions: Any
    count: distribution.Count  # type: ignore[assignment]  # in the place of `tuple.count`


class PointsPerStep(NamedTuple):
    """How many points a training step passes through each model: what it costs.

    Attributes:
        student: Points that pass forward and backward through the student.
        teacher: Points at which the teacher is run.
    """

    student: int
    teacher: int


class Batch(NamedTuple):
    """A batch, split into training points (`data`) and points of their regions (`region`).

    Attributes:
        original: The points as they came from the dataset.
        data: The points that stay training points.
        region: The region points; `None` where no term asks for any: all others are then one.
        both: The points of `data`, then those of `region`: they pass through a model together.
        drawn: The draw that made the region points, or `None`.
        given: The inputs as they came from the dataset, before any cast.
        cached: The teacher's outputs at the points of `original`, where the data carry them: a
            tensor, or a dict of several by name.
        carried: Region points that the data carry, or `None`.
        state: What the student's first part has returned at the points of `original`, where
            regions are drawn after a layer.
    """

    original: Points
    data: Points
    region: Points | None
    both: Points
    drawn: RegionPoints | None
    given: Any = None
    cached: Any = None
    carried: CarriedPoints | None = None
    state: State | None = None

    def points_at(self, where: Where) -> Points:
        """The points at `"data"`, `"region"` or `"both"`."""
        return getattr(self, where)

    def split(self, features: Features) -> dict[str, Features]:
        """Features of the points of `both`, as `{"data": ..., "region": ..., "both": ...}`.

        Untouched where there are no region points. A slice of a softmax isn't a softmax to Keras,
        which then clips probabilities at 1e-7.
        """
        if self.region is None:
            return {"data": features, "both": features}
        count = self.data.count.local
        return {
            "data": _rows_of(features, slice(count)),
            "region": _rows_of(features, slice(count, None)),
            "both": features,
        }

    def at_training_points(self, features: Features) -> Features:
        """Features of the points of `data`, from those of `original`."""
        at_data = self.drawn.at_data  # type: ignore[union-attr]  # only asked for after a draw
        return {name: at_data(value) for name, value in features.items()}


class BatchSampler:
    """Makes the batch of a step: draws region points, where a term needs any.

    All draws are keyed by seed, step and replica: nothing needs saving, and a resumed run draws
    what an uninterrupted one would have drawn.

    Args:
        seed: Integer seed of the run.
        num_region_points: Region points drawn for each example.
        replace_fraction: Fraction of a batch that moves into its region instead, or `None`.

    Attributes:
        region: The region; may be replaced.
    """

    def __init__(self, seed: int, num_region_points: int, replace_fraction: float | None) -> None:
        self.region: Region | None = None
        self._seed = seed
        self._num_points = num_region_points
        self._replace_fraction = replace_fraction

    def __call__(
        self,
        inputs: Tensors,
        labels: Any,
        weights: TensorLike | None,
        cached: Any,
        *,
        step: TensorLike,
        with_region: bool,
        projections: tuple[int, int] | None = None,
        **options: Any,
    ) -> Batch:
        """The batch of a step.

        Args:
            inputs: Inputs as they come from a dataset.
            labels: Labels, or `None`.
            weights: Example weights, or `None`.
            cached: The teacher's outputs that the data carry, or `None`.
            step: Number of the step, an integer scalar.
            with_region: Whether to draw region points.
            projections: Number of projections of the models' outputs, and number of these outputs,
                where a term compares gradients.
            **options: `whole_numbers`, `mask_values`, `front` and `carried` of `draw_batch`.

        Returns:
            `Batch`.
        """
        seed = distribution.step_seed(self._seed, step)
        weights = positions.filled_weights(weights, num_rows(inputs))
        directions = None
        if projections is not None:
            directions_seed = tf.random.fold_in(seed, _DIRECTIONS, alg="philox")
            directions = draw_directions(num_rows(inputs), *projections, directions_seed)
        if not with_region:
            batch = plain_batch(inputs, labels, weights, directions)
        else:
            assert self.region is not None
            batch = draw_batch(
                self.region,
                inputs,
                labels,
                weights,
                directions,
                seed=seed,
                num_points=self._num_points,
                replace_fraction=self._replace_fraction,
                **options,
            )
        return batch._replace(given=inputs, cached=cached)

    def count_points(self, batch_size: int, with_region: bool) -> tuple[int, int]:
        """Numbers of training points and of region points that a batch is split into."""
        if not with_region:
            return batch_size, 0
        if self._replace_fraction is None:
            return batch_size, batch_size * self._num_points
        return count_split(batch_size, self._replace_fraction)


def plain_batch(
    inputs: Tensors, labels: Any, weights: TensorLike | None, directions: tf.Tensor | None = None
) -> Batch:
    """A batch of training points only.

    Args:
        inputs: Inputs as they come from a dataset.
        labels: Labels, or `None`.
        weights: Example weights, or `None`.
        directions: As in `Points`.

    Returns:
        `Batch`.
    """
    if directions is not None:
        inputs = as_floats(inputs)
    (count,) = distribution.global_counts(num_rows(inputs))
    points = Points(inputs, labels, weights, directions, count)
    return Batch(points, points, None, points, None)


def draw_batch(
    region: Region,
    inputs: Tensors,
    labels: Any,
    weights: TensorLike | None,
    directions: tf.Tensor | None = None,
    *,
    seed: TensorLike,
    whole_numbers: bool = False,
    mask_values: Sequence[float | None] = (),
    front: Callable[[Any], State] | None = None,
    carried: CarriedPoints | None = None,
    **options: Any,
) -> Batch:
    """Draws region points for a batch: next to the training points, or in the place of some.

    Args:
        region: The region.
        inputs: Inputs as they come from a dataset; uint8 becomes float32.
        labels: Labels, or `None`.
        weights: Example weights, or `None`. A region point takes over that of its example.
        directions: As in `Points`. A region point takes over those of its example.
        seed: Stateless seed of the draw.
        whole_numbers: Whether points in the regions of uint8 inputs are rounded to whole grey
            levels, from 0 to 255.
        mask_values: Value of padding of each input, or `None`: see `padding`.
        front: The student up to the layer after which the region is drawn, or `None`.
        carried: Region points that the data carry; `None` to draw them.
        **options: `num_points` and `replace_fraction` of `draw_points`.

    Returns:
        `Batch`.
    """
    given = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    inputs = as_floats(given)
    state = None if front is None else front(inputs)
    drawn_in = given if state is None else hidden_of(state)
    if carried is None:
        drawn = draw_points(region, drawn_in, seed, labels=labels, **options)
    else:
        drawn = carried_points(carried, seed, **options, front=front, mask_values=mask_values)
    at_data, at_region = drawn.at_data(inputs), HiddenPoints(inputs, drawn)
    if state is None:
        at_region = padded(drawn.of_inputs(given, whole_numbers), inputs, mask_values, drawn)
    rows = inputs, at_data, at_region if state is None else drawn.of_owner(inputs)
    counts = distribution.global_counts(*map(num_rows, rows))
    original = Points(inputs, labels, weights, directions, counts[0])
    data = Points._make([at_data, *_if_given(drawn.at_data, original[1:4]), counts[1]])
    moved = Points._make([at_region, None, *_if_given(drawn.of_owner, original[2:4]), counts[2]])
    both = _together(data, moved)
    return Batch(original, data, moved, both, drawn, carried=carried, state=state)


def _rows_of(features, chosen):
    return keras.tree.map_structure(lambda feature: positions.rows(feature, chosen), features)


def num_rows(batch: Tensors) -> tf.Tensor:
    """Number of examples of a tensor or a structure of tensors, an int32 scalar."""
    return tf.shape(keras.tree.flatten(batch)[0])[0]


def _together(data, region):
    is_hidden = isinstance(region.inputs, HiddenPoints)
    return Points(
        dataclasses.replace(region.inputs, with_data=True)
        if is_hidden
        else _one_after_the_other(data.inputs, region.inputs),
        None,
        None if data.weights is None else _one_after_the_other(data.weights, region.weights),
        None
        if data.directions is None
        else _one_after_the_other(data.directions, region.directions),
        distribution.Count(
            *(one + other for one, other in zip(data.count, region.count, strict=True))
        ),
    )


def _one_after_the_other(first, second):
    return keras.tree.map_structure(lambda *parts: tf.concat(parts, 0), first, second)


def _if_given(function, values):
    return [None if value is None else function(value) for value in values]
