"""The Keras model that trains a student in the local regions of its teacher."""

import itertools
import os
import re
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import replicas
from l2rkd_tf.checks import (
    check_choice,
    check_loss,
    check_models,
    check_number_of_outputs,
    check_number_of_points,
    check_outputs,
    check_shares_nothing_trained,
    checked_seed,
    is_number,
    is_positive_float32,
)
from l2rkd_tf.features import OUTPUT, feature_model
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.regions import Region, default_region
from l2rkd_tf.regions.points import RegionPoints, draw_points

__all__ = ["L2RKDDistiller"]

_REGION_TARGETS = ("teacher", "interpolated")
_TEACHER_FILE = "teacher.weights.h5"


class _Untracked:
    """Keeps an object out of a Keras model's layers, weights and checkpoints.

    Keras finds whatever it can reach through attributes, properties and `__dict__`.
    """

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def _adjustable(name, meaning, may_be_zero=True):
    """A property for a number that callbacks may change between epochs without a new trace."""

    def get(self):
        return self._numbers[name]

    def set_(self, value):
        self._set_number(name, value, may_be_zero)

    return property(get, set_, doc=meaning)


def _fixed(name):
    """A read-only property for a setting that a traced step has taken in."""
    return property(lambda self: self._settings[name], doc=f"See the argument `{name}`; fixed.")


class _Batch(NamedTuple):
    """A batch, split into training points (`data`) and region points (`region`).

    `region`, `points` and `region_weights` are `None` where no region term is wanted, and then
    `whole`, `data` and `joint` are one.
    """

    whole: Any
    data: Any
    region: Any
    joint: Any
    points: RegionPoints | None
    labels: Any
    weights: Any
    region_weights: Any
    num_examples: replicas.Count
    num_data: replicas.Count
    num_region: replicas.Count

    def at_data(self, features):
        """Features at the training points; untouched where there are no others.

        A slice of a softmax is no softmax to Keras, which then clips probabilities at 1e-7.
        """
        if self.points is None:
            return features
        return {name: feature[: self.num_data.local] for name, feature in features.items()}


