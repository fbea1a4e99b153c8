"""Regions between an example and its partners in the batch."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.regions.base import (
    Region,
    append_axes,
    in_float,
    mixable_leaves,
    register,
    scaled,
)
from l2rkd_tf.regions.draws import beta_quantiles, interpolate, split, uniform
from l2rkd_tf.regions.partners import PARTNERS, draw_partners
from l2rkd_tf.utils.types import Config, Partner, TensorLike, Tensors
from l2rkd_tf.utils.validation import check_choice, is_positive_float32, is_positive_integer


class Coefficients(NamedTuple):
    """Partners of each example and how far to move towards them.

    Attributes:
        partners: Rows of the batch, int32, shape `(batch, num_partners)`.
        lam: `lambda`, float32, shape `(batch, num_partners)`, or
            `(batch, num_partners, rows, columns)` with one `lambda` for each cell of an image.
    """

    partners: tf.Tensor
    lam: tf.Tensor


@register
class Segment(Region):
    """The segment from each point towards one partner.

    `x' = x + lambda (x_1 - x)`, with `lambda` uniform on `[0, radius]`.

    Args:
        radius: Largest `lambda`, in `(0, 1]`.
        partner: How the partner is chosen among the other examples of the batch: `"random"`,
            `"nearest"` (in Euclidean distance of the inputs) or `"same_class"` (random among
            those with the same label; an example without such a partner stays where it is).
        alpha: `None` for a uniform `lambda`; a positive number `c` for
            `lambda / radius ~ Beta(c, c)`, as in mixup. (Drawn by linear interpolation in a table
            of 4097 quantiles, since Beta samplers do not compile under XLA.)

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> region = Segment(radius=0.5)
        >>> x = tf.constant([[0.0], [1.0]])
        >>> near = region.apply(x, region.draw(x, seed=[0, 0]))
        >>> bool(tf.reduce_all(tf.abs(near - x) <= 0.5))
        True

    Reference: mixing pairs of inputs is from Zhang et al., mixup (arXiv:1710.09412), equation 1.
    """

    def __init__(
        self, radius: float = 1.0, partner: Partner = "random", alpha: float | None = None
    ) -> None:
        super().__init__(radius)
        check_choice("partner", partner, PARTNERS)
        if alpha is not None and not is_positive_float32(alpha):
            raise ValueError(
                "`alpha` must be a positive number, or None for a uniform draw. "
                f"Received: alpha={alpha!r}"
            )
        self.partner = partner
        self.alpha = alpha
        self._quantiles = None if alpha is None else beta_quantiles(alpha)

    def draw(self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None) -> Any:
        """See `Region.draw`."""
        leaves = mixable_leaves(inputs)
        partner_seed, weight_seed = split(seed, 2)
        partners = draw_partners(self.partner, leaves, labels, 1, partner_seed)
        cells = tf.constant(self._cells(leaves), tf.int32)
        shape = tf.concat([tf.shape(partners), cells], axis=0)
        fraction = uniform(shape, weight_seed)
        if self._quantiles is not None:
            fraction = interpolate(self._quantiles, fraction)
        return Coefficients(partners, self.radius_variable * fraction)

    def _cells(self, leaves):
        """Shape of the coefficients of one example and partner."""
        del leaves
        return ()

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        return _move_towards_partners(tensor, coefficients)

    def at_fraction(self, coefficients: Any, fraction: TensorLike) -> Any:
        """See `Region.at_fraction`: the largest `lambda` becomes `fraction * radius`."""
        partners, lam = coefficients
        largest = tf.reduce_max(lam, axis=list(range(1, lam.shape.rank)), keepdims=True)
        # If `lambda` is exactly 0, the direction is still that of the partner.
        direction = tf.where(largest > 0.0, tf.math.divide_no_nan(lam, largest), 1.0)
        return Coefficients(partners, scaled(self.radius_variable * direction, fraction))

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return super().get_config() | {
            "partner": self.partner,
            "alpha": self.alpha,
        }


@register
class Patch(Segment):
    """The axis-aligned box between an image and its partner, by patches.

    As `Segment`, with one independent `lambda` for each cell of a `rows x columns` partition of the
    image: `x'[i, j] = x[i, j] + lambda[cell(i, j)] (x_1[i, j] - x[i,
    j])`. The points are those of a box with `x` and its partner at opposite corners. A tensor that
    is not an image (logits, labels, a further tabular input) moves by the *mean* `lambda`, which is
    an approximation: no linear map of the logits corresponds to a cell of the image.

    Args:
        grid: Cells in each direction: an integer, or `(rows, columns)`. Cells differ by at most one
            pixel if the grid does not divide the image.
        radius: Largest `lambda`, in `(0, 1]`.
        partner: See `Segment`.
        alpha: See `Segment`.
        data_format: `"channels_last"`, `"channels_first"`, or `None`: that of the layers of the
            distiller's models, or else of `keras.config.image_data_format()`.

    Raises:
        ValueError: If `grid`, `radius`, `partner`, `alpha` or `data_format` is not as above, no
            input is an image (rank 4), or an image has fewer pixels than the grid has cells in a
            direction.

    Example:
        >>> region = Patch(grid=2)
        >>> x = tf.random.uniform((8, 28, 28, 1))
        >>> coefficients = region.draw(x, seed=[0, 0])
        >>> coefficients.lam.shape.as_list()
        [8, 1, 2, 2]
        >>> region.apply(x, coefficients).shape.as_list()
        [8, 28, 28, 1]

    Reference: mixing by patches for distillation is from PE-BKD (ECCV 2022), a later paper by the
    authors of L2RKD.
    """

    def __init__(
        self,
        grid: int | tuple[int, int] = 4,
        radius: float = 1.0,
        partner: Partner = "random",
        alpha: float | None = None,
        data_format: str | None = None,
    ) -> None:
        super().__init__(radius, partner, alpha)
        check_choice("data_format", data_format, (None, *_IMAGE_AXES))
        self.grid = _checked_grid(grid)
        self.data_format = data_format
        self._data_format_of_models: str | None = None

    def set_data_format(self, data_format: str | None) -> None:
        """See `Region.set_data_format`; the argument `data_format` comes first."""
        self._data_format_of_models = data_format

    def _image_axes(self):
        return _image_axes(self.data_format or self._data_format_of_models)

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        return _move_towards_partners(tensor, coefficients, self._image_axes())

    def _cells(self, leaves):
        images = [leaf for leaf in leaves if leaf.shape.rank == 4]
        if not images:
            raise ValueError(
                "`region=Patch(...)` needs images of shape (batch, rows, columns, channels). "
                f"Received: inputs of shape {', '.join(str(leaf.shape) for leaf in leaves)}. "
                "Use regions.Segment() for other inputs."
            )
        for image in images:
            sizes = [image.shape[axis] for axis in self._image_axes()]
            if any(size is not None and size < n for size, n in zip(sizes, self.grid, strict=True)):
                raise ValueError(
                    "`grid` must not have more cells than the image has pixels in a direction. "
                    f"Received: grid={self.grid} for an image of {sizes[0]} x {sizes[1]} pixels"
                )
        return self.grid

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        given = {} if self.data_format is None else {"data_format": self.data_format}
        return super().get_config() | {"grid": self.grid} | given


@register
class Simplex(Region):
    """The simplex spanned by each point and several partners.

    `x' = x + radius * sum_j d_j (x_j - x)`, where `(d_0, d_1, ..., d_m)` is uniform on the simplex
    (Dirichlet with all parameters 1) and `d_0` is the weight of `x` itself.

    Args:
        num_partners: Number of partners `m`, at least 1. They are different examples if the batch
            has enough, at consecutive positions of the batch from a random start: shuffle the data,
            as usual.
        radius: Largest `sum_j lambda_j`, in `(0, 1]`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> region = Simplex(num_partners=2)
        >>> x = tf.random.uniform((8, 3))
        >>> lam = region.draw(x, seed=[0, 0]).lam
        >>> bool(tf.reduce_all(tf.reduce_sum(lam, axis=1) <= 1.0))
        True

    """

    def __init__(self, num_partners: int = 2, radius: float = 1.0) -> None:
        super().__init__(radius)
        if not is_positive_integer(num_partners):
            raise ValueError(
                "`num_partners` must be an integer of at least 1. "
                f"Received: num_partners={num_partners!r}"
            )
        self.num_partners = int(num_partners)

    def draw(
        self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None
    ) -> Coefficients:
        """See `Region.draw`."""
        leaves = mixable_leaves(inputs)
        partner_seed, weight_seed = split(seed, 2)
        partners = draw_partners("random", leaves, labels, self.num_partners, partner_seed)
        # The gaps between sorted uniform numbers are uniform on the simplex.
        marks = tf.sort(uniform(tf.shape(partners), weight_seed), axis=-1)
        shares = tf.concat([marks[:, :1], marks[:, 1:] - marks[:, :-1]], axis=-1)
        return Coefficients(partners, self.radius_variable * shares)

    def apply(self, tensor: Tensors, coefficients: Coefficients) -> Any:
        """See `Region.apply`."""
        return _move_towards_partners(tensor, coefficients)

    def at_fraction(self, coefficients: Coefficients, fraction: TensorLike) -> Coefficients:
        """See `Region.at_fraction`: the sum of all `lambda` becomes `fraction * radius`."""
        partners, lam = coefficients
        total = tf.reduce_sum(lam, axis=1, keepdims=True)
        shares = tf.math.divide_no_nan(lam, total)
        shares = tf.where(total > 0.0, shares, 1.0 / lam.shape[1])
        return Coefficients(partners, scaled(self.radius_variable * shares, fraction))

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return super().get_config() | {"num_partners": self.num_partners}


def default_region(inputs: Tensors, data_format: str | None = None) -> Region:
    """The region used when none is given: `Patch(grid=4)` for images, `Segment()` otherwise.

    Args:
        inputs: Batch of points, or their symbolic `keras.KerasTensor`: one, a list or a dict.
        data_format: Where images have their channels, as for `Patch`.

    Returns:
        A `Region`. The grid is smaller than 4 if an image has fewer pixels than that.
    """
    images = [leaf for leaf in keras.tree.flatten(inputs) if len(leaf.shape) == 4]
    if not images:
        return Segment()
    sizes = [[image.shape[axis] for image in images] for axis in _image_axes(data_format)]
    grid = tuple(min([4, *(n for n in size if n is not None)]) for size in sizes)
    return Patch(grid, data_format=data_format)


def _move_towards_partners(tensor, coefficients, image_axes=()):
    """`x + sum_j lambda_j (x_j - x)` for every tensor of a structure."""
    partners, lam = coefficients

    def move(points):
        own = tf.expand_dims(points, 1)
        spread = tf.cast(_spread(lam, points, image_axes), points.dtype)
        return points + tf.reduce_sum(spread * (tf.gather(points, partners) - own), axis=1)

    return keras.tree.map_structure(lambda leaf: in_float(leaf, move), tensor)


def _spread(lam, points, image_axes):
    """`lambda` in the shape that multiplies `(batch, num_partners, ...)`, for these points."""
    rank = points.shape.rank
    if lam.shape.rank == 4 and rank == 4:
        for axis, image_axis in zip((2, 3), image_axes, strict=True):
            cells, pixels = lam.shape[axis], tf.shape(points)[image_axis]
            lam = tf.gather(lam, tf.range(pixels) * cells // pixels, axis=axis)
        return tf.expand_dims(lam, 2 if image_axes == (2, 3) else 4)
    if lam.shape.rank == 4:
        lam = tf.reduce_mean(lam, axis=(2, 3))
    return append_axes(lam, rank + 1)


_IMAGE_AXES = {"channels_last": (1, 2), "channels_first": (2, 3)}


def _image_axes(data_format):
    return _IMAGE_AXES[data_format or keras.config.image_data_format()]


def _checked_grid(grid):
    cells = tuple(grid) if isinstance(grid, (list, tuple)) else (grid, grid)
    if len(cells) != 2 or not all(is_positive_integer(count) for count in cells):
        raise ValueError(
            "`grid` must be an integer of at least 1, or two of them as (rows, columns). "
            f"Received: grid={grid!r}"
        )
    return tuple(int(count) for count in cells)
