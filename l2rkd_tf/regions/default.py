"""The region that is used when none is given, and others to try."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import reads_ids, taken_leaves
from l2rkd_tf.regions.ball import Ball
from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.compose import Compose
from l2rkd_tf.regions.leaves import is_mixable, name_of, position_axes
from l2rkd_tf.regions.partner_regions import Segment, Simplex
from l2rkd_tf.regions.patch import Patch
from l2rkd_tf.regions.swap import Swap
from l2rkd_tf.utils.model_checks import data_format_of, input_symbols
from l2rkd_tf.utils.types import Tensors


def default_region(
    inputs: Tensors,
    data_format: str | None = None,
    interpolated: bool = False,
    model: keras.Model | None = None,
) -> Region:
    """The region used when none is given.

    It is `Patch(grid=4)` for images, series, videos and volumes, and for other inputs that come
    with them; `Compose([Swap(), Ball(2.0, norm="gaussian", scale="std")])` for vectors and columns
    of tables, of which categories are swapped only; and `Swap()` for only integers, booleans and
    strings. Floats are ids if the model looks them up, as an `Embedding` does, or declares them as
    integers: they get no noise and are not mixed.

    Args:
        inputs: Batch of points, or their symbolic `keras.KerasTensor`: one, a list or a dict.
        data_format: Where inputs have their channels, as for `Patch`; `None` for where the model's
            layers have them.
        interpolated: Whether the targets are interpolated, which suits `Segment()`: a teacher that
            is linear has no other outputs on a segment, while at a corner of a box it has. Then it
            takes the place of swaps and noise.
        model: Model that takes the inputs, or `None`.

    Returns:
        A `Region`. The grid is smaller than 4 if an input has fewer positions than that.
    """
    data_format = data_format or data_format_of(model)
    region = _default_of(*_floats_and_ids(inputs, model), data_format, interpolated)
    region.set_data_format(data_format)
    return region


def _default_of(floats, fixed, data_format, interpolated):
    rank = max([len(leaf.shape) for leaf in floats], default=0)
    if rank < 3:
        if floats and interpolated:
            return Segment(fixed=fixed)
        if not any(tf.as_dtype(leaf.dtype).is_floating for leaf in floats):
            return Swap()  # bytes are more likely to be letters than quantities
        return Compose([Swap(), Ball(2.0, norm="gaussian", scale="std", fixed=fixed)])
    divided = [leaf for leaf in floats if len(leaf.shape) == rank]
    sizes = [[leaf.shape[axis] for leaf in divided] for axis in position_axes(rank, data_format)]
    grid = tuple(min([4, *(n for n in size if n is not None)]) for size in sizes)
    return Patch(grid, fixed=fixed)


def regions_to_try(inputs: Tensors, model: keras.Model | None = None) -> list[Region | None]:
    """The default region of inputs and others that may suit them better.

    Args:
        inputs: As in `default_region`, or their `tf.TensorSpec`.
        model: As in `default_region`.

    Returns:
        Regions, and `None` for plain distillation.
    """
    floats, fixed = _floats_and_ids(inputs, model)
    if not floats:
        return [None, Swap(), Swap(radius=0.25), Swap(contiguous=True)]
    default = default_region(inputs, model=model)
    noise = [Ball(size, norm="gaussian", scale="std", fixed=fixed) for size in (0.3, 1.0, 2.0)]
    mixed = [Segment(fixed=fixed), Simplex(fixed=fixed)]
    if isinstance(default, Patch):
        grid = default.grid
        coarse = [Patch(2, fixed=fixed)] if np.min(grid) > 2 else []
        return [None, default, *coarse, Swap(grid=grid), *mixed, *noise[:2]]
    return [None, default, Swap(), *mixed, *noise]


def _floats_and_ids(inputs: Tensors, model: keras.Model | None) -> tuple[list[Any], list[str]]:
    """Inputs that can be mixed, as the model declares them, and the names of mixable ids."""
    leaves = {name_of(path): leaf for path, leaf in keras.tree.flatten_with_path(inputs)}
    names = list(leaves)
    taken = [names[number] for number in taken_leaves(model, inputs)]
    if not taken:
        return [leaf for leaf in leaves.values() if is_mixable(leaf.dtype)], []
    declared = dict(zip(taken, keras.tree.flatten(input_symbols(model)), strict=True))
    are_ids = dict(zip(taken, reads_ids(model), strict=True))
    floats = [one for name, one in declared.items() if is_mixable(one.dtype) and not are_ids[name]]
    return floats, [name for name in taken if are_ids[name] and is_mixable(leaves[name].dtype)]