@keras.saving.register_keras_serializable("l2rkd_tf")
class L2RKDDistiller(keras.Model):
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
            inference mode, is not changed, and is not part of weight checkpoints.
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
        distillation_losses: A `keras.distillation.DistillationLoss` or several, added at the
            training points. Layers they name are read in the same forward pass. Keras's are
            means over a batch, without example weights.
        distillation_loss_weights: A non-negative weight for each of them; `None` for 1 each.
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
    seed = _fixed("seed")

    def __init__(
        self,
        teacher,
        student,
        *,
        region=None,
        region_targets="teacher",
        temperature=4.0,
        hard_weight=0.1,
        kd_weight=0.9,
        region_weight=0.9,
        num_region_points=1,
        replace_fraction=None,
        divergence="kl",
        from_logits=True,
        distillation_losses=(),
        distillation_loss_weights=None,
        seed=None,
        name="l2rkd_distiller",
        **kwargs,
    ):
        check_models(teacher, student)
        # Keras scales the loss by the policy of the model that is compiled. The student casts its
        # inputs itself; a cast here would round them to half precision.
        kwargs = {"dtype": student.dtype_policy, "autocast": False} | kwargs
        super().__init__(name=name, **kwargs)
        check_choice("region_targets", region_targets, _REGION_TARGETS)
        check_choice("divergence", divergence, tuple(DIVERGENCES))
        check_outputs(teacher, student, divergence, from_logits)
        check_number_of_points(num_region_points, replace_fraction)
        self._numbers, self._number_variables = {}, {}
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
            "seed": checked_seed(seed),
        }
        self._teacher = _Untracked(teacher)
        self.student = student
        self._set_methods(distillation_losses, distillation_loss_weights)
        self._region = None
        if region is None and getattr(student, "inputs", None):
            region = default_region(student.inputs)
        if region is not None:
            self.region = region
        self.supports_jit = teacher.supports_jit
        self.built = student.built

    def get_teacher(self):
        """The teacher; a method, since Keras saves what an attribute or property gives."""
        return self._teacher.value

    @property
    def region(self):
        """The region; setting another one takes effect at the next step, which is traced anew."""
        return self._region

    @region.setter
    def region(self, region):
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
        if not is_positive_float32(value) and not (may_be_zero and is_number(value) and value == 0):
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

    def _set_methods(self, methods, weights):
        methods = list(methods) if isinstance(methods, (list, tuple)) else [methods]
        weights = [1.0] * len(methods) if weights is None else weights
        weights = list(weights) if isinstance(weights, (list, tuple)) else [weights]
        _check_methods(methods, weights)
        self.distillation_losses = methods
        self.distillation_loss_weights = tuple(float(weight) for weight in weights)
        # Layer names are optional attributes of Keras's distillation losses.
        self._method_layers = [
            (getattr(m, "teacher_layer_name", None), getattr(m, "student_layer_name", None))
            for m in methods
        ]
        teacher_layers = {teacher for teacher, _ in self._method_layers if teacher}
        student_layers = {student for _, student in self._method_layers if student}
        self._teacher_features = _Untracked(feature_model(self.get_teacher(), teacher_layers))
        self._student_features = _Untracked(feature_model(self.student, student_layers))
        for method in methods:
            method.validate_model_compatibility(self.get_teacher(), self.student)
        self._method_names = _method_names(methods)
        names = ["hard_loss", "kd_loss", "region_loss", *self._method_names]
        self._term_trackers = {name: keras.metrics.Mean(name=name) for name in names}

    # Training.

    def train_step(self, data):
        """Draws region points, asks the teacher, updates the student; returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._check_step(x, y)
        batch = self._draw_batch(x, y, sample_weight)
        teacher_features, region_targets = self._ask_teacher(batch)
        with tf.GradientTape() as tape:
            student_features = self._student_features.value(batch.joint, training=True)
            # Read before replicas meet in a reduction, where another one may run its student.
            regularization = self._regularization()
            self._check_built_student()
            terms = self._terms(batch, teacher_features, region_targets, student_features)
            loss = keras.ops.sum([*self._weighted(terms), *regularization])
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = self._variables_to_train()
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._track({"loss": loss, **terms}, batch.num_examples)
        predictions = batch.at_data(student_features)[OUTPUT]
        return self.compute_metrics(batch.data, batch.labels, predictions, batch.weights)

    def _draw_batch(self, x, y, sample_weight):
        if self.region_weight == 0:
            (count,) = replicas.global_counts(_num_rows(x))
            return _Batch(x, x, None, x, None, y, sample_weight, None, count, count, None)
        seed = replicas.step_seed(self.seed, _batch_number(self.optimizer))
        points = draw_points(
            self.region,
            x,
            seed,
            labels=y,
            num_points=self.num_region_points,
            replace_fraction=self.replace_fraction,
        )
        x = keras.tree.map_structure(tf.convert_to_tensor, x)
        whole = keras.tree.map_structure(_from_uint8, x)
        data, region = points.at_data(whole), points.at_region(whole)
        if _takes_integers(self.get_teacher()) or _takes_integers(self.student):
            region = keras.tree.map_structure(_to_grey_levels, x, region)
        return _Batch(
            whole=whole,
            data=data,
            region=region,
            joint=keras.tree.map_structure(lambda *parts: tf.concat(parts, 0), data, region),
            points=points,
            labels=_if_given(points.at_data, y),
            weights=_if_given(points.at_data, sample_weight),
            region_weights=_if_given(points.of_owner, sample_weight),
            **_counts(whole, data, region),
        )

    def _ask_teacher(self, batch):
        """The teacher's features at the training points and its logits at the region points.

        In one pass, and none where no active term needs it.
        """
        asks_data = self.kd_weight > 0 or bool(self.distillation_losses)
        teacher = self._teacher_features.value
        if batch.points is None:
            return (teacher(batch.data, training=False) if asks_data else None), None
        if self.region_targets == "interpolated":
            features = teacher(batch.whole, training=False)
            targets = batch.points.at_region(self._logits(features))
            return batch.points.at_data(features), targets
        if not asks_data:
            return None, self._logits(teacher(batch.region, training=False))
        features = teacher(batch.joint, training=False)
        targets = self._logits(features)[batch.num_data.local :]
        return batch.at_data(features), targets

    def _logits(self, features):
        outputs = features[OUTPUT]
        if keras.tree.is_nested(outputs):
            raise ValueError(
                "`teacher` and `student` must have one output each, of shape (batch, outputs). "
                f"Received: outputs {keras.tree.map_structure(lambda x: x.shape, outputs)}"
            )
        if self.from_logits:
            return tf.cast(outputs, tf.float32)
        return logits_from_probabilities(outputs, self.divergence)

    def _terms(self, batch, teacher_features, region_targets, student_features):
        """The active terms of the loss by name, each this replica's part of a global mean."""
        logits = self._logits(student_features)
        at_data = batch.at_data(student_features)
        terms = {}
        if self.hard_weight > 0:
            terms["hard_loss"] = self._hard_loss(
                batch.labels, at_data[OUTPUT], batch.weights, batch.num_data
            )
        if self.kd_weight > 0:
            targets = self._logits(teacher_features)
            values = self._divergence(targets, logits[: batch.num_data.local])
            terms["kd_loss"] = replicas.part_of_weighted_mean(values, batch.num_data, batch.weights)
        if batch.points is not None:
            values = self._divergence(region_targets, logits[batch.num_data.local :])
            terms["region_loss"] = replicas.part_of_weighted_mean(
                values, batch.num_region, batch.region_weights
            )
        for index, name in enumerate(self._method_names):
            value = self._method_loss(index, teacher_features, at_data)
            terms[name] = replicas.part_of_mean(value, batch.num_data)
        return terms

    def _divergence(self, targets, logits):
        """One value per example."""
        check_number_of_outputs("teacher", targets.shape, self.divergence)
        if not targets.shape.is_compatible_with(logits.shape):
            raise ValueError(
                "`teacher` and `student` must have the same number of outputs. Received: teacher "
                f"outputs of shape {targets.shape}, student outputs of shape {logits.shape}"
            )
        return DIVERGENCES[self.divergence](targets, logits, self._number_variables["temperature"])

    def _method_loss(self, index, teacher_features, student_features):
        """Mean loss of one of `distillation_losses` over this replica's training points."""
        teacher_layer, student_layer = (layer or OUTPUT for layer in self._method_layers[index])
        # Squares of half-precision features overflow.
        teacher = tf.cast(teacher_features[teacher_layer], tf.float32)
        student = tf.cast(student_features[student_layer], tf.float32)
        try:
            value = self.distillation_losses[index].compute_loss(teacher, student)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(
                f"`distillation_losses`: {type(self.distillation_losses[index]).__name__} cannot "
                f"compare the teacher's {teacher_layer or 'output'} of shape {teacher.shape} with "
                f"the student's {student_layer or 'output'} of shape {student.shape}: {error}"
            ) from error
        return tf.cast(value, tf.float32) * _divided_by(self.distillation_losses[index])

    def _hard_loss(self, y, predictions, sample_weight, count):
        """This replica's part of the compiled loss, without regularization.

        Keras has no public name for the compiled loss alone: `compute_loss` adds regularization.
        It divides by the number of replicas; the part goes by the share of the examples.
        """
        loss = self._compile_loss(y, predictions, sample_weight) * replicas.num_replicas()
        return replicas.part_of_mean(loss, count)

    def _weighted(self, terms):
        """The terms times their weights, a list."""
        weights = {
            "hard_loss": self._number_variables["hard_weight"],
            "kd_loss": self._number_variables["kd_weight"],
            "region_loss": self._number_variables["region_weight"],
            **dict(zip(self._method_names, self.distillation_loss_weights, strict=True)),
        }
        return [weights[name] * term for name, term in terms.items()]

    def _regularization(self):
        """The student's `add_loss`, weight and activity regularization: this replica's part."""
        return [
            tf.reduce_sum(tf.cast(loss, tf.float32)) / replicas.num_replicas()
            for loss in self.student.losses
        ]

    def _track(self, terms, count):
        """Updates the running means over the epoch, each batch with its number of examples."""
        # Keras has no public name for the tracker of the total loss.
        trackers = {"loss": self._loss_tracker, **self._term_trackers}
        for name, term in terms.items():
            trackers[name].update_state(replicas.local_mean(term, count), sample_weight=count.local)

    # Evaluation and metrics.

    def test_step(self, data):
        """Evaluates the student alone, without asking the teacher; returns the logs."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self._check_labels(y)
        predictions = self.student(x, training=False)
        regularization = self._regularization()
        (count,) = replicas.global_counts(_num_rows(x))
        terms = {}
        if self.loss is not None and y is not None:
            terms["hard_loss"] = self._hard_loss(y, predictions, sample_weight, count)
        loss = keras.ops.sum([*terms.values(), *regularization])
        self._track({"loss": loss, **terms}, count)
        logs = self.compute_metrics(x, y, predictions, sample_weight)
        of_training = set(self._term_trackers) - set(terms)
        return {name: value for name, value in logs.items() if name not in of_training}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss plus regularization, as in Keras; 0 without labels, if not needed."""
        if y is None:
            self._check_labels(y)
            return tf.zeros(())
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Updates the compiled metrics, where there are labels, and returns all results."""
        if y is None:
            return self._results_without_labels()
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        """Results of all metrics by name; without the compiled ones before they saw labels."""
        if self._compile_metrics is None or self._compile_metrics.built:
            return super().get_metrics_result()
        return self._results_without_labels()

    def _results_without_labels(self):
        return {m.name: m.result() for m in self.metrics if m is not self._compile_metrics}

    # Checks of a step, made while it is traced: before any training.

    def _check_step(self, x, y):
        if (
            self.hard_weight + self.kd_weight + self.region_weight == 0
            and not self.distillation_losses
        ):
            raise ValueError(
                "`hard_weight`, `kd_weight` and `region_weight` are all 0, so that there is "
                "nothing to learn. Set one of them above 0."
            )
        if self.hard_weight > 0 and self.loss is None:
            raise ValueError(
                "`loss` must be given in compile(), since "
                f"hard_weight={self.hard_weight:g}. Pass a Keras loss, or set hard_weight=0."
            )
        self._check_labels(y)
        if self.hard_weight > 0:
            check_loss(self.loss, self.divergence, self.from_logits)
        if self._region is None:
            self._region = default_region(x)

    def _check_built_student(self):
        """What `__init__` could not check of a student that the first step has just built."""
        if not self.built:
            check_outputs(self.get_teacher(), self.student, self.divergence, self.from_logits)
            check_shares_nothing_trained(self.get_teacher(), self.student)
        self.built = True

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

    def call(self, inputs, training=None):
        """The student's outputs."""
        return self.student(inputs, training=training)

    def get_config(self):
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
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes a distiller from `get_config()`."""
        config = {
            name: keras.saving.deserialize_keras_object(value, custom_objects)
            if name in ("teacher", "student", "region", "dtype", "distillation_losses")
            else value
            for name, value in config.items()
        }
        return cls(**config)

    def save_assets(self, directory):
        """Stores the teacher's weights; Keras asks for it in whole-model files only."""
        self.get_teacher().save_weights(os.path.join(directory, _TEACHER_FILE))

    def load_assets(self, directory):
        """Restores the teacher's weights from a whole-model file."""
        self.get_teacher().load_weights(os.path.join(directory, _TEACHER_FILE))


