"""Corners of the box between an example and its partner: each cell is from one of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.regions.base import Region, register, scaled
from l2rkd_tf.regions.cells import (
    DATA_FORMATS,
    at_positions,
    cells_of,
    check_sizes,
    checked_grid,
    sizes_along,
    spread,
)
from l2rkd_tf.regions.draws import random_bits, split, uniform
from l2rkd_tf.regions.leaves import axes_of, free_leaves, grouped, map_leaves, named_leaves
from l2rkd_tf.regions.partner_regions import Coefficients, move_towards_partners
from l2rkd_tf.regions.partners import PARTNERS, draw_partners
from l2rkd_tf.utils.types import Config, Partner, TensorLike, Tensors
from l2rkd_tf.utils.validation import check_choice, check_flag


class SwapCoefficients(NamedTuple):
    """Partners of each example and which of its positions are the partner's.

    Attributes:
        partners: Rows of the batch, int32, shape `(batch, 1)`.
        swapped: Boolean, shape `(batch, *positions)`: one for each group of inputs with the same
            positions.
    """

    partners: tf.Tensor
    swapped: tuple


@register
class Swap(Region):
    """Each cell of an example is its own or its partner's: a corner of the box of `Patch`.

    `x'[p] = x_1[p]` at the positions `p` of the cells that are swapped, and `x[p]` at all others.
    No arithmetic is done with inputs, so they may be what cannot be interpolated: token ids,
    categories, booleans, strings. They keep their dtype.

    Positions are the axes between batch and channels, the features of a vector
    `(batch, features)`, or the steps of `(batch, time)`. Inputs of the same positions, such as
    token ids and their mask, share their cells; others have their own. An input `(batch,)` or
    `(batch, 1)`, a column of a table, is one cell.

    Outputs (`targets`) with the same positions in addition to their channels move position by
    position, images and volumes also at another resolution. Others move by the mean fraction of
    positions that are swapped, an approximation as in `Patch`. `apply` treats tensors with exactly
    the positions of the inputs as inputs, and any others as outputs.

    Args:
        radius: Probability that a cell is the partner's, in `(0, 1]`; if `contiguous`, the expected
            fraction of the cells.
        grid: Cells in each direction, as in `Patch`, where a vector and `(batch, time)` have one
            direction. `None`: each position is a cell, which suits tokens and tables; give images a
            grid, since single pixels of two images are noise.
        contiguous: Whether the swapped cells are one span (of a sequence) or rectangle (of an
            image) instead. It has a fraction `s` of the cells, uniform on `[radius - w, radius +
            w]` with `w = min(radius, 1 - radius)`: on `[0, 1]` for a radius of 0.5. In each of `d`
            directions it has `s^(1/d)` of the cells, rounded up or down at random without bias,
            from a start that is uniform among those where it fits.
        partner: See `Segment`; `"nearest"` is that in the inputs that are floats or uint8 images.
        data_format: See `Patch`.
        fixed: See `Segment`.

    Raises:
        ValueError: If an argument is not as above, no input has as many directions as the grid, or
            an input has fewer positions than the grid has cells in a direction.

    Example:
        >>> region = Swap(contiguous=True)
        >>> ids = tf.constant([[1, 2, 3, 4], [5, 6, 7, 8]])
        >>> moved = region.apply(ids, region.draw(ids, seed=[0, 0]))
        >>> moved.dtype.name, bool(tf.reduce_all((moved == ids) | (moved == ids[::-1])))
        ('int32', True)

    Reference: rectangles are from Yun et al., CutMix (arXiv:1905.04899), which draws `s` from
    Beta(alpha, alpha) and cuts rectangles off at the border; here they keep their size.
    """

    def __init__(
        self,
        radius: float = 0.5,
        grid: int | tuple[int, ...] | None = None,
        contiguous: bool = False,
        partner: Partner = "random",
        data_format: str | None = None,
        fixed: Sequence[str | int] = (),
    ) -> None:
        super().__init__(radius, fixed)
        check_flag("contiguous", contiguous)
        check_choice("partner", partner, PARTNERS)
        check_choice("data_format", data_format, DATA_FORMATS)
        self.grid = None if grid is None else checked_grid(grid)
        self.contiguous = contiguous
        self.partner = partner
        self.data_format = data_format
        self._data_format_of_models: str | None = None

    def set_data_format(self, data_format: str | None) -> None:
        """See `Region.set_data_format`; the argument `data_format` comes first."""
        self._data_format_of_models = data_format

    def draw(
        self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None
    ) -> SwapCoefficients:
        """See `Region.draw`; inputs may be of any dtype."""
        leaves = list(free_leaves(inputs, self.fixed).values())
        numbers, groups = grouped(leaves, self._channels)
        cells = self._cells(groups)
        partner_seed, *seeds = split(seed, 1 + len(groups))
        partners = draw_partners(self.partner, leaves, labels, 1, partner_seed)
        swapped = [
            self._draw_positions(leaves[numbers.index(number)], positions, cells, seeds[number])
            for number, positions in enumerate(groups)
        ]
        return SwapCoefficients(partners, tuple(swapped))

    def apply(self, tensor: Tensors, coefficients: SwapCoefficients) -> Any:
        """See `Region.apply`."""
        partners, swapped = coefficients
        leaves = named_leaves(tensor, self.fixed)
        numbers, groups = grouped(list(leaves.values()), self._channels)
        if groups != [tuple(group.shape)[1:] for group in swapped]:
            outputs = coefficients, self._channels
            return map_leaves(lambda _, leaf: _move_output(leaf, *outputs), tensor, self.fixed)
        number = dict(zip(leaves, numbers, strict=True))

        def swap(name, leaf):
            return _swap(leaf, partners, swapped[number[name]], self._channels)

        return map_leaves(swap, tensor, self.fixed)

    def targets(self, outputs: Tensors, coefficients: SwapCoefficients) -> Any:
        """See `Region.targets`."""
        return keras.tree.map_structure(
            lambda leaf: _move_output(leaf, coefficients, self._channels), outputs
        )

    def move_mask(self, mask: tf.Tensor, coefficients: SwapCoefficients) -> tf.Tensor:
        """See `Region.move_mask`: positions move with their cells; weights as well."""
        partners, swapped = coefficients
        group = _group_along(mask, range(1, mask.shape.rank), swapped)
        if group is None:
            return _move_output(mask, coefficients, self._channels)
        return _swap(mask, partners, group, self._channels)

    def at_fraction(self, coefficients: SwapCoefficients, fraction: TensorLike) -> Any:
        """See `Region.at_fraction`: this fraction of the swapped positions, the first ones, stays.

        Between two corners of a box of ids there are corners only. The drawn point is at the
        boundary already; on the way to it, positions are swapped one after the other, in the order
        of the input.
        """
        return coefficients._replace(
            swapped=tuple(_first_of(group, fraction) for group in coefficients.swapped)
        )

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        given = {} if self.data_format is None else {"data_format": self.data_format}
        arguments = {"grid": self.grid, "contiguous": self.contiguous, "partner": self.partner}
        return super().get_config() | arguments | given

    @property
    def _channels(self):
        return self.data_format or self._data_format_of_models

    def _cells(self, groups):
        """Numbers of cells of the groups that the grid divides; empty for a cell per position."""
        if self.grid is None:
            return ()
        cells = cells_of(self.grid, [len(positions) for positions in groups])
        if not cells:
            raise ValueError(
                "`grid` must have one number for each direction of an input, or be None. Received: "
                f"grid={self.grid} for inputs with positions {groups}"
            )
        return cells

    def _draw_positions(self, leaf, positions, cells, seed):
        """Which positions of a group are the partner's."""
        axes = axes_of(leaf.shape.rank, len(positions), self._channels)
        sizes = sizes_along(leaf, axes)
        counts = list(cells) if len(cells) == len(positions) else sizes
        if counts is not sizes:
            check_sizes(cells, positions)
        draw = _draw_box if self.contiguous and counts else _draw_each
        drawn = draw(tf.shape(leaf)[0], counts, self.radius_variable, seed)
        swapped = at_positions(drawn, sizes, leading=1)
        swapped.set_shape([leaf.shape[0], *positions])
        return swapped


