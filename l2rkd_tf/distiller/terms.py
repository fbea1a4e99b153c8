"""The terms of an objective, each one small object.

A term compares the student with labels or with its teacher at some points of a batch. To add one,
write a subclass of `Term` and put it into the list that `L2RKDDistiller` makes; trackers, weights,
needed points and logs follow from it.
"""

from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes, positions
from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.compile_checks import check_labels_of_loss, check_loss
from l2rkd_tf.distiller.heads import Heads
from l2rkd_tf.distiller.labels import known_labels
from l2rkd_tf.distiller.settings import Number
from l2rkd_tf.features import LOGITS, OUTPUT
from l2rkd_tf.losses import DIVERGENCES
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.output_checks import check_number_of_outputs, check_outputs_agree
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import Features, Where

__all__ = ["DivergenceTerm", "HardLossTerm", "Term"]


class Term:
    """One term of an objective.

    A subclass implements `values`, and sets the attributes that differ from these.

    Attributes:
        name: Name in the logs.
        weight: Its weight now, a float; a term of weight 0 is not computed.
        weight_tensor: What a traced step multiplies it by.
        at: The points at which it compares: `"data"`, `"region"` or `"both"`.
        needs_teacher: Whether it compares with the teacher.
        needs_inner_features: Whether it compares more of the teacher than its outputs.
        num_projections: Number of projected gradients of the outputs that it compares.
        layers: Names of the teacher's and of the student's layers that it compares.
    """

    name: str
    weight: float
    weight_tensor: Any
    at: Where = "data"
    needs_teacher = True
    needs_inner_features = False
    num_projections = 0
    layers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def values(self, batch: Batch, teacher: Features | None, student: Features) -> tf.Tensor:
        """What the term is worth at its points, `batch.points_at(self.at)`.

        Args:
            batch: The batch, with labels and whatever else belongs to its points.
            teacher: The teacher's features at the points; `None` if the term needs none.
            student: The student's features at the points.

        Returns:
            One value for each point, float32, shape `(points,)`, or for each position of dense
            outputs, shape `(points, ...)`; or a scalar, where Keras has reduced already: the mean
            over the points of this replica, weights included.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `values`.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the logs: its own, and those of its parts."""
        return (self.name,)

    def shares(
        self, batch: Batch, teacher: Features | None, student: Features
    ) -> dict[str, tf.Tensor]:
        """This replica's shares of the term's mean over its points of all replicas.

        Args:
            batch: As in `values`.
            teacher: As in `values`.
            student: As in `values`.

        Returns:
            A scalar for each of `names`.
        """
        values, points = self.values(batch, teacher, student), batch.points_at(self.at)
        if values.shape.rank == 0:  # reduced already, over this replica
            count = self.count(points, student)
            return {self.name: distribution.replica_share_of_mean(values, count)}
        return {self.name: _share(values, points.count, self.weights_of(points), student[LOGITS])}

    def weights_of(self, points: Points) -> Any:
        """Example weights of the term's values at these points, or `None` for 1 each."""
        return points.weights

    def count(self, points: Points, student: Features) -> distribution.Count:
        """Number of what a scalar of `values` is the mean of."""
        return points.count

    def is_computable(self, labels: Any) -> bool:
        """Whether a batch with these labels, or `None`, has all that the term needs."""
        return True

    def check(self, labels: Any) -> None:
        """Raises a `ValueError` if the term, which is active, lacks what it needs."""

    def build(self, teacher: Features | None, student: Features) -> None:
        """Makes what the term trains itself, for features of these shapes."""


class _WeightedByNumber(Term):
    """A term whose weight is a `Number` of the distiller."""

    def __init__(self, name: str, weight: Number) -> None:
        self.name = name
        self._weight = weight
        self.weight_tensor = weight.variable

    @property
    def weight(self) -> float:  # type: ignore[override]
        """Its weight now."""
        return self._weight.value