def _divided_by(method):
    """What a method divided its mean by: Keras's loss objects divide by the number of replicas."""
    functions = [f for f in keras.tree.flatten(getattr(method, "loss", None)) if f is not None]
    divide = {isinstance(function, keras.losses.Loss) for function in functions}
    if len(divide) > 1 and replicas.num_replicas() > 1:
        raise ValueError(
            "`distillation_losses` must hold either loss objects or names and functions, not both "
            f"in one method, on several replicas. Received: {functions} in {method!r}"
        )
    return replicas.num_replicas() if divide == {True} else 1


def _counts(whole, data, region):
    counts = replicas.global_counts(*map(_num_rows, (whole, data, region)))
    return dict(zip(("num_examples", "num_data", "num_region"), counts, strict=True))


def _num_rows(batch):
    return tf.shape(keras.tree.flatten(batch)[0])[0]


def _batch_number(optimizer):
    """Number of batches seen; where gradients are accumulated, `iterations` counts updates."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.gradient_accumulation_steps:
        return optimizer.iterations
    return next(variable for variable in inner.variables if variable.name == "iteration")


def _if_given(function, value):
    return None if value is None else function(value)


def _from_uint8(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.uint8 else tensor


def _to_grey_levels(image, point):
    """Region points of a uint8 image as whole grey levels."""
    return tf.round(point) if image.dtype == tf.uint8 else point


def _takes_integers(model):
    """Whether a model's graph casts its inputs to integers, which rounds them down."""
    inputs = getattr(model, "inputs", None) or []
    return any(not tf.as_dtype(symbol.dtype).is_floating for symbol in inputs)


def _method_names(methods):
    """Names of the methods in the logs: `FeatureDistillation` is `feature_distillation_loss`."""
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


def _check_methods(methods, weights):
    for method in methods:
        if not isinstance(method, keras.distillation.DistillationLoss):
            raise ValueError(
                "`distillation_losses` must be keras.distillation.DistillationLoss objects. "
                f"Received: {method!r}"
            )
    if len(weights) != len(methods):
        raise ValueError(
            "`distillation_loss_weights` must have one weight for each of the "
            f"{len(methods)} distillation_losses. Received: {weights!r}"
        )
    if not all(is_number(weight) and 0 <= weight < np.inf for weight in weights):
        raise ValueError(
            "`distillation_loss_weights` must be finite numbers not below 0. "
            f"Received: distillation_loss_weights={weights!r}"
        )
