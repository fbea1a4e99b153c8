"""The objective of a distiller: the weighted sum of terms, and what they need of a step."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import Batch
from l2rkd_tf.distiller.terms import Term
from l2rkd_tf.utils.types import Features

__all__ = ["Losses", "Needs", "Objective"]


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
        shares: dict[str, tf.Tensor] = {}
        for term in active:
            shares |= term.shares(batch, teacher.get(term.at), student[term.at])
        weighted = [term.weight_tensor * shares[term.name] for term in active]
        return Losses(total=keras.ops.sum([*weighted, *regularization]), terms=shares)

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
            term.name: term.shares(batch, None, student)[term.name]
            for term in self.terms
            if term.at == "data" and not term.needs_teacher
            if term.is_computable(batch.data.labels)
        }
        return Losses(keras.ops.sum([*shares.values(), *regularization]), shares)
