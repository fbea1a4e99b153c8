"""Distillation methods as terms of a distiller's objective."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

import keras
import tensorflow as tf

from l2rkd_tf.features import INPUT_GRADIENT, OUTPUT
from l2rkd_tf.methods.base import FeatureMethod, LayersMethod, Method, TrainableMethod
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.types import DistillationLosses, Features, Where
from l2rkd_tf.utils.validation import check_choice, is_weight

__all__ = ["AttachedMethod", "attach"]

_POINTS = ("data", "region", "both")
# What `attach` and a distiller call their arguments.
_METHODS, _WEIGHTS = "distillation_losses", "distillation_loss_weights"
_AT = "distillation_losses_at"


@dataclasses.dataclass(frozen=True)
class AttachedMethod:
    """A method as a term of an objective.

    Attributes:
        method: The `keras.distillation.DistillationLoss`.
        name: Its name in the logs.
        weight: Its weight.
        at: Where it compares: at `"data"`, `"region"` points or `"both"`.
        layers: Names of the teacher's and the student's layers that it compares; empty for the
            outputs. They are those of one pair of models: a method may be attached to others.
    """

    method: keras.distillation.DistillationLoss
    name: str
    weight: float
    at: str
    layers: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def num_projections(self) -> int:
        """Number of projected gradients of the outputs that it compares."""
        return self.method.num_projections if isinstance(self.method, Method) else 0

    @property
    def uses_labels(self) -> bool:
        """Whether it takes the classes of the training points into account."""
        return isinstance(self.method, Method) and self.method.uses_labels

    def build_from_shapes(self, teacher: Features, student: Features) -> None:
        """Makes what the method trains itself, for features of these shapes, where it must."""
        if isinstance(self.method, TrainableMethod):
            compared = zip((teacher, student), self.layers, strict=True)
            shapes = (
                keras.tree.map_structure(lambda f: tuple(f.shape), self._compared(*one))
                for one in compared
            )
            self.method.build_from_shapes(*shapes)

    def part(
        self,
        teacher: Features,
        student: Features,
        labels: tf.Tensor | None,
        weights: tf.Tensor | None,
        count: distribution.Count,
    ) -> tf.Tensor:
        """This replica's part of the method's mean over its points.

        Args:
            teacher: The teacher's features at the points, by name.
            student: The student's features at the points, by name.
            labels: Classes of the points, as `Method` takes them.
            weights: Example weights of the points, or `None`. The losses of
                `keras.distillation` are means over a batch without weights.
            count: `distribution.Count` of the points.

        Returns:
            Scalar, float32.
        """
        teacher, student = (
            self._compared(features, names)
            for features, names in zip((teacher, student), self.layers, strict=True)
        )
        try:
            if isinstance(self.method, Method):
                values = self.method.values(teacher, student, labels)
                return distribution.replica_share_of_weighted_mean(values, count, weights)
            # Squares of half-precision features overflow.
            mean = self.method.compute_loss(*(tf.cast(f, tf.float32) for f in (teacher, student)))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(self._cannot_compare(teacher, student, error)) from error
        return distribution.replica_share_of_mean(
            tf.cast(mean, tf.float32) * self._divided_by(), count
        )

    def _compared(self, features, names):
        if self.num_projections:
            return features[INPUT_GRADIENT][:, : self.num_projections]
        found = [features[name] for name in names or (OUTPUT,)]
        return found[0] if len(found) == 1 else found

    def _cannot_compare(self, teacher, student, error):
        def of(features, layers):
            shapes = [tuple(feature.shape) for feature in keras.tree.flatten(features)]
            named = ", ".join(map(repr, layers)) or "output"
            return f"{named} of shape {', '.join(map(str, shapes))}"

        sides = map(of, (teacher, student), self.layers)
        return (
            f"`{_METHODS}`: {type(self.method).__name__} cannot compare "
            f"the teacher's {next(sides)} with the student's {next(sides)}: {error}"
        )

    def _divided_by(self):
        """What a loss of Keras divided its mean by: loss objects, by the number of replicas."""
        loss = getattr(self.method, "loss", None)
        functions = [function for function in keras.tree.flatten(loss) if function is not None]
        divide = {isinstance(function, keras.losses.Loss) for function in functions}
        if len(divide) > 1 and distribution.num_replicas() > 1:
            raise ValueError(
                f"`{_METHODS}` must hold either loss objects or names and functions, not both "
                f"in one method, on several replicas. Received: {functions} in {self.method!r}"
            )
        return distribution.num_replicas() if divide == {True} else 1


def attach(
    methods: DistillationLosses,
    weights: float | Sequence[float] | None,
    at: Where | Sequence[Where],
    teacher: keras.Model | None,
    student: keras.Model,
) -> list[AttachedMethod]:
    """Makes terms of methods, which find their layers if they have to.

    Args:
        methods: A `keras.distillation.DistillationLoss` or several.
        weights: A weight not below 0 for each; `None` for the weights of the methods' papers, and
            1 for the losses of `keras.distillation`.
        at: `"data"`, `"region"` or `"both"`, for all or for each.
        teacher: Keras model, or `None` where data carry its outputs.
        student: Keras model.

    Returns:
        A list of `AttachedMethod`.

    Raises:
        ValueError: If an argument is wrong, or a method finds no layers.
    """
    methods = list(methods) if isinstance(methods, (list, tuple)) else [methods]
    for method in methods:
        if not isinstance(method, keras.distillation.DistillationLoss):
            raise ValueError(
                f"`{_METHODS}` must be keras.distillation.DistillationLoss objects, such as those "
                f"of l2rkd_tf.methods. Received: {method!r}"
            )
    if weights is None:
        weights = [m.default_weight if isinstance(m, Method) else 1.0 for m in methods]
    each = _one_each(_WEIGHTS, weights, methods)
    if not all(map(is_weight, each)):
        raise ValueError(
            f"`{_WEIGHTS}` must be finite numbers not below 0. Received: {_WEIGHTS}={each!r}"
        )
    for where in at if isinstance(at, (list, tuple)) else [at]:
        check_choice(_AT, where, _POINTS)
    at = _one_each(_AT, [at] * len(methods) if isinstance(at, str) else at, methods)
    return [
        AttachedMethod(method, name, float(weight), where, _layers(method, teacher, student))
        for method, name, weight, where in zip(methods, _names(methods), each, at, strict=True)
    ]


def _layers(method, teacher, student):
    if teacher is None:
        _check_compares_outputs(method)
    if isinstance(method, Method):
        method.validate_model_compatibility(teacher, student)
        return tuple(method.teacher_layers), tuple(method.student_layers)
    # Layer names are optional attributes of Keras's distillation losses.
    names = (getattr(method, f"{model}_layer_name", None) for model in ("teacher", "student"))
    return tuple((name,) if name else () for name in names)


def _check_compares_outputs(method):
    inner = isinstance(method, (FeatureMethod, LayersMethod)) or getattr(
        method, "teacher_layer_name", None
    )
    if inner or (isinstance(method, Method) and method.num_projections):
        raise ValueError(
            f"`{_METHODS}` must compare the models' outputs where `teacher` is None, since data "
            f"carry no more of the teacher. Received: {method!r}. Pass the teacher."
        )


def _one_each(argument, values, methods):
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    if len(values) != len(methods):
        raise ValueError(
            f"`{argument}` must have one entry for each of the {len(methods)} {_METHODS}. "
            f"Received: {values!r}"
        )
    return values


def _names(methods):
    """Names of the methods in the logs: `AttentionTransfer` is `attention_transfer_loss`."""
    names = ["loss", "hard_loss", "kd_loss", "region_loss"]
    reserved = len(names)
    for method in methods:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(method).__name__).lower()
        name = f"{words.removesuffix('_loss')}_loss"
        number = next(n for n in itertools.count(1) if _numbered(name, n) not in names)
        names.append(_numbered(name, number))
    return names[reserved:]


def _numbered(name, number):
    return name if number == 1 else f"{name}_{number}"
