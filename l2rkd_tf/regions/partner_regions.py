"""Regions between an example and its partners in the batch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.regions.base import Region, in_float, register, scaled
from l2rkd_tf.regions.cells import spread
from l2rkd_tf.regions.draws import beta_quantiles, interpolate, split, uniform
from l2rkd_tf.regions.leaves import map_leaves, mixable_leaves, position_axes, swapped_groups
from l2rkd_tf.regions.partners import PARTNERS, draw_partners
from l2rkd_tf.utils.types import Config, Partner, TensorLike, Tensors
from l2rkd_tf.utils.validation import check_choice, is_positive_float32, is_positive_integer


class Coefficients(NamedTuple):
    """Partners of each example and how far to move towards them.

    Attributes:
        partners: Rows of the batch, int32, shape `(batch, num_partners)`.
        lam: `lambda`, float32, shape `(batch, num_partners)`, or `(batch, num_partners, *cells)`
            with one `lambda` for each cell.
        marks: Uniform numbers on `[0, 1)`, float32, shape `(batch,)`: one for each group of inputs
            that cannot be interpolated, which are the partner's where the mark is below the mean
            `lambda`. Empty if there are none.
    """

    partners: tf.Tensor
    lam: tf.Tensor
    marks: tuple = ()


@register
class Segment(Region):
    """The segment from each point towards one partner.

    `x' = x + lambda (x_1 - x)`, with `lambda` uniform on `[0, radius]`.

    What cannot be interpolated, but comes with inputs that can (token ids, categories, strings in a
    list or dict of inputs), is the partner's as a whole with probability `lambda`, and else the
    example's own. Such inputs of equal positions, `(batch, time)` say, go together, with their
    masks. Other masks are true where both examples' are.

    Args:
        radius: Largest `lambda`, in `(0, 1]`.
        partner: How the partner is chosen among the other examples of the batch: `"random"`,
            `"nearest"` (in Euclidean distance of the inputs) or `"same_class"` (random among
            those with the same label; an example without such a partner stays where it is).
        alpha: `None` for a uniform `lambda`; a positive number `c` for
            `lambda / radius ~ Beta(c, c)`, as in mixup. (Drawn by linear interpolation in a table
            of 4097 quantiles, since Beta samplers do not compile under XLA.)
        fixed: Names of inputs that stay as they are, when inputs are a structure: keys of a dict,
            or numbers of a list; `"a/b"` for `inputs["a"]["b"]`.

    Raises:
        ValueError: If an argument is not as above, no input can be interpolated, or `fixed` names
            what isn't an input.

    Example:
        >>> region = Segment(radius=0.5)
        >>> x = tf.constant([[0.0], [1.0]])
        >>> near = region.apply(x, region.draw(x, seed=[0, 0]))
        >>> bool(tf.reduce_all(tf.abs(near - x) <= 0.5))
        True
        >>> inputs = {"age": x, "town": tf.constant(["Bonn", "Kyoto"]), "row": tf.constant([0, 1])}
        >>> region = Segment(fixed=("row",))
        >>> moved = region.apply(inputs, region.draw(inputs, seed=[0, 0]))
        >>> moved["row"].numpy().tolist()
        [0, 1]

    Reference: mixing pairs of inputs is from Zhang et al., mixup (arXiv:1710.09412), equation 1.
    """

    def __init__(
        self,
        radius: float = 1.0,
        partner: Partner = "random",
        alpha: float | None = None,
        fixed: Sequence[str | int] = (),
    ) -> None:
        super().__init__(radius, fixed)
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
        leaves = mixable_leaves(inputs, self.fixed)
        partner_seed, weight_seed, *mark_seeds = _split(seed, inputs, self.fixed)
        partners = draw_partners(self.partner, leaves, labels, 1, partner_seed)
        cells = tf.constant(self._cells(leaves), tf.int32)
        shape = tf.concat([tf.shape(partners), cells], axis=0)
        fraction = uniform(shape, weight_seed)
        if self._quantiles is not None:
            fraction = interpolate(self._quantiles, fraction)
        return Coefficients(
            partners, self.radius_variable * fraction, _draw_marks(partners, mark_seeds)
        )

    def _cells(self, leaves):
        """Shape of the coefficients of one example and partner."""
        del leaves
        return ()

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        return move_towards_partners(tensor, coefficients, self.fixed)

    def at_fraction(self, coefficients: Any, fraction: TensorLike) -> Any:
        """See `Region.at_fraction`: the largest `lambda` becomes `fraction * radius`."""
        lam = coefficients.lam
        largest = tf.reduce_max(lam, axis=list(range(1, lam.shape.rank)), keepdims=True)
        # If `lambda` is exactly 0, the direction is still that of the partner.
        direction = tf.where(largest > 0.0, tf.math.divide_no_nan(lam, largest), 1.0)
        return coefficients._replace(lam=scaled(self.radius_variable * direction, fraction))

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return super().get_config() | {
            "partner": self.partner,
            "alpha": self.alpha,
        }


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
        fixed: See `Segment`. Inputs that cannot be interpolated are those of partner `j` with
            probability `lambda_j`.

    Raises:
        ValueError: See `Segment`.

    Example:
        >>> region = Simplex(num_partners=2)
        >>> x = tf.random.uniform((8, 3))
        >>> lam = region.draw(x, seed=[0, 0]).lam
        >>> bool(tf.reduce_all(tf.reduce_sum(lam, axis=1) <= 1.0))
        True

    """

    def __init__(
        self, num_partners: int = 2, radius: float = 1.0, fixed: Sequence[str | int] = ()
    ) -> None:
        super().__init__(radius, fixed)
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
        leaves = mixable_leaves(inputs, self.fixed)
        partner_seed, weight_seed, *mark_seeds = _split(seed, inputs, self.fixed)
        partners = draw_partners("random", leaves, labels, self.num_partners, partner_seed)
        # The gaps between sorted uniform numbers are uniform on the simplex.
        marks = tf.sort(uniform(tf.shape(partners), weight_seed), axis=-1)
        shares = tf.concat([marks[:, :1], marks[:, 1:] - marks[:, :-1]], axis=-1)
        return Coefficients(
            partners, self.radius_variable * shares, _draw_marks(partners, mark_seeds)
        )

    def apply(self, tensor: Tensors, coefficients: Coefficients) -> Any:
        """See `Region.apply`."""
        return move_towards_partners(tensor, coefficients, self.fixed)

    def at_fraction(self, coefficients: Coefficients, fraction: TensorLike) -> Coefficients:
        """See `Region.at_fraction`: the sum of all `lambda` becomes `fraction * radius`."""
        lam = coefficients.lam
        total = tf.reduce_sum(lam, axis=1, keepdims=True)
        shares = tf.math.divide_no_nan(lam, total)
        shares = tf.where(total > 0.0, shares, 1.0 / lam.shape[1])
        return coefficients._replace(lam=scaled(self.radius_variable * shares, fraction))

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return super().get_config() | {"num_partners": self.num_partners}


