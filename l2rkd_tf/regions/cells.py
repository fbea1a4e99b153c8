"""Cells: a division of the positions of a tensor into a grid."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2rkd_tf.regions.base import append_axes
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_integer

DATA_FORMATS = (None, "channels_last", "channels_first")


def checked_grid(grid: Any) -> int | tuple[int, ...]:
    """An argument `grid` as an integer, or as a tuple of one integer for each direction."""
    cells = grid if isinstance(grid, (list, tuple)) else [grid]
    if not cells or not all(map(is_positive_integer, cells)):
        raise ValueError(
            "`grid` must be an integer of at least 1, or one for each direction, such as (rows, "
            f"columns). Received: grid={grid!r}"
        )
    cells = tuple(int(count) for count in cells)
    return cells if isinstance(grid, (list, tuple)) else cells[0]


def cells_of(grid: int | tuple[int, ...], directions: Sequence[int]) -> tuple[int, ...]:
    """Cells in each direction: a tuple is given; an integer is for the leaf with the most.

    Args:
        grid: As `checked_grid` returns it.
        directions: Numbers of directions of the leaves.

    Returns:
        Numbers of cells, which divide the leaves of as many directions; empty if there are none.
    """
    cells = grid if isinstance(grid, tuple) else (grid,) * max(directions, default=0)
    return cells if len(cells) in directions else ()


def check_sizes(cells: Sequence[int], sizes: Shape) -> None:
    """Raises a `ValueError` if there are more cells than positions in a direction."""
    if any(size is not None and size < n for size, n in zip(sizes, cells, strict=True)):
        raise ValueError(
            "`grid` must not have more cells than the input has positions in a direction. "
            f"Received: grid={tuple(cells)} for an input of {' x '.join(map(str, sizes))} positions"
        )


def at_positions(cells: tf.Tensor, sizes: Sequence[Any], leading: int) -> tf.Tensor:
    """The value of its cell for each position.

    Args:
        cells: Values of the cells, which are the axes after the first `leading` ones.
        sizes: Numbers of positions, integers or scalar tensors. Cells differ by at most one
            position in size.
        leading: Number of axes that are not cells.

    Returns:
        Values of the positions.
    """
    for axis, size in enumerate(sizes, start=leading):
        (count,) = sizes_along(cells, [axis])
        if not isinstance(size, int) or not isinstance(count, int) or count != size:
            cells = tf.gather(cells, tf.range(size) * count // size, axis=axis)
    return cells


def spread(cells: tf.Tensor, tensor: tf.Tensor, axes: Sequence[int], leading: int) -> tf.Tensor:
    """Values of cells in a shape that broadcasts against a tensor.

    Args:
        cells: As for `at_positions`; the first axis is the batch.
        tensor: The tensor.
        axes: Its axes that have the positions, in order; empty if it has none.
        leading: Number of axes of `cells` that are not cells. The tensor has one of them; the
            result has all.

    Returns:
        Values of the positions, with an axis of length 1 in the place of channels.
    """
    if not axes:
        return append_axes(cells, tensor.shape.rank + leading - 1)
    cells = at_positions(cells, sizes_along(tensor, axes), leading)
    if tensor.shape.rank == len(axes) + 1:
        return cells
    return tf.expand_dims(cells, leading if axes[0] == 2 else -1)


def sizes_along(tensor: tf.Tensor, axes: Sequence[int]) -> list[Any]:
    """Sizes of a tensor along axes: integers where they are known, else scalar tensors."""
    sizes = tf.shape(tensor)
    return [sizes[axis] if tensor.shape[axis] is None else tensor.shape[axis] for axis in axes]
