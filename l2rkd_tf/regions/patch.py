"""Boxes between an example and its partner."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2rkd_tf.regions.base import register
from l2rkd_tf.regions.cells import DATA_FORMATS, cells_of, check_sizes, checked_grid
from l2rkd_tf.regions.leaves import position_axes
from l2rkd_tf.regions.partner_regions import Coefficients, Segment, move_towards_partners
from l2rkd_tf.utils.types import Config, Partner, Tensors
from l2rkd_tf.utils.validation import check_choice


@register
class Patch(Segment):
    """The axis-aligned box between an example and its partner, by patches.

    As `Segment`, with one independent `lambda` for each cell of a partition of the positions, which
    are the axes between batch and channels: the steps of a sequence `(batch, time, channels)`, the
    pixels of an image `(batch, rows, columns, channels)`, the voxels of a video or volume.

    `x'[p] = x[p] + lambda[cell(p)] (x_1[p] - x[p])` at position `p`. The points are those of a box
    with `x` and its partner at opposite corners. A tensor with positions in as many directions
    (outputs of segmentation and sequence labelling, also at another resolution) moves in the same
    way, each position by the `lambda` of its relative place. Any other tensor (logits, labels, a
    further tabular input) moves by the *mean* `lambda`, which is an approximation: no linear map of
    the logits corresponds to a cell of the input.

    Args:
        grid: Cells in each direction: an integer, or a tuple of one for each direction, such as
            `(rows, columns)`. Of several inputs, those with as many directions as the tuple has
            numbers are divided; for an integer, those with the most. Cells differ by at most one
            position in a direction if the grid does not divide the input.
        radius: Largest `lambda`, in `(0, 1]`.
        partner: See `Segment`.
        alpha: See `Segment`.
        data_format: `"channels_last"`, `"channels_first"`, or `None`: that of the layers of the
            distiller's models, or else of `keras.config.image_data_format()`.
        fixed: See `Segment`.

    Raises:
        ValueError: If an argument is not as above, no input has positions in as many directions as
            the grid, or an input has fewer positions than the grid has cells in a direction.

    Example:
        >>> region = Patch(grid=2)
        >>> x = tf.random.uniform((8, 28, 28, 1))
        >>> coefficients = region.draw(x, seed=[0, 0])
        >>> coefficients.lam.shape.as_list()
        [8, 1, 2, 2]
        >>> region.apply(x, coefficients).shape.as_list()
        [8, 28, 28, 1]
        >>> region.draw(tf.zeros((8, 100, 3)), seed=[0, 0]).lam.shape.as_list()  # sequences
        [8, 1, 2]

    Reference: mixing by patches for distillation is from PE-BKD (ECCV 2022), a later paper by the
    authors of L2RKD.
    """

    def __init__(
        self,
        grid: int | tuple[int, ...] = 4,
        radius: float = 1.0,
        partner: Partner = "random",
        alpha: float | None = None,
        data_format: str | None = None,
        fixed: Sequence[str | int] = (),
    ) -> None:
        super().__init__(radius, partner, alpha, fixed)
        check_choice("data_format", data_format, DATA_FORMATS)
        self.grid = checked_grid(grid)
        self.data_format = data_format
        self._data_format_of_models: str | None = None

    def set_data_format(self, data_format: str | None) -> None:
        """See `Region.set_data_format`; the argument `data_format` comes first."""
        self._data_format_of_models = data_format

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        data_format = self.data_format or self._data_format_of_models
        return move_towards_partners(tensor, coefficients, self.fixed, data_format)

    def move_mask(self, mask: tf.Tensor, coefficients: Any) -> tf.Tensor:
        """See `Region.move_mask`: each position by its own `lambda`; weights are interpolated."""
        moved = move_towards_partners(
            tf.expand_dims(mask, -1), Coefficients(*coefficients), data_format="channels_last"
        )
        return tf.squeeze(moved, -1)

    def _cells(self, leaves):
        cells = cells_of(self.grid, [leaf.shape.rank - 2 for leaf in leaves])
        if not cells:
            raise ValueError(
                "`region=Patch(...)` needs images (batch, rows, columns, channels), sequences "
                "(batch, time, channels) or volumes, with as many directions as `grid` has "
                f"numbers. Received: grid={self.grid} and inputs of shape "
                f"{', '.join(str(leaf.shape) for leaf in leaves)}. Use regions.Segment() for "
                "other inputs."
            )
        for leaf in leaves:
            if leaf.shape.rank == len(cells) + 2:
                axes = position_axes(
                    leaf.shape.rank, self.data_format or self._data_format_of_models
                )
                check_sizes(cells, [leaf.shape[axis] for axis in axes])
        return cells

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        given = {} if self.data_format is None else {"data_format": self.data_format}
        return super().get_config() | {"grid": self.grid} | given