def move_towards_partners(
    tensor: Tensors,
    coefficients: Coefficients,
    fixed: Sequence[str] = (),
    data_format: str | None = None,
) -> Any:
    """`x + sum_j lambda_j (x_j - x)` for every tensor of a structure.

    Args:
        tensor: Batch of shape `(batch, ...)`, or a structure of such.
        coefficients: `Coefficients`.
        fixed: Names of leaves that stay as they are.
        data_format: Where tensors have their channels, for a `lambda` of cells.

    Returns:
        The moved batch, of the same structure.
    """
    partners, lam, marks = Coefficients(*coefficients)
    groups = swapped_groups(tensor, fixed) if keras.tree.is_nested(tensor) else {}
    if len(set(groups.values())) != len(marks):  # outputs, which are not swapped
        groups = {}

    def move(name, leaf):
        if name in groups:
            return _take_whole(leaf, partners, lam, marks[groups[name]])
        return in_float(leaf, lambda points: _interpolated(points, partners, lam, data_format))

    return map_leaves(move, tensor, fixed)


def _interpolated(points, partners, lam, data_format):
    cells_fit = points.shape.rank == lam.shape.rank > 2
    axes = position_axes(points.shape.rank, data_format) if cells_fit else ()
    lam = spread(lam if axes else _mean_over_cells(lam), points, axes, leading=2)
    difference = tf.gather(points, partners) - tf.expand_dims(points, 1)
    return points + tf.reduce_sum(tf.cast(lam, points.dtype) * difference, axis=1)


def _take_whole(leaf, partners, lam, mark):
    """Each example's leaf is that of partner `j` with probability `lambda_j`, or its own."""
    bounds = tf.cumsum(_mean_over_cells(lam), axis=1)
    choice = tf.reduce_sum(tf.cast(mark[:, None] >= bounds, tf.int32), axis=1)
    rows = tf.concat([partners, tf.range(tf.shape(partners)[0])[:, None]], axis=1)
    return tf.gather(leaf, tf.gather(rows, choice, batch_dims=1))


def _mean_over_cells(lam):
    return tf.reduce_mean(lam, axis=list(range(2, lam.shape.rank))) if lam.shape.rank > 2 else lam


def _split(seed, inputs, fixed):
    """Seeds of partners, of `lambda`, and of each mark."""
    return split(seed, 2 + len(set(swapped_groups(inputs, fixed).values())))


def _draw_marks(partners, seeds):
    return tuple(uniform(tf.shape(partners)[:1], seed) for seed in seeds)