def _draw_each(batch, counts, radius, seed):
    """Each cell with probability `radius`."""
    return uniform(tf.stack([batch, *counts]), seed) < radius


def _draw_box(batch, counts, radius, seed):
    """The cells of a span, rectangle or box at a random place."""
    share_seed, *seeds = split(seed, 1 + 2 * len(counts))
    # In float64, where neither a root nor a sum differs between compilers by what rounding sees.
    radius = tf.cast(radius, tf.float64)
    position = tf.cast(uniform([batch], share_seed), tf.float64)
    share = radius + tf.minimum(radius, 1.0 - radius) * (2.0 * position - 1.0)
    box = tf.ones([batch] + [1] * len(counts), tf.bool)
    for axis, count in enumerate(counts):
        side_seed, start_seed = seeds[2 * axis : 2 * axis + 2]
        length = tf.cast(count, tf.float64) * share ** (1.0 / len(counts))
        rounding = tf.cast(uniform([batch], side_seed), tf.float64)
        side = tf.cast(tf.floor(length + rounding), tf.int32)
        start = random_bits([batch], start_seed) % (count - side + 1)
        cells = tf.range(count)
        inside = (cells >= start[:, None]) & (cells < (start + side)[:, None])
        shape = [batch] + [-1 if other == axis else 1 for other in range(len(counts))]
        box &= tf.reshape(inside, shape)
    return box


