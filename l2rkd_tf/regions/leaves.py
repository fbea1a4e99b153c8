"""Tensors of a structure of inputs: their names, and what belongs together.

A leaf has *positions*: the axes between batch and channels, such as the time of `(batch, time,
channels)` or the rows and columns of an image. The features of a vector `(batch, features)` and the
steps of `(batch, time)` are positions without channels. A leaf `(batch,)` or `(batch, 1)` has none.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import taken_leaves
from l2rkd_tf.utils.model_checks import input_symbols
from l2rkd_tf.utils.types import Shape, Tensors


def is_mixable(dtype: Any) -> bool:
    """Whether points between values of this dtype have a meaning: floats and uint8 images."""
    dtype = tf.as_dtype(dtype)
    return dtype.is_floating or dtype == tf.uint8


def checked_fixed(fixed: Any) -> tuple[str, ...]:
    """Names of inputs as a tuple, from an argument `fixed`."""
    names = fixed if isinstance(fixed, (list, tuple)) else [None]
    if not all(isinstance(name, (str, int, np.integer)) for name in names):
        raise ValueError(
            "`fixed` must be a sequence of names of inputs: keys of a dict, or numbers of a list. "
            f"Received: fixed={fixed!r}. Use fixed=('mask',), say."
        )
    return tuple(map(str, names))


def named_leaves(tensors: Tensors, fixed: Sequence[str] = ()) -> dict[str, tf.Tensor]:
    """Tensors of a structure by name, in order, but for those that are held fixed."""
    leaves = {name_of(path): leaf for path, leaf in keras.tree.flatten_with_path(tensors)}
    return {name: tf.convert_to_tensor(leaves[name]) for name in leaves if name not in fixed}


def map_leaves(
    function: Callable[[str, tf.Tensor], Any], tensors: Tensors, fixed: Sequence[str] = ()
) -> Any:
    """A structure of `function(name, leaf)`; the leaves that are held fixed stay as they are."""
    leaves = [
        leaf if name_of(path) in fixed else function(name_of(path), tf.convert_to_tensor(leaf))
        for path, leaf in keras.tree.flatten_with_path(tensors)
    ]
    return keras.tree.pack_sequence_as(tensors, leaves)


def free_leaves(inputs: Tensors, fixed: Sequence[str] = ()) -> dict[str, tf.Tensor]:
    """As `named_leaves`, of the inputs of a draw: `fixed` must name some of them, and not all."""
    names = list(named_leaves(inputs))
    unknown = [name for name in fixed if name not in names or not name]
    if unknown:
        there = f"They are {names}." if any(names) else "A single input has no name."
        raise ValueError(
            f"`fixed` must hold names of inputs. Received: fixed={tuple(fixed)}, of which "
            f"{unknown} isn't an input. {there}"
        )
    free = named_leaves(inputs, fixed)
    if not free:
        raise ValueError(
            "`fixed` must leave at least one input that moves. "
            f"Received: fixed={tuple(fixed)} for inputs {names}"
        )
    return free


def mixable_leaves(inputs: Tensors, fixed: Sequence[str] = ()) -> list[tf.Tensor]:
    """Tensors of the inputs of a draw that can be interpolated, at least one."""
    free = free_leaves(inputs, fixed)
    leaves = [leaf for leaf in free.values() if is_mixable(leaf.dtype)]
    if leaves:
        return leaves
    others = {name: leaf.dtype.name for name, leaf in free.items() if leaf.dtype != tf.bool}
    if not others:
        raise ValueError(
            "`inputs` must be floating-point or uint8 images, and may hold masks with them. "
            "Received: only masks, of dtype bool. Use regions.Swap() for booleans."
        )
    name, dtype = next(iter(others.items()))
    which = f"an input {name!r}" if name else "an input"
    raise ValueError(
        "`inputs` must be floating-point or uint8 images, at least one of them: points between "
        f"integers or strings have no meaning. Received: {which} of dtype {dtype}. Use "
        "regions.Swap(), which takes each part from one example or the other; or `region_at=` of "
        "the distiller, which draws the region after an embedding; or cast integers that are "
        "quantities to float32. Declare ids in the model with `keras.Input(..., dtype='int32')`."
    )


def position_axes(rank: int, data_format: str | None) -> tuple[int, ...]:
    """Axes between batch and channels of a tensor of this rank."""
    data_format = data_format or keras.config.image_data_format()
    first = 2 if data_format == "channels_first" else 1
    return tuple(range(first, first + rank - 2))


def axes_of(rank: int, directions: int, data_format: str | None) -> tuple[int, ...]:
    """Axes of the positions of a leaf of this rank, which may have no channels."""
    if rank == directions + 1:
        return tuple(range(1, rank))
    return position_axes(rank, data_format) if directions else ()


def grouped(
    leaves: Sequence[tf.Tensor], data_format: str | None = None
) -> tuple[list[int], list[Shape]]:
    """Groups of leaves that have the same positions and therefore belong together.

    A leaf without positions is a group of its own: a column of a table.

    Args:
        leaves: Tensors of known rank.
        data_format: Where the leaves have their channels.

    Returns:
        The group of each leaf, a number, and the static sizes of the positions of each group.
    """
    shapes = [tuple(leaf.shape)[1:] for leaf in leaves]
    positions = [_positions(tuple(leaf.shape), data_format) for leaf in leaves]
    numbers, groups = [], []
    for shape, own in zip(shapes, positions, strict=True):
        # A mask (rows, columns) next to an image (rows, columns, channels).
        own = shape if len(shape) > 1 and shape in positions else own
        if not own or own not in groups:
            groups.append(own)
            numbers.append(len(groups) - 1)
        else:
            numbers.append(groups.index(own))
    return numbers, groups


def swapped_groups(tensors: Tensors, fixed: Sequence[str] = ()) -> dict[str, int]:
    """Leaves that an interpolating region takes whole from one example or the other.

    They are the integers and strings next to floats. A mask that has its positions from them, and
    not from floats, goes with them.

    Args:
        tensors: Structure of tensors.
        fixed: Names of those that are held fixed.

    Returns:
        The number of the group of each such leaf, by its name.
    """
    leaves = named_leaves(tensors, fixed)
    numbers = dict(zip(leaves, grouped(list(leaves.values()))[0], strict=True))
    mixable = {name for name, leaf in leaves.items() if is_mixable(leaf.dtype)}
    masks = {name for name, leaf in leaves.items() if leaf.dtype == tf.bool}
    of_floats = {numbers[name] for name in mixable}
    of_ids = {numbers[name] for name in leaves if name not in mixable | masks}
    swapped = {
        name: number
        for name, number in numbers.items()
        if name not in mixable and (name not in masks or number in of_ids - of_floats)
    }
    order = sorted(set(swapped.values()))
    return {name: order.index(number) for name, number in swapped.items()}


def name_of(path: Sequence[Any]) -> str:
    """Name of a leaf from its path in a structure."""
    return "/".join(map(str, path))


def names_in_data(model: Any, data: Tensors) -> dict[str, str]:
    """Names that data give to the inputs of a model, by those that the model gives to them.

    Args:
        model: Keras model.
        data: Tensors in any structure that the model takes, or their specs.

    Returns:
        What `fixed` calls an input in the data, by what it would call it in the structure that the
        model was made of, and by the input's own name. Names of data themselves are left out.
    """
    names = [name_of(path) for path, _ in keras.tree.flatten_with_path(data)]
    symbols = keras.tree.flatten_with_path(input_symbols(model))
    found: dict[str, str] = {}
    for number, (path, symbol) in zip(taken_leaves(model, data), symbols, strict=False):
        for name in (name_of(path), symbol.name):
            found.setdefault(name, names[number])
    return {name: found[name] for name in found if name not in names}


def _positions(shape, data_format):
    if len(shape) > 2:
        return tuple(shape[axis] for axis in position_axes(len(shape), data_format))
    return () if shape[1:] == (1,) else shape[1:]
