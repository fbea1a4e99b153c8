"""The Keras model that trains a student in the local regions of its teacher."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import draw_batch, num_rows, plain_batch
from l2rkd_tf.distiller.finite_check import NonFiniteGuard
from l2rkd_tf.distiller.keras_fixes import Trainer
from l2rkd_tf.distiller.objective import attach
from l2rkd_tf.features import INPUT_GRADIENT, OUTPUT, feature_model
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.methods import Method, TrainableMethod
from l2rkd_tf.methods.jacobian import draw_directions, projected_gradients
from l2rkd_tf.regions import Region, default_region
from l2rkd_tf.teacher_cache.inputs import split_inputs, unpack_batch
from l2rkd_tf.teacher_cache.origin import check_origin
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.types import (
    Config,
    DistillationLosses,
    Divergence,
    FeatureFunction,
    Logs,
    PathLike,
    RegionTargets,
    Tensors,
    Where,
)
from l2rkd_tf.utils.validation import (
    check_choice,
    check_flag,
    check_loss,
    check_models,
    check_number_of_outputs,
    check_number_of_points,
    check_outputs,
    check_shares_nothing_trained,
    checked_seed,
    is_positive_float32,
    is_weight,
)

__all__ = ["L2RKDDistiller"]

_REGION_TARGETS = ("teacher", "interpolated")
_TEACHER_FILE = "teacher.weights.h5"
# Sets the draw of directions apart from those of the region, which count from 0.
_DIRECTIONS = 2**30


class _Untracked:
    """Keeps an object out of a Keras model's layers, weights and checkpoints.

    Keras finds whatever it can reach through attributes, properties and `__dict__`.
    """

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def _adjustable(name: str, meaning: str, may_be_zero: bool = True) -> Any:
    """A property for a number that callbacks may change between epochs without a new trace."""

    def get(self: "L2RKDDistiller") -> float:
        return self._numbers[name]

    def set_(self: "L2RKDDistiller", value: float) -> None:
        self._set_number(name, value, may_be_zero)

    return property(get, set_, doc=meaning)


def _fixed(name: str) -> Any:
    """A read-only property for a setting that a traced step has taken in."""

    def get(self: "L2RKDDistiller") -> Any:
        return self._settings[name]

    return property(get, doc=f"See the argument `{name}`; fixed.")


@keras.saving.register_keras_serializable("l2rkd_tf")
class L2RKDDistiller(Trainer):
    """Distils a teacher into a student at the training points and in the regions around them.

    The student minimises, over the examples `(x, y)` of the global batch with weights `w`,

    ```
    hard_weight   * w * compiled_loss(y, f_S(x))
    + kd_weight     * w * tau^2 * KL(p(f_T(x);  tau) || p(f_S(x);  tau))
    + region_weight * w * tau^2 * KL(p(f_T(x'); tau) || p(f_S(x'); tau))
    + weights of `distillation_losses` + the student's own regularization
    ```

    with `p(z; tau) = softmax(z / tau)` and `x'` drawn from the region of `x` anew in every step.
    Each term is a mean over its own points, with the example weights multiplied in, as Keras
    reduces losses. Training and region points pass through the student together, so BatchNorm
    statistics move once a step.

    Use it as any Keras model: `compile(optimizer, loss, metrics, ...)`, `fit`, `evaluate`,
    `predict`. Training logs `loss`, `hard_loss`, `kd_loss`, `region_loss`, one entry for each of
    `distillation_losses` and the compiled metrics (at the training points). `loss` is the weighted
    sum of the others plus regularization; a term whose weight is 0 is not computed and logs 0.
    `evaluate` judges the student alone: `loss` is the hard loss plus regularization (without
    labels or compiled loss, regularization alone).

    `temperature`, `hard_weight`, `kd_weight`, `region_weight` and `region.radius` may be set
    between epochs, by a callback for instance; nothing is traced again unless a weight becomes
    zero or stops being zero, which changes what a step computes. `region` may be replaced; all
    other settings are fixed.

    Args:
        teacher: Trained Keras model that gives logits of shape `(batch, classes)`. It runs in
            inference mode, is not changed, and is not part of weight checkpoints. It is not asked
            for what the data carry (`l2rkd_tf.teacher_cache`), and may be `None` where they
            carry all that is needed.
        student: Keras model with outputs of the same shape. `distiller.student` is the trained
            model.
        region: A `l2rkd_tf.regions.Region`. `None` means `Patch(grid=4)` for images (rank 4) and
            `Segment()` for other inputs.
        region_targets: `"teacher"` asks the teacher at `x'`. `"interpolated"` applies the
            region's linear map to the teacher's outputs at the training points instead: exact
            where the teacher is linear, and without a teacher pass.
        temperature: `tau`, positive. Without effect for `divergence="mse"`.
        hard_weight: Weight of the compiled loss, not negative. With 0, labels may be absent.
        kd_weight: Weight of plain distillation at the training points, not negative.
        region_weight: Weight of distillation at the region points, not negative.
        num_region_points: Region points drawn beside each example in every step; a step costs
            about `1 + num_region_points` steps of plain distillation.
        replace_fraction: If given, between 0 and 1: this fraction of every batch moves from its
            training point into its region, and a step costs what plain distillation costs. The
            objective stays the same: its terms are estimated from fewer points each.
        divergence: `"kl"` for classes, `"binary_kl"` for independent yes/no outputs, `"mse"` for
            regression on raw outputs.
        from_logits: Whether both models give logits; `False` for probabilities (a softmax or,
            for `"binary_kl"`, a sigmoid). Prefer logits: Keras clips probabilities at 1e-7 in the
            compiled loss, so that a confidently wrong student gets no gradient from its labels.
        distillation_losses: One or several of `l2rkd_tf.methods`, or other
            `keras.distillation.DistillationLoss` objects. All features they compare are read in
            the one forward pass. What they train themselves (a projector, say) is trained and
            saved with the distiller and is no part of the student. Losses of
            `keras.distillation` are means over a batch, without example weights.
        distillation_loss_weights: A non-negative weight for each of them; `None` for the weights
            of the methods' papers (`default_weight`), and 1 for losses of `keras.distillation`.
        distillation_losses_at: Where they compare: at the training points (`"data"`), at
            `"region"` points or at all points of the batch together (`"both"`); one for all, or a
            list with one for each.
        features: Features of subclassed models, whose layers are not connected in a graph: a
            callable `(model, inputs, training) -> (outputs, {name: feature, ...})`.
        check_finite: Whether training ends with a `FloatingPointError` that names term and step
            when inputs, teacher outputs or a loss are not finite, instead of going on.
        seed: Integer seed of all draws, which are keyed by seed, step and replica. `None` draws
            one (from Python's generator, which `keras.utils.set_random_seed` seeds).
        name: Name of the model.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If an argument is wrong, or the models do not fit together.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = L2RKDDistiller(teacher, student, seed=0)
        >>> distiller.compile(
        ...     "sgd",
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ... )
        >>> x, y = np.random.normal(size=(8, 4)), np.arange(8) % 3
        >>> history = distiller.fit(x, y, verbose=0)
        >>> sorted(history.history)
        ['accuracy', 'hard_loss', 'kd_loss', 'loss', 'region_loss']

    Source: Deng and Zhang, Locally Linear Region Knowledge Distillation (arXiv:2010.04812). The
    definition of a region is this library's own: see `l2rkd_tf.regions`.
    """

    temperature = _adjustable("temperature", "Temperature `tau`, positive.", may_be_zero=False)
    hard_weight = _adjustable("hard_weight", "Weight of the compiled loss.")
    kd_weight = _adjustable("kd_weight", "Weight of distillation at the training points.")
    region_weight = _adjustable("region_weight", "Weight of distillation in the regions.")

    region_targets = _fixed("region_targets")
    num_region_points = _fixed("num_region_points")
    replace_fraction = _fixed("replace_fraction")
    divergence = _fixed("divergence")
    from_logits = _fixed("from_logits")
    check_finite = _fixed("check_finite")
    seed = _fixed("seed")

    def __init__(
        self,
        teacher: keras.Model | None,
        student: keras.Model,
        *,
        region: Region | None = None,
        region_targets: RegionTargets = "teacher",
        temperature: float = 4.0,
        hard_weight: float = 0.1,
        kd_weight: float = 0.9,
        region_weight: float = 0.9,
        num_region_points: int = 1,
        replace_fraction: float | None = None,
        divergence: Divergence = "kl",
        from_logits: bool = True,
        distillation_losses: DistillationLosses = (),
        distillation_loss_weights: float | Sequence[float] | None = None,
        distillation_losses_at: Where | Sequence[Where] = "data",
        features: FeatureFunction | None = None,
        check_finite: bool = True,
        seed: int | None = None,
        name: str = "l2rkd_distiller",
        **kwargs: Any,
    ) -> None:
        check_models(teacher, student)
        # Keras scales the loss by the policy of the model that is compiled. The student casts its
        # inputs itself; a cast here would round them to half precision.
        kwargs = {"dtype": student.dtype_policy, "autocast": False} | kwargs
        super().__init__(name=name, **kwargs)
        check_choice("region_targets", region_targets, _REGION_TARGETS)
        check_choice("divergence", divergence, tuple(DIVERGENCES))
        check_outputs(teacher, student, divergence, from_logits)
        check_number_of_points(num_region_points, replace_fraction)
        check_flag("check_finite", check_finite)
        self._numbers: dict[str, float] = {}
        self._number_variables: dict[str, tf.Variable] = {}
        self._set_number("temperature", temperature, may_be_zero=False)
        self._set_number("hard_weight", hard_weight)
        self._set_number("kd_weight", kd_weight)
        self._set_number("region_weight", region_weight)
        self._settings = {
            "region_targets": region_targets,
            "num_region_points": int(num_region_points),
            "replace_fraction": replace_fraction,
            "divergence": divergence,
            "from_logits": from_logits,
            "check_finite": check_finite,
            "seed": checked_seed(seed),
        }
        self._teacher = _Untracked(teacher)
        self.student = student
        self._set_methods(
            distillation_losses, distillation_loss_weights, distillation_losses_at, features
        )
        self._region: Region | None = None
        if region is None and getattr(student, "inputs", None):
            region = default_region(student.inputs)
        if region is not None:
            self.region = region
        self.supports_jit = teacher is None or teacher.supports_jit
        self._input_dtypes = None
        self.built = student.built and all(
            method.built
            for method in self.distillation_losses
            if isinstance(method, TrainableMethod)
        )

    def get_teacher(self) -> keras.Model | None:
        """The teacher, or `None`; a method: Keras saves what an attribute or property gives."""
        return self._teacher.value

    @property
    def region(self) -> Region | None:
        """The region; setting another one takes effect at the next step, which is traced anew."""
        return self._region

    @region.setter
    def region(self, region: Region) -> None:
        if not isinstance(region, Region):
            raise ValueError(
                "`region` must be a l2rkd_tf.regions.Region, such as regions.Segment(). "
                f"Received: region={region!r}"
            )
        if self.region_targets == "interpolated" and not region.interpolates_targets:
            raise ValueError(
                "`region_targets='interpolated'` needs a region with a linear map of logits, such "
                f"as regions.Segment(). Received: region={region!r}. Use region_targets='teacher'."
            )
        self._region = region
        self._trace_again()

    def _set_number(self, name, value, may_be_zero=True):
        if not (is_weight(value) if may_be_zero else is_positive_float32(value)):
            bound = "not below 0" if may_be_zero else "above 0"
            raise ValueError(
                f"`{name}` must be a finite number {bound}. Received: {name}={value!r}"
            )
        previous = self._numbers.get(name, value)
        self._numbers[name] = float(value)
        if name in self._number_variables:
            self._number_variables[name].assign(value)
        else:
            self._number_variables[name] = tf.Variable(
                value, dtype=tf.float32, trainable=False, name=name
            )
        if (previous > 0) != (value > 0):
            self._trace_again()

    def _trace_again(self):
        if self.train_function is not None:
            self.make_train_function(force=True)

    def _set_methods(self, methods, weights, at, features):
        models = self.get_teacher(), self.student
        attached = attach(methods, weights, at, *models)
        if self.region_targets == "interpolated" and any(m.at != "data" for m in attached):
            raise ValueError(
                "`distillation_losses_at` must be 'data' with region_targets='interpolated', which "
                f"does not ask the teacher at region points. Received: {at!r}. Use "
                "region_targets='teacher'."
            )
        # An attribute of its own: Keras finds and saves what methods train themselves.
        self.distillation_losses = [method.method for method in attached]
        self._methods = _Untracked(attached)
        self._active_methods = _Untracked([method for method in attached if method.weight > 0])
        self._features = _Untracked(features)
        self._teacher_features, self._student_features = (
            _Untracked(
                model and feature_model(model, {n for m in attached for n in m.layers[i]}, features)
            )
            for i, model in enumerate(models)
        )
        for method in self.distillation_losses:
            if not isinstance(method, Method):
                method.validate_model_compatibility(*models)
        names = ["hard_loss", "kd_loss", "region_loss", *(method.name for method in attached)]
        self._term_trackers = {name: keras.metrics.Mean(name=name) for name in names}
        if self.check_finite:
            terms = {name: f"`{name}`" for name in (*names, "loss")}
            self.non_finite_guard = NonFiniteGuard(
                {"x": "the inputs `x`", "teacher": "the teacher's outputs"} | terms
            )

    @property
    def distillation_loss_weights(self) -> tuple[float, ...]:
        """Weights of `distillation_losses`."""
        return tuple(method.weight for method in self._methods.value)

    @property
    def distillation_losses_at(self) -> tuple[Where, ...]:
        """Where each of `distillation_losses` compares: `"data"`, `"region"` or `"both"`."""
        return tuple(method.at for method in self._methods.value)

    @property
    def distillation_loss_layers(self) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """`{name in the logs: (layers of the teacher, layers of the student)}`, given or found."""
        return {method.name: method.layers for method in self._methods.value}

    # Training.

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; what data carry of a teacher must fit to this distiller."""
        check_origin(x, self.get_teacher(), self.divergence, self.from_logits)
        return super().fit(x, *args, **kwargs)

    def train_step(self, data: Any) -> Logs:
        """Draws region points, asks the teacher, updates the student; returns the logs."""
        x, cached, y, sample_weight = unpack_batch(data)
        self._check_step(x, y, cached)
        if not self.built:
            self._note_dtypes(x)
            self.build(keras.tree.map_structure(lambda tensor: tuple(tensor.shape), x))
        step = tf.convert_to_tensor(_batch_number(self.optimizer))  # as it is before the update
        batch = self._draw_batch(x, y, sample_weight, step)
        teacher, region_targets = self._ask_teacher(batch, cached)
        with tf.GradientTape() as tape:
            student = self._pass(self._student_features, batch.both, training=True)
            # Read before replicas meet in a reduction, where another one may run its student.
            regularization = self._regularization(batch.whole.count)
            student = batch.split(student)
            terms = self._terms(batch, teacher, region_targets, student)
            loss = keras.ops.sum([*self._weighted(terms), *regularization])
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self._variables_to_train()
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._track({"loss": loss, **terms}, batch.whole.count)
        data = batch.data
        logs = self.compute_metrics(data.inputs, data.labels, student["data"][OUTPUT], data.weights)
        if self.non_finite_guard is not None:
            outputs = [features[OUTPUT] for features in (teacher or {}).values()]
            values = {"x": x, "teacher": outputs, **terms, "loss": loss}
            logs |= self.non_finite_guard.note(step, values)
        return logs

    def _draw_batch(self, x, y, sample_weight, step):
        """The batch with its region points, where any term asks for some."""
        seed = distribution.step_seed(self.seed, step)
        directions = self._draw_directions(x, seed)
        if not self._asks_at("region"):
            return plain_batch(x, y, sample_weight, directions)
        return draw_batch(
            self.region,
            x,
            y,
            sample_weight,
            directions,
            seed=seed,
            num_points=self.num_region_points,
            replace_fraction=self.replace_fraction,
            whole_numbers=_takes_integers(self.get_teacher()) or _takes_integers(self.student),
        )

    def _asks_at(self, where):
        """Whether any active term compares the models at `"data"` or at `"region"` points."""
        weight = self.kd_weight if where == "data" else self.region_weight
        return weight > 0 or any(m.at in (where, "both") for m in self._active_methods.value)

    def _draw_directions(self, x, seed):
        """What the models' outputs are projected on before they are differentiated, if needed."""
        num_projections = max((m.num_projections for m in self._active_methods.value), default=0)
        if not num_projections:
            return None
        symbolic = keras.tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype.name), x)
        num_outputs = self.get_teacher().compute_output_spec(symbolic).shape[-1]
        seed = tf.random.fold_in(seed, _DIRECTIONS, alg="philox")
        return draw_directions(num_rows(x), num_projections, num_outputs, seed)

    def _pass(self, features, points, training):
        """One pass of points through a model: its features, by name."""
        features = features.value
        if points.directions is None:
            found = features(points.inputs, training=training)
        else:
            found, gradients = projected_gradients(
                features, points.inputs, points.directions, training=training
            )
            found |= {INPUT_GRADIENT: gradients}
        if keras.tree.is_nested(found[OUTPUT]):
            raise ValueError(
                "`teacher` and `student` must have one output each, of shape (batch, outputs). "
                "Received: outputs "
                f"{keras.tree.map_structure(lambda output: output.shape, found[OUTPUT])}"
            )
        return found

    def _ask_teacher(self, batch, cached):
        """The teacher's features, as `batch.split` gives them, and the targets at region points.

        In one pass, and none where no active term needs it, or where the data carry the outputs.
        """

        def ask(points):
            return self._pass(self._teacher_features, points, training=False)

        at_data, at_region = self._asks_at("data"), self._asks_at("region")
        known = None if cached is None or self._compares_inner_features() else {OUTPUT: cached}
        if not at_region:
            return (batch.split(known or ask(batch.data)) if at_data else None), None
        if self.region_targets == "interpolated":
            features = known or ask(batch.whole)
            targets = batch.drawn.targets(self._logits(features))
            return {"data": batch.at_training_points(features)}, targets
        if not at_data:
            features = {"region": ask(batch.region)}
        elif known:
            features = {"data": batch.at_training_points(known), "region": ask(batch.region)}
        else:
            features = batch.split(ask(batch.both))
        return features, self._logits(features["region"])

    def _compares_inner_features(self):
        """Whether a term compares more at training points than the models' outputs."""
        return any(
            m.at != "region" and (m.layers[0] or m.num_projections or m.at == "both")
            for m in self._active_methods.value
        )

    def _logits(self, features):
        outputs = features[OUTPUT]
        if self.from_logits:
            return tf.cast(outputs, tf.float32)
        return logits_from_probabilities(outputs, self.divergence)

    def _terms(self, batch, teacher, region_targets, student):
        """The active terms of the loss by name, each this replica's part of a global mean."""
        terms = {}
        if self.hard_weight > 0:
            terms["hard_loss"] = self._hard_loss(
                batch.data.labels, student["data"][OUTPUT], batch.data.weights, batch.data.count
            )
        if self.kd_weight > 0:
            targets = self._logits(teacher["data"])
            terms["kd_loss"] = self._divergence(targets, student["data"], batch.data)
        if self.region_weight > 0:
            terms["region_loss"] = self._divergence(region_targets, student["region"], batch.region)
        for method in self._active_methods.value:
            points = batch.at(method.at)
            terms[method.name] = method.part(
                self._outputs_as_logits(method, teacher[method.at]),
                self._outputs_as_logits(method, student[method.at]),
                batch.class_numbers(method.at) if method.uses_labels else None,
                points.weights,
                points.count,
            )
        return terms

    def _outputs_as_logits(self, method, features):
        """Features with logits for output; methods of others take what the models give."""
        if self.from_logits or not isinstance(method.method, Method):
            return features
        return features | {OUTPUT: self._logits(features)}

    def _divergence(self, targets, features, points):
        """This replica's part of the mean divergence of the student's logits from the targets."""
        logits = self._logits(features)
        check_number_of_outputs("teacher", targets.shape, self.divergence)
        if not targets.shape.is_compatible_with(logits.shape):
            raise ValueError(
                "`teacher` and `student` must have the same number of outputs. Received: teacher "
                f"outputs of shape {targets.shape}, student outputs of shape {logits.shape}"
            )
        values = DIVERGENCES[self.divergence](
            targets, logits, self._number_variables["temperature"]
        )
        return distribution.replica_share_of_weighted_mean(values, points.count, points.weights)

    def _hard_loss(self, y, predictions, sample_weight, count):
        """This replica's part of the compiled loss, without regularization.

        Keras has no public name for the compiled loss alone: `compute_loss` adds regularization.
        It divides by the number of replicas; the part goes by the share of the examples.
        """
        loss = self._compile_loss(y, predictions, sample_weight) * distribution.num_replicas()
        return distribution.replica_share_of_mean(loss, count)

    def _weighted(self, terms):
        """The terms times their weights, a list."""
        weights = {
            "hard_loss": self._number_variables["hard_weight"],
            "kd_loss": self._number_variables["kd_weight"],
            "region_loss": self._number_variables["region_weight"],
            **{method.name: method.weight for method in self._methods.value},
        }
        return [weights[name] * term for name, term in terms.items()]

    def _regularization(self, count):
        """The student's `add_loss`, weight and activity regularization: this replica's part."""
        return [
            distribution.replica_share_of_mean(tf.reduce_sum(tf.cast(loss, tf.float32)), count)
            for loss in self.student.losses
        ]

    def _track(self, terms, count):
        """Updates the running means over the epoch, each batch with its number of examples."""
        # Keras has no public name for the tracker of the total loss.
        trackers = {"loss": self._loss_tracker, **self._term_trackers}
        for name, term in terms.items():
            trackers[name].update_state(
                distribution.local_mean(term, count), sample_weight=count.local
            )

    # Evaluation and metrics.

    def test_step(self, data: Any) -> Logs:
        """Evaluates the student alone, without asking the teacher; returns the logs."""
        x, _, y, sample_weight = unpack_batch(data)
        self._check_labels(y)
        (count,) = distribution.global_counts(num_rows(x))
        predictions = self.student(x, training=False)
        regularization = self._regularization(count)
        terms = {}
        if self.loss is not None and y is not None:
            terms["hard_loss"] = self._hard_loss(y, predictions, sample_weight, count)
        loss = keras.ops.sum([*terms.values(), *regularization])
        self._track({"loss": loss, **terms}, count)
        logs = self.compute_metrics(x, y, predictions, sample_weight)
        of_training = set(self._term_trackers) - set(terms)
        return {name: value for name, value in logs.items() if name not in of_training}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The compiled loss plus regularization, as in Keras; 0 without labels, if not needed."""
        if y is None:
            self._check_labels(y)
            return tf.zeros(())
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Logs:
        """Updates the compiled metrics, where there are labels, and returns all results."""
        if y is None:
            return self._results_without_labels()
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self) -> Logs:
        """Results of all metrics by name; without the compiled ones before they saw labels."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return super().get_metrics_result()
        return self._results_without_labels()

    def _results_without_labels(self):
        return {m.name: m.result() for m in self.metrics if m is not self._compile_metrics}

    # Checks of a step, made while it is traced: before any training.

    def _check_step(self, x, y, cached):
        self._check_teacher(cached)
        if (
            self.hard_weight + self.kd_weight + self.region_weight == 0
            and not self._active_methods.value
        ):
            raise ValueError(
                "`hard_weight`, `kd_weight` and `region_weight` must not all be 0: there is "
                "nothing to learn. Received: 0 for each. Set one of them above 0."
            )
        if self.hard_weight > 0 and self.loss is None:
            raise ValueError(
                f"`loss` must be given in compile(), since hard_weight={self.hard_weight:g}. "
                "Received: loss=None. Pass a Keras loss, or set hard_weight=0."
            )
        self._check_labels(y)
        if self.hard_weight > 0:
            check_loss(self.loss, self.divergence, self.from_logits)
        if self._region is None:
            self._region = default_region(x)

    def _check_teacher(self, cached):
        if self.get_teacher() is not None:
            return
        at_region = self._asks_at("region")
        if at_region and self.region_targets == "teacher":
            raise ValueError(
                "`teacher` must be given for region_targets='teacher', which asks it at points "
                "that nobody knows beforehand. Received: teacher=None. Use "
                "region_targets='interpolated', or region_weight=0."
            )
        if cached is None and (at_region or self._asks_at("data")):
            raise ValueError(
                "`teacher` must be given, or else the data must carry its outputs. Received: "
                "teacher=None and inputs that are no CachedInputs. Train on "
                "l2rkd_tf.teacher_cache.cache_teacher(dataset, teacher)."
            )

    def _variables_to_train(self):
        if not self.trainable_weights:  # known after the call that builds the student
            raise ValueError(
                "`student` must have trainable weights. Received: a student with none; set "
                "`student.trainable = True`."
            )
        return self.trainable_weights

    def _check_labels(self, y):
        if y is None and self.hard_weight > 0:
            raise ValueError(
                f"`y` (labels) must be given, since hard_weight={self.hard_weight:g}. "
                "Received: y=None. Train on (inputs, labels), or set hard_weight=0."
            )

    # The model as a Keras object.

    def build(self, input_shape: Any) -> None:
        """Makes the weights of a student, and those of methods, that no graph of layers tells.

        The first step does it. To load weights before that, call it first.

        Args:
            input_shape: Shape of a batch of inputs, such as `(None, 28, 28, 1)`, or a structure of
                such. Inputs are taken to be float32, if the distiller has not met any.
        """
        models = self._teacher_features.value, self._student_features.value

        def features(inputs):
            self.student(inputs, training=False)  # lets Keras note that it is built, and how
            return [model and model(inputs, training=False) for model in models]

        inputs = keras.tree.map_shape_structure(tf.TensorSpec, input_shape)
        if self._input_dtypes is not None:
            inputs = keras.tree.map_structure(
                lambda spec, dtype: tf.TensorSpec(spec.shape, dtype), inputs, self._input_dtypes
            )
        with tf.init_scope():
            traced = tf.function(features).get_concrete_function(inputs).structured_outputs
        for method in self._methods.value:
            method.build_from_shapes(*traced)
        check_outputs(self.get_teacher(), self.student, self.divergence, self.from_logits)
        check_shares_nothing_trained(self.get_teacher(), self.student)

    def __call__(self, inputs: Tensors, *args: Any, **kwargs: Any) -> tf.Tensor:
        """The student's outputs; the first call makes weights, as `build` does."""
        inputs, _ = split_inputs(inputs)
        if not self.built:
            self._note_dtypes(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _note_dtypes(self, inputs):
        # Keras tells `build` shapes alone, and not every model takes floats.
        self._input_dtypes = keras.tree.map_structure(lambda tensor: tensor.dtype, inputs)

    def load_weights(self, filepath: PathLike, *args: Any, **kwargs: Any) -> None:
        """Loads weights, as `keras.Model.load_weights`, where there are weights to load into.

        Raises:
            ValueError: If the distiller is not built: Keras would leave out what is not there yet.
        """
        if not self.built:
            raise ValueError(
                "`load_weights` needs a student, and distillation_losses, whose weights are made. "
                "Received: one of them unbuilt. Call distiller.build(input_shape) first."
            )
        super().load_weights(filepath, *args, **kwargs)

    def call(self, inputs: Tensors, training: bool | None = None) -> tf.Tensor:
        """The student's outputs."""
        return self.student(inputs, training=training)

    def get_config(self) -> Config:
        """Arguments of the constructor, with both models' architectures."""
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "teacher": serialize(self.get_teacher()),
            "student": serialize(self.student),
            "region": None if self._region is None else serialize(self._region),
            **self._settings,
            **self._numbers,
            "distillation_losses": [serialize(method) for method in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "distillation_losses_at": list(self.distillation_losses_at),
            "features": serialize(self._features.value),
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: dict[str, Any] | None = None
    ) -> "L2RKDDistiller":
        """Makes a distiller from `get_config()`."""
        config = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            if name in ("teacher", "student", "region", "dtype", "distillation_losses", "features")
            else value
            for name, value in config.items()
        }
        return cls(**config)

    def save_assets(self, directory: str) -> None:
        """Stores the teacher's weights; Keras asks for it in whole-model files only."""
        teacher = self.get_teacher()
        if teacher is not None:
            teacher.save_weights(os.path.join(directory, _TEACHER_FILE))

    def load_assets(self, directory: str) -> None:
        """Restores the teacher's weights from a whole-model file."""
        teacher = self.get_teacher()
        if teacher is None:
            return
        teacher.load_weights(os.path.join(directory, _TEACHER_FILE))
        if self._region is not None:
            self._region.set_teacher(teacher)


def _batch_number(optimizer):
    """Number of batches seen; where gradients are accumulated, `iterations` counts updates."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.gradient_accumulation_steps:
        return optimizer.iterations
    return next(variable for variable in inner.variables if variable.name == "iteration")


def _takes_integers(model):
    """Whether a model's graph casts its inputs to integers, which rounds them down."""
    inputs = getattr(model, "inputs", None) or []
    return any(not tf.as_dtype(symbol.dtype).is_floating for symbol in inputs)
