"""The region that is used when none is given."""

import keras

from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.leaves import is_mixable, position_axes
from l2rkd_tf.regions.partner_regions import Segment
from l2rkd_tf.regions.patch import Patch
from l2rkd_tf.regions.swap import Swap
from l2rkd_tf.utils.types import Tensors


def default_region(
    inputs: Tensors, data_format: str | None = None, interpolated: bool = False
) -> Region:
    """The region used when none is given.

    It is `Patch(grid=4)` for images; `Swap()` for vectors and columns of tables, and for inputs
    that are all integers, booleans or strings; `Segment()` for other floats.

    Args:
        inputs: Batch of points, or their symbolic `keras.KerasTensor`: one, a list or a dict.
        data_format: Where images have their channels, as for `Patch`.
        interpolated: Whether the targets are interpolated, which suits `Segment()`: a teacher that
            is linear has no other outputs on a segment, while at a corner of a box it has. Then it
            takes the place of `Swap()` for floats.

    Returns:
        A `Region`. The grid is smaller than 4 if an image has fewer pixels than that.
    """
    leaves = [leaf for leaf in keras.tree.flatten(inputs) if is_mixable(leaf.dtype)]
    if not leaves:
        return Swap(data_format=data_format)
    images = [leaf for leaf in leaves if len(leaf.shape) == 4]
    if not images and not interpolated and all(len(leaf.shape) < 3 for leaf in leaves):
        return Swap(data_format=data_format)
    if not images:
        return Segment()
    sizes = [[image.shape[axis] for image in images] for axis in position_axes(4, data_format)]
    grid = tuple(min([4, *(n for n in size if n is not None)]) for size in sizes)
    return Patch(grid, data_format=data_format)
