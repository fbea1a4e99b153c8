"""Published distillation methods as terms of an objective."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.heads import Outputs
from l2rkd_tf.distiller.labels import ClassLabels
from l2rkd_tf.distiller.terms import Term
from l2rkd_tf.features import INPUT_GRADIENT, LOGITS, OUTPUT
from l2rkd_tf.features.cut import CutModel
from l2rkd_tf.methods import FeatureMethod, LayersMethod, Method, TrainableMethod, get
from l2rkd_tf.teachers import kind_without_layers
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.types import DistillationLosses, FeatureFunction, Features, RegionTargets, Where
from l2rkd_tf.utils.validation import check_choice, is_weight

__all__ = [
    "MethodTerm",
    "check_layers_of_methods",
    "check_outputs_of_methods",
    "check_points_of_methods",
    "method_terms",
]

_POINTS = ("data", "region", "both")
# What a distiller calls these arguments.
_METHODS, _WEIGHTS = "distillation_losses", "distillation_loss_weights"
_AT = "distillation_losses_at"


class MethodTerm(Term):
    """A published method, or a loss of `keras.distillation`, as a term of an objective.

    Args:
        method: The `keras.distillation.DistillationLoss`.
        name: Its name in the logs.
        weight: Its weight.
        at: Where it compares: at `"data"`, `"region"` points or `"both"`.
        layers: Names of the teacher's and the student's layers that it compares; empty for the
            outputs. They are those of one pair of models: a method may be attached to others.
        distiller: The compiled model.
        outputs: Finds what belongs to the compared outputs.
    """

    def __init__(
        self,
        method: keras.distillation.DistillationLoss,
        name: str,
        weight: float,
        at: Where,
        layers: tuple[tuple[str, ...], tuple[str, ...]],
        distiller: keras.Model,
        outputs: Outputs,
    ) -> None:
        self.method = method
        self.name = name
        self.weight = self.weight_tensor = weight
        self.at = at
        self.layers = layers
        self.num_projections = method.num_projections if isinstance(method, Method) else 0
        self.needs_inner_features = bool(layers[0] or self.num_projections or at == "both")
        # Losses of `keras.distillation` take what the models output, also probabilities.
        self._output = LOGITS if isinstance(method, Method) else OUTPUT
        self._labels = ClassLabels(distiller, outputs)
        self._outputs = outputs

    def validate(self, teacher: keras.Model | None, student: keras.Model) -> None:
        """Lets a loss of `keras.distillation` check the models, after our own clearer messages.

        Layers that it names are known by then: Keras looks for them only outside nested models.
        """
        if not isinstance(self.method, Method) and not self.layers[0]:
            self.method.validate_model_compatibility(teacher, student)

    @property
    def is_built(self) -> bool:
        """Whether all weights of the method are there."""
        return not isinstance(self.method, TrainableMethod) or self.method.built

    def build(self, teacher: Features | None, student: Features) -> None:
        """See `Term.build`."""
        if isinstance(self.method, TrainableMethod):
            shapes = (
                keras.tree.map_structure(lambda feature: tuple(feature.shape), compared)
                for compared in self._compared(teacher, student)
            )
            self.method.build_from_shapes(*shapes)

    def values(self, batch: Batch, teacher: Features | None, student: Features) -> tf.Tensor:
        """See `Term.values`; a scalar for losses of `keras.distillation`, without weights."""
        compared = self._compared(teacher, student)
        try:
            if isinstance(self.method, Method):
                labels = self._class_numbers(batch, student)
                return self.method.values(compared[0], compared[1], labels)
            # Squares of half-precision features overflow.
            mean = self.method.compute_loss(*keras.tree.map_structure(_as_float, compared))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(self._cannot_compare(compared, error)) from error
        return tf.cast(mean, tf.float32) * self._num_replicas_divided_by()

    def weights_of(self, points: Points) -> Any:
        """See `Term.weights_of`: those of the compared output, unless layers are compared."""
        return points.weights if self.layers[0] else self._outputs.of_only(points.weights)

    def _class_numbers(self, batch, student):
        """Labels for methods that use them: of examples, or of the outputs that they compare."""
        if not self.method.uses_labels:
            return None
        numbers = self._labels.at(self.at, batch, student[LOGITS])
        if numbers is None:
            return None
        if self.layers[0]:
            return numbers if numbers.shape.rank in (None, 1) else None
        wanted = student[LOGITS].shape[:-1]
        if not numbers.shape.is_compatible_with(wanted):
            raise ValueError(
                "`y` must have a class for each example or position of the outputs, shape "
                f"{tuple(wanted)}. Received: classes of shape {tuple(numbers.shape)}"
            )
        return numbers

    def _compared(self, teacher, student):
        """What the method takes: of the teacher, and of the student."""
        return [
            self._of_one_model(features, names)
            for features, names in zip((teacher, student), self.layers, strict=True)
        ]

    def _of_one_model(self, features, names):
        if self.num_projections:
            return features[INPUT_GRADIENT][:, : self.num_projections]
        found = [features[name] for name in names or (self._output,)]
        return found[0] if len(found) == 1 else found

    def _cannot_compare(self, compared, error):
        def of(features, layers):
            shapes = [tuple(feature.shape) for feature in keras.tree.flatten(features)]
            named = ", ".join(map(repr, layers)) or "output"
            return f"{named} of shape {', '.join(map(str, shapes))}"

        teacher, student = map(of, compared, self.layers)
        return (
            f"`{_METHODS}`: {type(self.method).__name__} cannot compare "
            f"the teacher's {teacher} with the student's {student}: {error}"
        )

    def _num_replicas_divided_by(self):
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


def _as_float(tensor):
    return tf.cast(tensor, tf.float32)


def method_terms(
    methods: DistillationLosses,
    weights: float | Sequence[float] | None,
    at: Where | Sequence[Where],
    teacher: keras.Model | None,
    distiller: Any,
    outputs: Outputs,
    features: FeatureFunction | None,
) -> list[MethodTerm]:
    """Makes terms of methods, which find their layers if they have to.

    Args:
        methods: A `keras.distillation.DistillationLoss`, its name or its config, or several.
        weights: A weight not below 0 for each; `None` for the weights of the methods' papers, and
            1 for the losses of `keras.distillation`.
        at: `"data"`, `"region"` or `"both"`, for all or for each.
        teacher: Keras model, or `None` where data carry its outputs.
        distiller: The compiled model, of a `student`.
        outputs: Finds what belongs to the compared outputs.
        features: As the argument of `L2RKDDistiller`.

    Returns:
        A list of `MethodTerm`.

    Raises:
        ValueError: If an argument is wrong, or a method finds no layers.
    """
    given = methods if isinstance(methods, (list, tuple)) else [methods]
    methods = [get(method) for method in given]
    if weights is None:
        weights = [m.default_weight if isinstance(m, Method) else 1.0 for m in methods]
    each = _one_each(_WEIGHTS, weights, methods)
    if not all(map(is_weight, each)):
        raise ValueError(
            f"`{_WEIGHTS}` must be finite numbers not below 0. Received: {_WEIGHTS}={each!r}"
        )
    for where in at if isinstance(at, (list, tuple)) else [at]:
        check_choice(_AT, where, _POINTS)
    places: list[Any] = _one_each(_AT, [at] * len(methods) if isinstance(at, str) else at, methods)
    layers = [_layers(method, teacher, distiller.student, features) for method in methods]
    settings = zip(methods, _names(methods), map(float, each), places, layers, strict=True)
    return [MethodTerm(*one, distiller, outputs) for one in settings]


def check_outputs_of_methods(terms: Sequence[MethodTerm], num_outputs: int) -> None:
    """Checks that methods which compare outputs know which one.

    Raises:
        ValueError: If there are several.
    """
    methods = [term.method for term in terms if not term.layers[0]]
    names = [type(method).__name__ for method in methods if isinstance(method, Method)]
    if num_outputs > 1 and names:
        raise ValueError(
            f"`{_METHODS}`: {names} compare one output of each model. Received: models with "
            f"{num_outputs} compared outputs. Leave the others out by divergence={{'name': 'kl'}}, "
            "or use methods that compare layers."
        )


def check_points_of_methods(terms: Sequence[MethodTerm], region_targets: RegionTargets) -> None:
    """Checks that methods compare where the teacher is run.

    Raises:
        ValueError: If one compares at region points, and their targets are interpolated.
    """
    at = [term.at for term in terms]
    if region_targets == "interpolated" and set(at) - {"data"}:
        raise ValueError(
            f"`{_AT}` must be 'data' with region_targets='interpolated', which does not run the "
            f"teacher at region points. Received: {at}. Use region_targets='teacher'."
        )


def check_layers_of_methods(terms: Sequence[Term], *cuts: CutModel | None) -> None:
    """Checks that methods compare at region points what there is after a layer.

    Args:
        terms: The methods.
        *cuts: The teacher and the student as cut after a layer, or `None`.

    Raises:
        ValueError: If one compares gradients with respect to inputs, or a feature before the cut.
    """
    for term in terms:
        if term.num_projections:
            raise ValueError(
                f"`{_METHODS}` must not compare gradients with respect to the inputs with "
                f"region_at, since its region points have no inputs. Received: {term.name}. Leave "
                "out one of them."
            )
        for layers, cut in zip(term.layers, cuts, strict=True):
            early = [name for name in layers if cut is not None and name in cut.before]
            if early and cut is not None and term.at != "data":
                raise ValueError(
                    f"`{_METHODS}` must compare layers after region_at at region points. "
                    f"Received: {term.name} at {term.at!r}, which compares {early}, while regions "
                    f"begin after {cut.path!r}. Use {_AT}='data'."
                )


def _layers(method, teacher, student, features):
    _check_compares_outputs(method, teacher, features)
    if isinstance(method, (FeatureMethod, LayersMethod)) and features is not None:
        method.use_given_layers()
        return tuple(method.teacher_layers), tuple(method.student_layers)
    if isinstance(method, Method):
        method.validate_model_compatibility(teacher, student)
        return tuple(method.teacher_layers), tuple(method.student_layers)
    # Layer names are optional attributes of Keras's distillation losses.
    names = (getattr(method, f"{model}_layer_name", None) for model in ("teacher", "student"))
    return tuple((name,) if name else () for name in names)


def _check_compares_outputs(method, teacher, features):
    """Checks that a method compares no more than outputs, where a teacher has nothing else."""
    gradients = isinstance(method, Method) and method.num_projections
    inner = isinstance(method, (FeatureMethod, LayersMethod)) or getattr(
        method, "teacher_layer_name", None
    )
    of_layers = inner and (features is None or teacher is None)
    kind = kind_without_layers(teacher, bool(gradients)) if gradients or of_layers else None
    if kind is not None:
        raise ValueError(
            f"`{_METHODS}` must compare the models' outputs where `teacher` is {kind}. Received: "
            f"{method!r}. Pass one Keras model, or use a method that compares outputs."
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