class HardLossTerm(_WeightedByNumber):
    """The loss that was given to `compile`, at the training points.

    Args:
        weight: Its weight.
        distiller: The compiled model.
        heads: The compared outputs.
    """

    needs_teacher = False

    def __init__(self, weight: Number, distiller: keras.Model, heads: Heads) -> None:
        super().__init__("hard_loss", weight)
        self._distiller = distiller
        self._heads = heads

    def values(self, batch: Batch, teacher: Features | None, student: Features) -> tf.Tensor:
        """See `Term.values`: a scalar."""
        del teacher
        points, outputs = batch.points_at(self.at), student[OUTPUT]
        check_labels_of_loss(self._distiller.loss, points.labels, outputs)
        weights = positions.spread_weights(points.weights, outputs)
        loss = keras_fixes.compiled_loss(self._distiller, points.labels, outputs, weights)
        loss = tf.cast(loss, tf.float32)  # Keras's are in `floatx`
        if loss.shape.rank > 0:  # `reduction=None`: Keras has only multiplied by the weights
            return tf.reduce_mean(loss)
        return loss * distribution.num_replicas()

    def count(self, points: Points, student: Features) -> distribution.Count:
        """See `Term.count`: what Keras divides by, for one output.

        Keras leaves out masked positions and labels that the loss ignores, of each output by
        itself; means by `mean_with_sample_weight` are over the weights, and sums are none.
        """
        outputs, loss = map(only_output, (student[OUTPUT], self._distiller.loss))
        reduction = getattr(loss, "reduction", None)
        if reduction == "sum":
            return distribution.count_of_replicas()
        if keras.tree.is_nested(outputs) or keras.tree.is_nested(loss):
            return points.count
        mask = positions.and_masks(
            positions.mask_of(outputs), known_labels(loss, points.labels, outputs)
        )
        if reduction == "mean_with_sample_weight" and points.weights is not None:
            weights = positions.spread_weights(points.weights, outputs)
            counted = weights if mask is None else weights * tf.cast(mask, weights.dtype)
            return distribution.global_counts(tf.reduce_sum(counted))[0]
        return points.count if mask is None else positions.count_true(mask)

    def is_computable(self, labels: Any) -> bool:
        """Whether there are labels, and a loss to compare them by."""
        return self._distiller.loss is not None and labels is not None

    def check(self, labels: Any) -> None:
        """See `Term.check`; also warns of a loss that mistakes logits for probabilities."""
        if self._distiller.loss is None:
            raise ValueError(
                f"`loss` must be given in compile(), since hard_weight={self.weight:g}. "
                "Received: loss=None. Pass a Keras loss, or set hard_weight=0."
            )
        self.check_labels(labels)
        check_loss(self._distiller.loss, self._heads)

    def check_labels(self, labels: Any) -> None:
        """Raises a `ValueError` if the term is active and there are no labels."""
        if labels is None and self.weight > 0:
            raise ValueError(
                f"`y` (labels) must be given, since hard_weight={self.weight:g}. "
                "Received: y=None. Train on (inputs, labels), or set hard_weight=0."
            )


class DivergenceTerm(_WeightedByNumber):
    """Divergence of the student's outputs from the teacher's, at training or at region points.

    Of several outputs it is the sum over them, each with its own weight, mask and example weights.

    Args:
        name: Name in the logs.
        weight: Its weight.
        at: `"data"` or `"region"`.
        heads: The compared outputs.
    """

    def __init__(self, name: str, weight: Number, at: Where, heads: Heads) -> None:
        super().__init__(name, weight)
        self.at = at
        self._heads = heads

    @property
    def names(self) -> tuple[str, ...]:
        """See `Term.names`: those of several outputs are its parts."""
        heads = self._heads.heads
        return (self.name, *(head.logs_as(self.name) for head in heads if len(heads) > 1))

    def shares(
        self, batch: Batch, teacher: Features | None, student: Features
    ) -> dict[str, tf.Tensor]:
        """See `Term.shares`."""
        assert teacher is not None
        points, heads = batch.points_at(self.at), self._heads.heads
        weights: Any = [points.weights] * len(heads)
        if keras.tree.is_nested(points.weights):
            weights = self._heads.student.each(points.weights)
        shares = [
            _share(_divergence(head, targets, logits), points.count, own, logits)
            for head, own, targets, logits in zip(
                heads, weights, _listed(teacher[LOGITS]), _listed(student[LOGITS]), strict=True
            )
        ]
        total = tf.add_n([head.weight * one for head, one in zip(heads, shares, strict=True)])
        parts = shares if len(heads) > 1 else []
        return dict(zip(self.names, [total, *parts], strict=True))


def _listed(logits):
    """Logits in the order of the heads."""
    return list(logits.values()) if isinstance(logits, dict) else [logits]


def _divergence(head, targets, logits):
    check_number_of_outputs("teacher", targets.shape, head.divergence)
    check_outputs_agree(targets.shape, logits.shape)
    return DIVERGENCES[head.divergence](targets, logits, head.temperature.variable)


def _share(values, examples, weights, outputs):
    """This replica's share of a mean over all replicas, of values of examples or positions."""
    mask = None if values.shape.rank == 1 else positions.mask_of(outputs)
    if not any(map(keras.tree.is_nested, (weights, outputs))):
        weights = positions.spread_weights(weights, outputs)
    weights = positions.weights_of(values, weights, mask)
    count = positions.count_values(values, examples, mask)
    return distribution.replica_share_of_weighted_mean(values, count, weights)
