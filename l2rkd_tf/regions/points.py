"""Region points of a training batch, and the examples they belong to."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features import grey_levels
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.draws import random_bits, split
from l2rkd_tf.utils.types import TensorLike, Tensors

__all__ = ["RegionPoints", "as_floats", "count_split", "draw_points", "given_points"]


class RegionPoints:
    """A batch split into training examples and region points.

    All methods take a tensor of shape `(batch, ...)`, or a structure of such, that belongs
    to the whole batch: inputs, logits, labels, weights.

    Args:
        region: The region.
        coefficients: One draw of it, or several, each for the whole batch.
        data_rows: Rows that stay training examples, int32; `None` for all.
        region_rows: Rows of the moved batch that become region points, int32; `None` for all.
    """

    def __init__(
        self,
        region: Region,
        coefficients: Iterable[Any],
        data_rows: tf.Tensor | None = None,
        region_rows: tf.Tensor | None = None,
    ) -> None:
        self._region = region
        self._coefficients = tuple(coefficients)
        self._data_rows = data_rows
        self._region_rows = region_rows

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of inputs that are those of the examples: `Region.fixed`."""
        return self._region.fixed

    @property
    def needs_partners(self) -> bool:
        """Whether other examples of the batch are needed: `Region.needs_partners`."""
        return self._region.needs_partners

    def at_data(self, batch: Tensors) -> Any:
        """The part of the training examples."""
        return _rows(batch, self._data_rows)

    def at_region(self, batch: Tensors) -> Any:
        """The part of the region points, moved by the region's linear map `apply`."""
        moved = [self._region.apply(batch, drawn) for drawn in self._coefficients]
        return _rows(_stack(moved), self._region_rows)

    def of_inputs(self, given: Tensors, whole_numbers: bool = False) -> Any:
        """The region points of inputs; those of uint8 inputs are float32.

        Args:
            given: The inputs from which they were drawn.
            whole_numbers: Whether points in the regions of uint8 inputs are rounded to whole grey
                levels, from 0 to 255.
        """
        points = self.at_region(as_floats(given))
        if not whole_numbers:
            return points
        return keras.tree.map_structure(_to_grey_levels, given, points)

    def mask_at_region(self, mask: tf.Tensor) -> tf.Tensor:
        """Which positions of the region points are data: `Region.move_mask`."""
        moved = [self._region.move_mask(mask, drawn) for drawn in self._coefficients]
        return _rows(_stack(moved), self._region_rows)

    def targets(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs at the region points, interpolated from those at the batch: `Region.targets`."""
        moved = [self._region.targets(outputs, drawn) for drawn in self._coefficients]
        return _rows(_stack(moved), self._region_rows)

    def of_owner(self, batch: Tensors) -> Any:
        """The value of each region point's own example."""
        return _rows(_stack([batch] * len(self._coefficients)), self._region_rows)


def draw_points(
    region: Region,
    inputs: Tensors,
    seed: TensorLike,
    *,
    labels: TensorLike | None = None,
    num_points: int = 1,
    replace_fraction: float | None = None,
) -> RegionPoints:
    """Draws region points for a batch: in addition to its examples, or in place of some of them.

    Args:
        region: The region.
        inputs: Batch of points, or a list or dict of such.
        seed: Stateless seed, int32, shape `(2,)`.
        labels: Labels of the batch, for regions that need them.
        num_points: Region points for each example.
        replace_fraction: If given, this fraction of the batch (rounded, at least one example on
            either side) moves into its region instead: a run of the batch from a random start. A
            single example is on both sides, since networks cannot be run on no points.

    Returns:
        `RegionPoints`.
    """
    rows_seed, *seeds = split(seed, 1 + num_points)
    coefficients = [region.draw(inputs, point_seed, labels) for point_seed in seeds]
    return RegionPoints(region, coefficients, *_draw_rows(inputs, rows_seed, replace_fraction))


def given_points(
    points: Tensors, seed: TensorLike, replace_fraction: float | None = None
) -> RegionPoints:
    """The same for points that are there already, one for each example.

    Args:
        points: The points, like the inputs of the batch.
        seed: As in `draw_points`.
        replace_fraction: As in `draw_points`.
    """
    rows_seed, _ = split(seed, 2)
    return _GivenPoints(points, *_draw_rows(points, rows_seed, replace_fraction))


class _GivenPoints(RegionPoints):
    """Points that are not drawn; only inputs are known at them."""

    needs_partners = False

    def __init__(self, points, data_rows, region_rows):
        self._points = points
        self._coefficients = (None,)
        self._data_rows = data_rows
        self._region_rows = region_rows

    def at_region(self, batch):
        del batch
        return _rows(as_floats(self._points), self._region_rows)


def _draw_rows(inputs, seed, replace_fraction):
    """Rows that stay training examples, and rows that become region points."""
    if replace_fraction is None:
        return None, None
    batch = tf.shape(keras.tree.flatten(inputs)[0])[0]
    rounded = tf.cast(tf.cast(batch, tf.float64) * replace_fraction + 0.5, tf.int32)
    num_moved = tf.clip_by_value(rounded, 1, tf.maximum(batch - 1, 1))
    rows = (tf.range(batch) + random_bits([], seed)) % batch
    return rows[tf.minimum(num_moved, batch - 1) :], rows[:num_moved]


def as_floats(inputs: Tensors) -> Any:
    """Inputs as models get them: tensors, uint8 as float32."""
    return keras.tree.map_structure(
        lambda tensor: tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor,
        keras.tree.map_structure(tf.convert_to_tensor, inputs),
    )


def _to_grey_levels(image, point):
    return grey_levels(point) if image.dtype == tf.uint8 else point


def count_split(batch_size: int, replace_fraction: float) -> tuple[int, int]:
    """How many examples of a batch stay, and how many `draw_points` moves into their regions."""
    most = batch_size - 1
    num_moved = min(max(int(batch_size * replace_fraction + 0.5), 1), max(most, 1))
    return batch_size - min(num_moved, most), num_moved


def _stack(batches):
    if len(batches) == 1:
        return batches[0]
    return keras.tree.map_structure(lambda *leaves: tf.concat(leaves, axis=0), *batches)


def _rows(batch, rows):
    if rows is None:
        return batch
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else tf.gather(leaf, rows),  # an output without labels
        batch,
    )
