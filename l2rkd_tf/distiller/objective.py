"""The objective of a distiller: terms, each one small object, and their weighted sum.

A term compares the student with labels or with its teacher at some points of a batch. To add one,
write a subclass of `Term` and put it into the list that `L2RKDDistiller` makes; trackers, weights,
needed points and logs follow from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.distiller.batch import Batch
from l2rkd_tf.distiller.compile_checks import check_labels_of_loss, check_loss
from l2rkd_tf.distiller.settings import Number, Settings
from l2rkd_tf.features import LOGITS, OUTPUT
from l2rkd_tf.losses import DIVERGENCES
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.model_checks import check_number_of_outputs
from l2rkd_tf.utils.types import Features, Where

__all__ = [
    "DivergenceTerm",
    "HardLossTerm",
    "Losses",
    "Needs",
    "Objective",
    "Term",
]


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
            One value for each point, float32, shape `(points,)`; or a scalar, where Keras has
            reduced already: the mean over the points of this replica, weights included.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `values`.")

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
        settings: Its settings.
    """

    needs_teacher = False

    def __init__(self, weight: Number, distiller: keras.Model, settings: Settings) -> None:
        super().__init__("hard_loss", weight)
        self._distiller = distiller
        self._settings = settings

    def values(self, batch: Batch, teacher: Features | None, student: Features) -> tf.Tensor:
        """See `Term.values`: a scalar."""
        del teacher
        points, outputs = batch.points_at(self.at), student[OUTPUT]
        check_labels_of_loss(self._distiller.loss, points.labels, outputs.shape[-1])
        loss = keras_fixes.compiled_loss(self._distiller, points.labels, outputs, points.weights)
        return tf.cast(loss, tf.float32) * distribution.num_replicas()  # Keras's are in `floatx`

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
        check_loss(self._distiller.loss, self._settings)

    def check_labels(self, labels: Any) -> None:
        """Raises a `ValueError` if the term is active and there are no labels."""
        if labels is None and self.weight > 0:
            raise ValueError(
                f"`y` (labels) must be given, since hard_weight={self.weight:g}. "
                "Received: y=None. Train on (inputs, labels), or set hard_weight=0."
            )


class DivergenceTerm(_WeightedByNumber):
    """Divergence of the student's outputs from the teacher's, at training or at region points.

    Args:
        name: Name in the logs.
        weight: Its weight.
        at: `"data"` or `"region"`.
        divergence: Name of a divergence of `l2rkd_tf.losses`.
        temperature: Temperature `tau`.
    """

    def __init__(
        self, name: str, weight: Number, at: Where, divergence: str, temperature: Number
    ) -> None:
        super().__init__(name, weight)
        self.at = at
        self._divergence = divergence
        self._temperature = temperature

    def values(self, batch: Batch, teacher: Features | None, student: Features) -> tf.Tensor:
        """See `Term.values`."""
        del batch
        assert teacher is not None
        targets, logits = teacher[LOGITS], student[LOGITS]
        check_number_of_outputs("teacher", targets.shape, self._divergence)
        if not targets.shape.is_compatible_with(logits.shape):
            raise ValueError(
                "`teacher` and `student` must have the same number of outputs. Received: teacher "
                f"outputs of shape {targets.shape}, student outputs of shape {logits.shape}"
            )
        return DIVERGENCES[self._divergence](targets, logits, self._temperature.variable)


class Needs(NamedTuple):
    """What the active terms of an objective need of a step.

    Attributes:
        region_points: Whether region points.
        teacher_at_data: Whether the teacher's outputs at training points.
        teacher_at_region: Whether the teacher's outputs at region points.
        inner_features: Whether more of the teacher at training points than its outputs.
        num_projections: Number of projected gradients of the outputs.
    """

    region_points: bool
    teacher_at_data: bool
    teacher_at_region: bool
    inner_features: bool
    num_projections: int


class Losses(NamedTuple):
    """The losses of a step: this replica's shares of means over the global batch.

    Attributes:
        total: The weighted sum of the terms, plus regularization.
        terms: `{name: unweighted term}` of the terms that were computed.
    """

    total: tf.Tensor
    terms: dict[str, tf.Tensor]


class Objective:
    """The weighted sum of terms.

    Args:
        terms: The terms, with different names.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)

    @property
    def active(self) -> list[Term]:
        """The terms whose weight is not 0."""
        return [term for term in self.terms if term.weight > 0]

    @property
    def needs(self) -> Needs:
        """What the active terms need of a step."""
        compared = [term for term in self.active if term.needs_teacher]
        return Needs(
            region_points=any(term.at != "data" for term in self.active),
            teacher_at_data=any(term.at != "region" for term in compared),
            teacher_at_region=any(term.at != "data" for term in compared),
            inner_features=any(t.at != "region" and t.needs_inner_features for t in compared),
            num_projections=max((term.num_projections for term in compared), default=0),
        )

    def check(self, labels: Any) -> None:
        """Checks, before a step is traced, that there is something to learn, and from what.

        Args:
            labels: Labels of the batch, or `None`.

        Raises:
            ValueError: If all weights are 0, or labels or the compiled loss are missing.
        """
        if not self.active:
            raise ValueError(
                "`hard_weight`, `kd_weight` and `region_weight` must not all be 0: there is "
                "nothing to learn. Received: 0 for each. Set one of them above 0."
            )
        for term in self.active:
            term.check(labels)

    def build(self, teacher: Features | None, student: Features) -> None:
        """Makes what the terms train themselves, for features of these shapes."""
        for term in self.terms:
            term.build(teacher, student)

    def __call__(
        self,
        batch: Batch,
        teacher: Mapping[str, Features],
        student: Mapping[str, Features],
        regularization: Sequence[tf.Tensor] = (),
    ) -> Losses:
        """The losses of a batch.

        Args:
            batch: The batch.
            teacher: The teacher's features by where the points are, as far as they are needed.
            student: The student's features by where the points are.
            regularization: This replica's shares of what is added to the sum.

        Returns:
            `Losses`.
        """
        active = self.active
        shares = [_share(term, batch, teacher.get(term.at), student[term.at]) for term in active]
        weighted = [term.weight_tensor * share for term, share in zip(active, shares, strict=True)]
        return Losses(
            total=keras.ops.sum([*weighted, *regularization]),
            terms={term.name: share for term, share in zip(active, shares, strict=True)},
        )

    def judge(self, batch: Batch, student: Features, regularization: Sequence[tf.Tensor]) -> Losses:
        """The losses of the student only, as `evaluate` reports them: without weights.

        Args:
            batch: A batch of training points only.
            student: The student's features at them.
            regularization: This replica's shares of what is added to the sum.

        Returns:
            `Losses` of the terms at training points that need no teacher and can be computed.
        """
        shares = {
            term.name: _share(term, batch, None, student)
            for term in self.terms
            if term.at == "data" and not term.needs_teacher
            if term.is_computable(batch.data.labels)
        }
        return Losses(keras.ops.sum([*shares.values(), *regularization]), shares)


def _share(term, batch, teacher, student):
    """This replica's share of a term's mean over its points of all replicas."""
    values, points = term.values(batch, teacher, student), batch.points_at(term.at)
    if values.shape.rank == 0:  # reduced already, over this replica
        return distribution.replica_share_of_mean(values, points.count)
    return distribution.replica_share_of_weighted_mean(values, points.count, points.weights)
