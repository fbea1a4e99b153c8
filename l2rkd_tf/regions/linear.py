"""Segments that end where the teacher is no longer linear."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import model_outputs
from l2rkd_tf.piecewise_linear.graph import run, trace
from l2rkd_tf.regions.base import register, scaled
from l2rkd_tf.regions.leaves import mixable_leaves
from l2rkd_tf.regions.partner_regions import Coefficients, Segment
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.output_checks import output_activation
from l2rkd_tf.utils.types import Config, Partner, TensorLike, Tensors
from l2rkd_tf.utils.validation import is_number, is_positive_integer

__all__ = ["LinearCoefficients", "LinearRegion"]

# As a fraction of the outputs: well above float32 rounding, well below any relevant deviation.
_ROUNDING = 1e-6


class LinearCoefficients(NamedTuple):
    """Partners, how far to move towards them, and how the teacher changes on the way.

    Attributes:
        partners: Rows of the batch, int32, shape `(batch, 1)`.
        lam: `lambda`, float32, shape `(batch, 1)`.
        limits: Largest `lambda` up to which the teacher is linear, float32, shape `(batch,)`.
        changes: Change of the teacher's outputs from the example to the point at the limit,
            float32, shape `(batch, outputs)`.
    """

    partners: tf.Tensor
    lam: tf.Tensor
    limits: tf.Tensor
    changes: tf.Tensor


@register
class LinearRegion(Segment):
    """The part of the segment from each point towards a partner on which the teacher is linear.

    `x' = x + lambda (x_1 - x)` as in `Segment`, with `lambda` on `[0, limit]` and a separate limit
    for each example: the largest `r` of `radius, radius / 2, ..., radius / 2^num_halvings` with

    ```
    e = x + r (x_1 - x),    x_f = x + f (e - x)
    || f_T(x_f) - [(1 - f) f_T(x) + f f_T(e)] ||_2 <= tolerance * || f_T(e) - f_T(x) ||_2
    ```

    at all `fractions` `f`, the relative gap of `l2rkd_tf.geometry.linearity_gaps` on the segment
    that ends at `e`. If no `r` passes, the limit is 0: the example stays where it is. With
    `tolerance=0` the limit is computed exactly, as the smaller of `radius` and
    `l2rkd_tf.geometry.linear_radius` along the segment: tiny for large networks, and 0 if a unit is
    on its threshold (as ReLUs and max-pools at blank image borders often are).

    `apply` moves any tensor towards that of the partner `x_1`, as in `Segment`. Interpolated
    targets (`region_targets="interpolated"`) move towards the teacher's outputs at the limit
    instead, and are as close to its outputs at `x'` as the tolerance says. The teacher must output
    logits.

    A draw runs the teacher once, without gradients, on all tested points (13 for each example by
    default, fewer with fewer halvings and fractions). With `tolerance=0` it is one forward-mode
    pass in float64 on only the examples, with copies of the teacher's layers and weights that are
    created when the region gets its teacher. Both work in graphs and under XLA.

    The teacher is not part of the region's config or of any file: a loaded region has none until
    `set_teacher` is called, which a loaded distiller does.

    Args:
        teacher: Trained Keras model that outputs logits (or regression values), shape
            `(batch, outputs)`; for `tolerance=0` with layers that `linear_radius` supports. `None`
            if `set_teacher` is called later.
        tolerance: Largest relative deviation from linearity, at least 0.
        radius: Largest `lambda`, in `(0, 1]`.
        partner: See `Segment`.
        alpha: See `Segment`; of `lambda / limit`.
        fractions: Where to test for deviations, as fractions of the way to `e`. Ignored for
            `tolerance=0`.
        num_halvings: Maximum number of halvings of the radius. Ignored for `tolerance=0`.

    Raises:
        ValueError: If a number is out of range, `partner` is unknown, or the teacher is not as
            above.

    Example:
        >>> bent = keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])
        >>> x = tf.constant([[-1.0], [3.0]])  # partners of each other
        >>> LinearRegion(bent, tolerance=0.0).draw(x, seed=[0, 0]).limits.numpy().tolist()
        [0.25, 0.75]
        >>> LinearRegion(bent, tolerance=0.1).draw(x, seed=[0, 0]).limits.numpy().tolist()
        [0.25, 0.5]

    Reference: what Deng and Zhang (arXiv:2010.04812) call a locally linear region; this definition
    is not from the paper.
    """

    def __init__(
        self,
        teacher: keras.Model | None,
        tolerance: float = 0.1,
        radius: float = 1.0,
        partner: Partner = "random",
        alpha: float | None = None,
        fractions: Sequence[float] | np.ndarray = (0.25, 0.5, 0.75),
        num_halvings: int = 4,
    ) -> None:
        super().__init__(radius, partner, alpha)
        if not is_number(tolerance) or not 0.0 <= tolerance < np.inf:
            raise ValueError(
                "`tolerance` must be a finite number not below 0. "
                f"Received: tolerance={tolerance!r}"
            )
        if num_halvings != 0 and not is_positive_integer(num_halvings):
            raise ValueError(
                "`num_halvings` must be an integer of at least 0. "
                f"Received: num_halvings={num_halvings!r}"
            )
        self.tolerance = float(tolerance)
        self.num_halvings = int(num_halvings)
        self.fractions = _checked_inner_fractions(fractions)
        self._shares = 0.5 ** np.arange(self.num_halvings + 1)
        self._teacher = None
        self._graph = None
        if teacher is not None:
            self.set_teacher(teacher)

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """Sets the teacher of a region that has none; a region that has one keeps it.

        Args:
            teacher: See `LinearRegion`.

        Raises:
            ValueError: If the teacher cannot be used.
        """
        if self._teacher is not None:
            return
        check_models_are_built(teacher=teacher)
        if output_activation(teacher) in ("softmax", "sigmoid"):
            raise ValueError(
                "`teacher` must output logits, since probabilities bend where logits are linear. "
                f"Received: a model that ends in a {output_activation(teacher)}. Pass a model "
                "without it."
            )
        if self.tolerance == 0.0:
            self._graph = _piecewise_linear_graph(teacher)
        self._teacher = teacher

    def draw(
        self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None
    ) -> LinearCoefficients:
        """See `Region.draw`: the draw of a `Segment`, shrunk."""
        partners, lam, marks = super().draw(inputs, seed, labels)
        if marks:
            raise ValueError(
                "`region=LinearRegion(...)` needs inputs that can all be interpolated: "
                "floating-point, uint8 images, and masks. Received: integers or strings next to "
                "them. Use regions.Segment() or regions.Swap()."
            )
        if self._teacher is None:
            raise ValueError(
                "`region=LinearRegion(...)` has no teacher: it is not saved with the region. Call "
                "`region.set_teacher(teacher)` first."
            )
        find = self._exact_shares if self.tolerance == 0.0 else self._tested_shares
        shares, changes = keras.tree.map_structure(tf.stop_gradient, find(inputs, partners))
        limits = self.radius_variable * shares
        return LinearCoefficients(partners, lam * shares[:, None], limits, changes)

    def apply(self, tensor: Tensors, coefficients: LinearCoefficients) -> Any:
        """See `Region.apply`."""
        return super().apply(tensor, Coefficients(*coefficients[:2]))

    def targets(self, outputs: tf.Tensor, coefficients: LinearCoefficients) -> tf.Tensor:
        """Teacher's outputs at the drawn points, interpolated up to the limit.

        ```
        f_T(x) + lambda / limit * (f_T(x + limit (x_1 - x)) - f_T(x))
        ```

        Args:
            outputs: The teacher's outputs `f_T(x)` at the examples, shape `(batch, outputs)`.
            coefficients: What `draw` returned for this batch.

        Returns:
            Outputs of the same shape, with an error of about `tolerance` times the change up to the
            limit.

        Example:
            >>> bent = keras.Sequential([keras.Input((1,)), keras.layers.ReLU()])
            >>> x, region = tf.constant([[-1.0], [3.0]]), LinearRegion(bent, tolerance=0.0)
            >>> drawn = region.draw(x, seed=[0, 0])
            >>> exact = bent(region.apply(x, drawn))
            >>> np.allclose(region.targets(bent(x), drawn), exact)
            True
            >>> np.allclose(region.apply(bent(x), drawn), exact)  # towards the partner's
            False
        """
        share = tf.math.divide_no_nan(coefficients.lam, coefficients.limits[:, None])
        return outputs + tf.cast(share * coefficients.changes, outputs.dtype)

    def at_fraction(
        self, coefficients: LinearCoefficients, fraction: TensorLike
    ) -> LinearCoefficients:
        """See `Region.at_fraction`: `lambda` becomes `fraction * limit`."""
        boundary = scaled(coefficients.limits[:, None], fraction)
        return coefficients._replace(lam=boundary)

    def get_config(self) -> Config:
        """See `Region.get_config`; without the teacher."""
        return super().get_config() | {
            "tolerance": self.tolerance,
            "fractions": self.fractions,
            "num_halvings": self.num_halvings,
        }

    @classmethod
    def from_config(cls, config: Config) -> "LinearRegion":
        """See `Region.from_config`; call `set_teacher` afterwards."""
        return cls(None, **config)

    def _tested_shares(self, inputs, partners):
        """Largest fractions of the radius that pass, and the teacher's changes up to there."""
        inner = np.outer(self._shares, self.fractions)
        fractions, where = np.unique(
            np.concatenate([[0.0], self._shares, inner.ravel()]), False, True
        )
        outputs = self._outputs_at(fractions, inputs, partners)
        count = len(self._shares)
        start, ends = outputs[0], tf.gather(outputs, where[1 : 1 + count])
        between = tf.gather(outputs, where[1 + count :].reshape(inner.shape))
        changes = ends - start
        inner_fractions = tf.constant(self.fractions, tf.float32)[:, None, None]
        straight = start + inner_fractions * changes[:, None]
        # If outputs are equal at both ends, as in flat parts of a network, only rounding is left.
        allowed = self.tolerance * tf.norm(changes, axis=-1) + _ROUNDING * tf.norm(start, axis=-1)
        gaps = tf.reduce_max(tf.norm(between - straight, axis=-1), axis=1)
        shares = tf.constant(self._shares, tf.float32)[:, None]
        best = tf.reduce_max(tf.where(gaps <= allowed, shares, 0.0), axis=0)
        is_best = tf.equal(shares, best)[..., None]
        return best, tf.reduce_sum(tf.where(is_best, changes, 0.0), axis=0)

    def _outputs_at(self, fractions, inputs, partners):
        """The teacher's outputs at fractions of the radius, shape `(fractions, batch, outputs)`."""
        full = tf.ones_like(partners, tf.float32) * self.radius_variable
        points = [self.apply(inputs, (partners, full * fraction)) for fraction in fractions]
        points = keras.tree.map_structure(lambda *leaves: tf.concat(leaves, 0), *points)
        outputs = model_outputs(self._teacher, points)
        if outputs.shape.rank > 2:
            raise ValueError(
                "`teacher` of regions.LinearRegion must have outputs of shape (batch, outputs). "
                f"Received: outputs of shape {outputs.shape}. Use another region."
            )
        shape = [len(fractions), tf.shape(partners)[0], outputs.shape[1] or tf.shape(outputs)[1]]
        return tf.reshape(outputs, shape)

    def _exact_shares(self, inputs, partners):
        """Fractions of the radius up to the first bend, and the teacher's changes up to there."""
        x = tf.cast(mixable_leaves(inputs)[0], tf.float64)
        radius = tf.cast(self.radius_variable, tf.float64)
        directions = radius * (tf.gather(x, partners[:, 0]) - x)
        with tf.autodiff.ForwardAccumulator(x, directions) as accumulator:
            outputs, kinks = run(self._graph, x)
            margins = [kink.margins for kink in kinks]
        zero = tf.UnconnectedGradients.ZERO
        shares = tf.ones(tf.shape(x)[:1], x.dtype)
        for margin, rate in zip(margins, accumulator.jvp(margins, zero), strict=True):
            ends = tf.where(rate < 0, margin / tf.where(rate < 0, -rate, 1.0), 1.0)
            shares = tf.minimum(shares, tf.reduce_min(ends, axis=1))
        slopes = accumulator.jvp(outputs[0], zero)
        return tf.cast(shares, tf.float32), tf.cast(shares[:, None] * slopes, tf.float32)


def _checked_inner_fractions(fractions):
    values = list(fractions) if np.iterable(fractions) else [fractions]
    if not values or not all(is_number(value) and 0.0 < value < 1.0 for value in values):
        raise ValueError(
            "`fractions` must be numbers between 0 and 1, at least one. "
            f"Received: fractions={fractions!r}"
        )
    return tuple(float(value) for value in values)


def _piecewise_linear_graph(teacher):
    try:
        graph = trace(teacher)
    except ValueError as error:
        raise ValueError(
            "`tolerance=0` needs a `teacher` that is piecewise linear, layer by layer. Use "
            f"tolerance=0.1, say, for other teachers. {error}"
        ) from error
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            "`tolerance=0` needs a `teacher` of one input and one output. Received: a model of "
            f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs. Use tolerance=0.1, say."
        )
    return graph
