"""What the teacher answers at the points of a batch: live, cached or interpolated."""

import math
from collections.abc import Callable
from typing import Any, Literal

import keras

from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.forward import Forward, with_logits
from l2rkd_tf.distiller.frozen import FrozenWeights
from l2rkd_tf.distiller.heads import Outputs
from l2rkd_tf.distiller.objective import Needs, Objective
from l2rkd_tf.distiller.precision import Precision
from l2rkd_tf.distiller.settings import Settings
from l2rkd_tf.features import LOGITS, OUTPUT
from l2rkd_tf.teachers.callable_teacher import errors_of_functions
from l2rkd_tf.utils.model_checks import all_layers
from l2rkd_tf.utils.types import Features, Logs

__all__ = ["Teacher"]


class Teacher:
    """Answers for the teacher, in at most one forward pass a step.

    None where no active term compares with the teacher, or where the data carry its outputs and no
    term needs more.

    Args:
        forward: The teacher's forward pass; `None` where the data carry all that is needed.
        objective: Decides what is needed.
        settings: Those of the distiller.
        outputs: Finds the compared outputs among those of the teacher.
        given: The arguments `teacher` and `teacher_preprocessing` of the distiller.
        frozen: Its weights, with which steps compute.

    Attributes:
        forward: The teacher's forward pass, or `None`.
        frozen: As above.
        given: As above: what files hold.
    """

    def __init__(
        self,
        forward: Forward | None,
        objective: Objective,
        settings: Settings,
        outputs: Outputs,
        given: tuple[Any, Any],
        frozen: FrozenWeights,
    ) -> None:
        self.forward = forward
        self.frozen = frozen
        self.given = given
        self._objective = objective
        self._interpolates = settings.region_targets == "interpolated"
        self._outputs = outputs
        self._precision = Precision(given[0], settings.teacher_dtype)

    @property
    def model(self) -> keras.Model | None:
        """The Keras model of the student's inputs, or `None`."""
        return None if self.forward is None else self.forward.model

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile all layers of the teacher."""
        return self.model is None or all(
            layer.supports_jit for layer in (self.model, *all_layers(self.model))
        )

    def __call__(self, batch: Batch) -> dict[str, Features]:
        """The teacher's features by where the points are: `"data"`, `"region"`, `"both"`.

        Only those that the active terms need; interpolated answers at region points are logits.
        """
        needs = self._objective.needs
        if needs.teacher_at_region and self._interpolates:
            features = self._carried_by(batch, needs) or self._run(batch.original)
            interpolate = batch.drawn.targets  # type: ignore[union-attr]
            logits = self._outputs.logits(features[OUTPUT])
            targets = keras.tree.map_structure(interpolate, logits)
            answers = {"data": batch.at_training_points(features)}
            return with_logits(answers, self._outputs) | {"region": {LOGITS: targets}}
        return with_logits(self._where_needed(batch, needs), self._outputs)

    def _where_needed(self, batch, needs):
        """Features by where the points are, from at most one pass."""
        known = self._carried_by(batch, needs)
        if batch.region is None:
            return batch.split(known or self._run(batch.data)) if needs.teacher_at_data else {}
        if needs.teacher_at_data and needs.teacher_at_region and not known:
            return batch.split(self._run(batch.both))
        answers = {}
        if needs.teacher_at_data:
            answers["data"] = batch.at_training_points(known) if known else self._run(batch.data)
        if needs.teacher_at_region:
            answers["region"] = self._carried_at_region(batch, needs) or self._run(batch.region)
        return answers

    def _carried_at_region(self, batch, needs):
        """Features at region points that the data carry, if that is all it takes."""
        if batch.carried is None or needs.inner_features:
            return None
        return {OUTPUT: batch.drawn.of_owner(batch.carried.outputs)}

    def _carried_by(self, batch: Batch, needs: Needs) -> Features | None:
        """Features at the points of `original` that the data carry, if that is all it takes."""
        return None if batch.cached is None or needs.inner_features else {OUTPUT: batch.cached}

    def _run(self, points: Points) -> Features:
        assert self.forward is not None
        with self.frozen.as_constants(), self._precision.applied():
            return self.forward.at(points, training=False)

    def count_points(
        self, batch_size: int, data: int, region: int, cached: bool | Literal["regions"]
    ) -> int:
        """At how many points a step runs the teacher.

        Args:
            batch_size: Examples of the batch.
            data: Training points that it is split into.
            region: Region points that it is split into.
            cached: As in `L2RKDDistiller.points_per_step`.
        """
        needs = self._objective.needs
        known = bool(cached) and not needs.inner_features
        if needs.teacher_at_region and self._interpolates:
            return 0 if known else batch_size
        at_data = data if needs.teacher_at_data and not known else 0
        at_region = region if needs.teacher_at_region else 0
        return at_data + (0 if known and cached == "regions" else at_region)

    def checked(self, train_function: Callable[[Any], Logs]) -> Callable[[Any], Logs]:
        """The train function of a Keras model that raises what a teacher's function has raised."""

        def function(iterator):
            with errors_of_functions(self.model):
                return train_function(iterator)

        return function

    def check(self, batch_is_cached: bool, carries_points: bool) -> None:
        """Checks that there is a teacher for what the active terms need.

        Args:
            batch_is_cached: Whether the data carry its outputs.
            carries_points: Whether the data carry region points, with its outputs.

        Raises:
            ValueError: If there is none, or targets would be interpolated in spite of the outputs.
        """
        if carries_points and self._interpolates:
            raise ValueError(
                "`region_targets` must be 'teacher' for data that carry region points with the "
                "teacher's outputs. Received: region_targets='interpolated'"
            )
        needs = self._objective.needs
        if self.forward is not None or (carries_points and not needs.inner_features):
            return
        if needs.teacher_at_region and not self._interpolates:
            raise ValueError(
                "`teacher` must be given for region_targets='teacher', which evaluates the teacher "
                "on points drawn during training. Received: teacher=None. Train on "
                "l2rkd_tf.teacher_cache.cache_regions(dataset, teacher), whose data carry its "
                "outputs in regions, or use region_targets='interpolated' or region_weight=0."
            )
        if not batch_is_cached and (needs.teacher_at_region or needs.teacher_at_data):
            raise ValueError(
                "`teacher` must be given, or else the data must carry its outputs. Received: "
                "teacher=None and inputs without cached teacher outputs. Train on "
                "l2rkd_tf.teacher_cache.cache_teacher(dataset, teacher)."
            )

    def num_outputs(self, inputs: Any) -> int:
        """Number of numbers in the teacher's compared output, at all positions of a dense one.

        Raises:
            ValueError: If the number of positions differs from batch to batch.
        """
        symbolic = keras.tree.map_structure(
            lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype.name), inputs
        )
        assert self.model is not None
        shape = self._outputs.each(self.model.compute_output_spec(symbolic))[0].shape
        if None in shape[1:]:
            raise ValueError(
                "`distillation_losses` that compare gradients need outputs of a known number. "
                f"Received: teacher outputs of shape {tuple(shape)}"
            )
        return math.prod(shape[1:])
