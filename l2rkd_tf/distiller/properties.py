"""What users read and set of a distiller, written out."""

from collections.abc import Callable
from typing import Any, Literal

import keras

from l2rkd_tf import regions
from l2rkd_tf.distiller.batch import BatchSampler, PointsPerStep
from l2rkd_tf.distiller.method_term import MethodTerm
from l2rkd_tf.distiller.region_at import check_region
from l2rkd_tf.distiller.settings import Number, Settings
from l2rkd_tf.distiller.student_model import StudentModel
from l2rkd_tf.distiller.summary import summary_of
from l2rkd_tf.distiller.told_layers import tell_layers
from l2rkd_tf.features import check_taken
from l2rkd_tf.regions import Region, Segment, default_region
from l2rkd_tf.regions.leaves import names_in_data
from l2rkd_tf.utils.model_checks import data_format_of, given_models, input_symbols
from l2rkd_tf.utils.types import Config, Divergence, Logs, RegionTargets, TeacherDtype, Where

__all__ = ["DistillerProperties"]


class DistillerProperties(StudentModel):
    """Base class of distillers: their settings as properties.

    Plain objects hold what must stay out of checkpoints: Keras finds and saves whatever it can
    reach through the attributes and properties of a model, lists and dicts included.
    """

    _settings: Settings
    _hard_weight: Number
    _kd_weight: Number
    _region_weight: Number
    _sampler: BatchSampler

    def get_teacher(self) -> keras.Model | None:
        """The teacher as one Keras model that takes the student's inputs, or `None`.

        Preprocessing, and the mean of several teachers, are part of it. A method: Keras would save
        what a property returns.
        """
        return self._teacher.model

    def __getattr__(self, name: str) -> Any:
        # Only for names that are found nowhere else.
        if name == "teacher":
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute 'teacher', which Keras would "
                "save with the student in each checkpoint. Use distiller.get_teacher()."
            )
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Steps and terms hold the objects of the constructor.
        if name in ("student", "distillation_losses") and name in self.__dict__:
            raise AttributeError(
                f"`{name}` of a distiller is fixed, since its steps would ignore another. Make a "
                f"new one: L2RKDDistiller(distiller.get_teacher(), ..., {name}=...)."
            )
        super().__setattr__(name, value)

    @property
    def temperature(self) -> float | dict[str, float]:
        """Temperature `tau`, positive, or a dict by output name; may be set between epochs."""
        return self._heads.temperature

    @temperature.setter
    def temperature(self, value: float | dict[str, float]) -> None:
        self._heads.temperature = value

    @property
    def hard_weight(self) -> float:
        """Weight of the compiled loss; may be set between epochs."""
        return self._hard_weight.value

    @hard_weight.setter
    def hard_weight(self, value: float) -> None:
        self._assign(self._hard_weight, value)

    @property
    def kd_weight(self) -> float:
        """Weight of distillation at the training points; may be set between epochs."""
        return self._kd_weight.value

    @kd_weight.setter
    def kd_weight(self, value: float) -> None:
        self._assign(self._kd_weight, value)

    @property
    def region_weight(self) -> float:
        """Weight of distillation in the regions; may be set between epochs."""
        return self._region_weight.value

    @region_weight.setter
    def region_weight(self, value: float) -> None:
        self._assign(self._region_weight, value)

    def _make_weights(self, hard_weight, kd_weight, region_weight):
        self._hard_weight = Number("hard_weight", hard_weight)
        self._kd_weight = Number("kd_weight", kd_weight)
        self._region_weight = Number("region_weight", region_weight)

    def _assign(self, number: Number, value: float) -> None:
        if number.assign(value):
            self._retrace()

    def _retrace(self) -> Callable[[Any], Logs]:
        if self.train_function is not None:
            self.make_train_function(force=True)
        return self.train_function

    @property
    def region(self) -> Region | None:
        """The region; another one takes effect at the next step, which is retraced."""
        return self._sampler.region

    @region.setter
    def region(self, region: Region | str | Config) -> None:
        region = regions.get(region)
        if self.region_targets == "interpolated" and not region.interpolates_targets:
            raise ValueError(
                "`region_targets='interpolated'` needs a region with a linear map of logits, such "
                f"as regions.Segment(). Received: region={region!r}. Use region_targets='teacher'."
            )
        student, teacher = self._student_forward, self._teacher.forward
        if student.cut is not None:
            check_region(region, None if teacher is None else teacher.cut, student.cut)
        region.set_data_format(data_format_of(self.student, self.get_teacher()))
        self._sampler.region = region
        self._retrace()

    def _set_first_region(self, region):
        inputs = input_symbols(self.student)
        if region is None and inputs is not None:
            region = self._default_region(inputs)
        if region is not None:
            self.region = region

    def _default_region(self, inputs):
        if self.region_at is not None:
            return Segment()
        data_format = data_format_of(self.student, self.get_teacher())
        interpolated = self.region_targets == "interpolated"
        return default_region(inputs, data_format, interpolated, self.student)

    def _match_inputs(self, x):
        """Checks that models take the right inputs of data; `fixed` calls them as data do."""
        for argument, model in given_models(self.get_teacher(), self.student):
            check_taken(argument, model, x)
        if self.region is not None and self.region_at is None:
            self.region.rename_fixed(names_in_data(self.student, x))

    @property
    def region_targets(self) -> RegionTargets:
        """See the argument `region_targets`; fixed."""
        return self._settings.region_targets

    @property
    def region_at(self) -> tuple[str | None, str] | None:
        """Layers of teacher and student, see the argument `region_at`; fixed."""
        return self._settings.region_at

    @property
    def num_region_points(self) -> int:
        """See the argument `num_region_points`; fixed."""
        return self._settings.num_region_points

    @property
    def replace_fraction(self) -> float | None:
        """See the argument `replace_fraction`; fixed."""
        return self._settings.replace_fraction

    @property
    def divergence(self) -> Divergence | dict[str, Divergence | None]:
        """See the argument `divergence`; fixed."""
        return self._settings.divergence

    @property
    def output_weights(self) -> dict[str, float] | None:
        """See the argument `output_weights`; fixed."""
        return self._settings.output_weights

    @property
    def from_logits(self) -> bool:
        """See the argument `from_logits`; fixed."""
        return self._settings.from_logits

    @property
    def check_finite(self) -> bool:
        """See the argument `check_finite`; fixed."""
        return self._settings.check_finite

    @property
    def teacher_dtype(self) -> TeacherDtype:
        """See the argument `teacher_dtype`; fixed."""
        return self._settings.teacher_dtype

    @property
    def seed(self) -> int:
        """See the argument `seed`, or the one that was drawn; fixed."""
        return self._settings.seed

    @property
    def distillation_loss_weights(self) -> tuple[float, ...]:
        """Weights of `distillation_losses`."""
        return tuple(term.weight for term in self._method_terms())

    @property
    def distillation_losses_at(self) -> tuple[Where, ...]:
        """Where each of `distillation_losses` compares: `"data"`, `"region"` or `"both"`."""
        return tuple(term.at for term in self._method_terms())

    @property
    def distillation_loss_layers(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """`{name in the logs: (layers of the teacher, layers of the student)}`, given or found."""
        return {term.name: term.layers for term in self._method_terms()}

    def _tell_layers(self, verbose):
        """Prints what methods compare, as `verbose` of `fit` says."""
        features = self._student_forward.features_argument
        tell_layers(self._method_terms(), self.get_teacher(), self.student, features, verbose)

    def _method_terms(self):
        return [term for term in self._objective.terms if isinstance(term, MethodTerm)]

    def summary(
        self, *args: Any, print_fn: Callable[[str], Any] | None = None, **kwargs: Any
    ) -> None:
        """Prints both models side by side, the terms of the objective, and what a step costs.

        For the layers of a model, use `distiller.student.summary()`.

        Args:
            *args: Arguments of `keras.Model.summary`, which are not used.
            print_fn: Function that takes the text. Default: `print`.
            **kwargs: As `args`.

        Example:
            >>> teacher, student = (
            ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
            ... )
            >>> lines = []
            >>> l2rkd_tf.L2RKDDistiller(teacher, student).summary(print_fn=lines.append)
            >>> lines[0].splitlines()[-1][:61]
            'A step with a batch of 32: 64 points through the student, in '
        """
        del args, kwargs
        (print_fn or print)(summary_of(self))

    def points_per_step(
        self, batch_size: int, cached: bool | Literal["regions"] = False
    ) -> PointsPerStep:
        """How many points a training step passes through student and teacher: what it costs.

        Gradients of the outputs with respect to the inputs (`methods.JacobianMatching`) cost
        further passes, which are not counted.

        Args:
            batch_size: Examples in the batch.
            cached: Whether the data carry the teacher's outputs, as those of
                `teacher_cache.cache_teacher` do; `"regions"` for those of `cache_regions`.

        Returns:
            `PointsPerStep(student, teacher)`.

        Example:
            >>> teacher, student = (
            ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
            ... )
            >>> l2rkd_tf.L2RKDDistiller(teacher, student, num_region_points=3).points_per_step(50)
            PointsPerStep(student=200, teacher=200)
            >>> l2rkd_tf.L2RKDDistiller(teacher, student, replace_fraction=0.5).points_per_step(50)
            PointsPerStep(student=50, teacher=50)
        """
        data, region = self._sampler.count_points(batch_size, self._objective.needs.region_points)
        teacher = self._teacher.count_points(batch_size, data, region, cached)
        return PointsPerStep(data + region, teacher)
