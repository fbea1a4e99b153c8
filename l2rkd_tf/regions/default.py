"""The region that is used when none is given, and others to try."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.ball import Ball
from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.compose import Compose
from l2rkd_tf.regions.leaves import is_mixable, position_axes
from l2rkd_tf.regions.partner_regions import Segment, Simplex
from l2rkd_tf.regions.patch import Patch
from l2rkd_tf.regions.swap import Swap
from l2rkd_tf.utils.types import Tensors


def default_region(
    inputs: Tensors, data_format: str | None = None, interpolated: bool = False
) -> Region:
    """The region used when none is given.

    It is `Patch(grid=4)` for images, series, videos and volumes, and for other inputs that come
    with them; `Compose([Swap(), Ball(2.0, norm="gaussian", scale="std")])` for vectors and columns
    of tables, of which categories are swapped only; and `Swap()` for only integers, booleans and
    strings.

    Args:
        inputs: Batch of points, or their symbolic `keras.KerasTensor`: one, a list or a dict.
        data_format: Where inputs have their channels, as for `Patch`.
        interpolated: Whether the targets are interpolated, which suits `Segment()`: a teacher that
            is linear has no other outputs on a segment, while at a corner of a box it has. Then it
            takes the place of swaps and noise.

    Returns:
        A `Region`. The grid is smaller than 4 if an input has fewer positions than that.
    """
    floats = [leaf for leaf in keras.tree.flatten(inputs) if is_mixable(leaf.dtype)]
    rank = max([len(leaf.shape) for leaf in floats], default=0)
    if rank < 3:
        if floats and interpolated:
            return Segment()
        swap = Swap(data_format=data_format)
        if not any(tf.as_dtype(leaf.dtype).is_floating for leaf in floats):
            return swap  # bytes are more likely to be letters than quantities
        return Compose([swap, Ball(2.0, norm="gaussian", scale="std")])
    divided = [leaf for leaf in floats if len(leaf.shape) == rank]
    sizes = [[leaf.shape[axis] for leaf in divided] for axis in position_axes(rank, data_format)]
    grid = tuple(min([4, *(n for n in size if n is not None)]) for size in sizes)
    return Patch(grid, data_format=data_format)


def regions_to_try(inputs: Tensors) -> list[Region | None]:
    """The default region of inputs and others that may suit them better.

    Args:
        inputs: As in `default_region`, or their `tf.TensorSpec`.

    Returns:
        Regions, and `None` for plain distillation.
    """
    floats = [leaf for leaf in keras.tree.flatten(inputs) if is_mixable(leaf.dtype)]
    if not floats:
        return [None, Swap(), Swap(radius=0.25), Swap(contiguous=True)]
    default = default_region(inputs)
    noise = [Ball(size, norm="gaussian", scale="std") for size in (0.3, 1.0, 2.0)]
    if isinstance(default, Patch):
        grid = default.grid
        coarse = [Patch(2)] if np.min(grid) > 2 else []
        return [None, default, *coarse, Swap(grid=grid), Segment(), Simplex(), *noise[:2]]
    return [None, default, Swap(), Segment(), Simplex(), *noise]