def _first_of(swapped, fraction):
    """The first of the swapped positions of each example, so many that they are this fraction."""
    flat = tf.cast(tf.reshape(swapped, [tf.shape(swapped)[0], -1]), tf.float32)
    count = tf.round(scaled(tf.reduce_sum(flat, axis=1, keepdims=True), fraction))
    kept = tf.cumsum(flat, axis=1) <= count
    return swapped & tf.reshape(kept, tf.shape(swapped))


def _swap(leaf, partners, swapped, data_format):
    """A tensor with the partner's values where `swapped`, without arithmetic."""
    axes = axes_of(leaf.shape.rank, swapped.shape.rank - 1, data_format)
    swapped = spread(swapped, leaf, axes, leading=1)
    return tf.where(swapped, tf.gather(leaf, partners[:, 0]), leaf)


def _move_output(output, coefficients, data_format):
    """Outputs position by position, where they have the positions of inputs, or by the mean."""
    partners, swapped = coefficients
    output = tf.convert_to_tensor(output)
    directions = max(output.shape.rank - 2, 0)
    group = _group_along(output, axes_of(output.shape.rank, directions, data_format), swapped)
    if group is not None:
        return _swap(output, partners, group, data_format)
    shares = [
        tf.reduce_mean(tf.cast(group, tf.float32), axis=list(range(1, group.shape.rank)))
        for group in swapped
    ]
    share = tf.add_n(shares) / len(shares)
    return move_towards_partners(output, Coefficients(partners, share[:, None]))


def _group_along(tensor, axes, swapped):
    """The group with the positions along these axes of a tensor, or `None`.

    In one direction sizes must be equal, since the features of a vector are no places; in more,
    another size is another resolution.
    """
    sizes = tuple(tensor.shape[axis] for axis in axes)
    same = [group for group in swapped if sizes and tuple(group.shape)[1:] == sizes]
    scaled = [group for group in swapped if len(sizes) > 1 and group.shape.rank == len(sizes) + 1]
    return next(iter([*same, *scaled]), None)
