"""A Keras model that stands for its student: called, evaluated, built and loaded as it."""

import os
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes, positions
from l2rkd_tf.distiller.batch import plain_batch
from l2rkd_tf.distiller.compile_checks import check_metrics, only_entry
from l2rkd_tf.distiller.forward import Forward
from l2rkd_tf.distiller.heads import Heads
from l2rkd_tf.distiller.objective import Losses, Objective
from l2rkd_tf.distiller.settings import Settings
from l2rkd_tf.distiller.teacher import Teacher
from l2rkd_tf.distiller.terms import HardLossTerm
from l2rkd_tf.features import OUTPUT
from l2rkd_tf.teacher_cache.inputs import split_inputs, unpack_batch
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.model_checks import check_shares_nothing_trained, input_symbols
from l2rkd_tf.utils.outputs import names_of_outputs, only_output
from l2rkd_tf.utils.types import Config, Features, Logs, PathLike, Tensors

__all__ = ["StudentModel"]


class StudentModel(keras_fixes.DistributedModel):
    """Base class of distillers: what Keras asks of a model, answered by the student.

    `evaluate` judges the student only: hard loss, regularization and metrics. It never runs the
    teacher and never moves any state.

    Args:
        student: The Keras model that is trained.
        **kwargs: Passed to `keras.Model`.
    """

    _settings: Settings
    _heads: Heads
    _objective: Objective
    _hard_loss: HardLossTerm
    _student_forward: Forward
    _teacher: Teacher
    _term_trackers: dict[str, keras.metrics.Mean]

    def __init__(self, student: keras.Model, **kwargs: Any) -> None:
        # Keras scales the loss by the policy of the model that is compiled. The student casts its
        # inputs itself; a cast here would round them to half precision.
        super().__init__(**{"dtype": student.dtype_policy, "autocast": False} | kwargs)
        self.student = student
        self._input_dtypes: tuple[str, ...] | None = None
        self._metrics_are_checked = False
        self._weights_of_step: tuple[str, ...] | None = None

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, in every form that Keras takes for the student's outputs.

        Args:
            optimizer: Name or object of an optimizer.
            loss: Name, function, class or object of a loss; a list or dict of such for several
                outputs, or of one.
            loss_weights: A number, or a list or dict of numbers.
            metrics: List of metrics, or a dict of lists by the names of outputs.
            weighted_metrics: The same for metrics that take example weights into account.
            **kwargs: As in Keras.

        Raises:
            ValueError: If loss or metrics are given for several outputs of a student of one, or
                `jit_compile=True` for a teacher that XLA cannot compile.
        """
        if kwargs.get("jit_compile") is True and not self.supports_jit:
            raise ValueError(
                "`jit_compile` must be 'auto' or False: XLA cannot compile the teacher. Received: "
                "jit_compile=True"
            )
        self._metrics_are_checked = False
        if self._has_several_outputs:
            super().compile(
                optimizer,
                loss,
                loss_weights,
                metrics=metrics,
                weighted_metrics=weighted_metrics,
                **kwargs,
            )
            return
        super().compile(
            optimizer,
            only_entry("loss", loss),
            only_entry("loss_weights", loss_weights),
            metrics=_of_only_output("metrics", metrics),
            weighted_metrics=_of_only_output("weighted_metrics", weighted_metrics),
            **kwargs,
        )

    @property
    def output_names(self) -> list[str] | None:
        """Names of the student's outputs where it has several, which Keras reads in `compile`."""
        return list(names_of_outputs(self.student) or ()) if self._has_several_outputs else None

    @property
    def _has_several_outputs(self):
        names = names_of_outputs(self.student)
        return self._heads.heads[0].name is not None if names is None else len(names) > 1

    def _only_output(self, values):
        """Labels or weights of the only output, out of a list or dict of one."""
        return values if self._has_several_outputs else only_output(values)

    def compile_from_config(self, config: Config) -> None:
        """Compiles a loaded model; Keras leaves it to models with a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def call(self, inputs: Tensors, training: bool | None = None) -> tf.Tensor:
        """The student's outputs."""
        return self.student(inputs, training=training)

    def __call__(self, inputs: Tensors, *args: Any, **kwargs: Any) -> tf.Tensor:
        """The student's outputs; the first call makes weights, as `build` does."""
        inputs, _ = split_inputs(inputs)
        if not self.built:
            self._note_dtypes(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _note_dtypes(self, inputs):
        # Keras tells `build` only shapes, and not every model takes floats.
        leaves = keras.tree.flatten(inputs)
        self._input_dtypes = tuple(tf.as_dtype(tensor.dtype).name for tensor in leaves)

    def _input_specs(self, input_shape):
        """Specs of a batch of inputs of these shapes, with the dtypes that were noted."""
        specs = keras.tree.map_shape_structure(tf.TensorSpec, input_shape)
        if self._input_dtypes is None:
            return specs
        leaves = zip(keras.tree.flatten(specs), self._input_dtypes, strict=True)
        return keras.tree.pack_sequence_as(
            specs, [tf.TensorSpec(spec.shape, dtype) for spec, dtype in leaves]
        )

    def build(self, input_shape: Any) -> None:
        """Makes the weights of a student, and those of methods, that no graph of layers tells.

        The first step does it. To load weights before that, call it first.

        Args:
            input_shape: Shape of a batch of inputs, such as `(None, 28, 28, 1)`, or a structure of
                such. Inputs are taken to be float32, if the distiller has not met any.
        """

        def trace(inputs: Any) -> list[Features | None]:
            self.student(inputs, training=False)  # lets Keras note that it is built, and how
            forwards = self._teacher.forward, self._student_forward
            return [None if forward is None else forward.trace(inputs) for forward in forwards]

        with tf.init_scope():
            function = tf.function(trace).get_concrete_function(self._input_specs(input_shape))
        self._objective.build(*function.structured_outputs)
        self._heads.check(self.get_teacher(), self.student)
        check_shares_nothing_trained(self.get_teacher(), self.student)

    def export(self, filepath: PathLike, *args: Any, **kwargs: Any) -> None:
        """Raises a `ValueError`: it is the student that is exported, by `l2rkd_tf.export`."""
        del args, kwargs
        raise ValueError(
            "`export` is for the trained student, not for the distiller. Use "
            f"l2rkd_tf.export.export_saved_model(distiller.student, {os.fspath(filepath)!r}), "
            "which verifies what it writes, or l2rkd_tf.export.export_litert for devices."
        )

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

    def _variables_to_train(self) -> list[keras.Variable]:
        if not self.trainable_weights:  # known after the call that builds the student
            raise ValueError(
                "`student` must have trainable weights. Received: a student with none; set "
                "`student.trainable = True`."
            )
        return self.trainable_weights

    def make_train_function(self, force: bool = False) -> None:
        """As in Keras.

        Raises:
            ValueError: If `trainable` has changed since `compile`, where Keras would go on to train
                the weights of the compiled step, or if the student now trains the teacher's.
        """
        check_shares_nothing_trained(self.get_teacher(), self.student)
        weights = tuple(weight.path for weight in self.trainable_weights) if self.built else None
        if self.train_function is None:
            self._weights_of_step = weights
        elif self._weights_of_step is None:
            self._weights_of_step = weights  # which the first step has made
        elif weights != self._weights_of_step:
            changed = sorted(set(weights or ()) ^ set(self._weights_of_step))
            raise ValueError(
                "`trainable` of the student's layers must not change after compile(), which would "
                f"have no effect. Received: another `trainable` of the weights {changed}. Call "
                "compile() again, with a new optimizer."
            )
        if self.train_function is not None and not force:
            force = self._teacher.frozen.have_changed(in_training=False)
        super().make_train_function(force)

    # Losses and metrics.

    def _regularization(self, count: distribution.Count) -> list[tf.Tensor]:
        """The student's `add_loss`, weight and activity regularization: this replica's shares."""
        return [
            distribution.replica_share_of_mean(tf.reduce_sum(tf.cast(loss, tf.float32)), count)
            for loss in self.student.losses
        ]

    def _track(self, losses: Losses, count: distribution.Count) -> None:
        """Updates the running means over the epoch, each batch with its number of examples."""
        trackers = {"loss": keras_fixes.loss_tracker(self), **self._term_trackers}
        for name, share in {"loss": losses.total, **losses.terms}.items():
            distribution.add_share(trackers[name], share, count)

    def test_step(self, data: Any) -> Logs:
        """Evaluates the student only, without running the teacher; returns the logs."""
        x, _, y, sample_weight = unpack_batch(data)
        self._hard_loss.check_labels(y)
        y, sample_weight = map(self._only_output, (y, sample_weight))
        batch = plain_batch(x, y, sample_weight)
        predictions = only_output(self.student(x, training=False))
        regularization = self._regularization(batch.data.count)
        losses = self._objective.judge(batch, {OUTPUT: predictions}, regularization)
        self._track(losses, batch.data.count)
        logs = self.compute_metrics(x, y, predictions, sample_weight)
        of_training = set(self._term_trackers) - set(losses.terms)
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
            self._hard_loss.check_labels(y)
            return tf.zeros(())
        y, y_pred, sample_weight = self._of_positions(y, y_pred, sample_weight)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Logs:
        """Updates the compiled metrics, where there are labels, and returns all results."""
        if y is None:
            return self._results_without_labels()
        y, y_pred, sample_weight = self._of_positions(y, y_pred, sample_weight)
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        compiled = keras_fixes.compiled_metrics(self)
        if compiled is not None and not self._metrics_are_checked:
            self._metrics_are_checked = True
            check_metrics(compiled.metrics, self._heads)
        return logs

    def build_metrics(self, batch: Any) -> None:
        """See `DistributedModel.build_metrics`; where labels and outputs are one tensor each."""
        compiled, (*_, y, _) = keras_fixes.compiled_metrics(self), unpack_batch(batch)
        y = self._only_output(y)
        rank = tf.TensorShape(getattr(y, "shape", None)).rank
        outputs = self.student.outputs if input_symbols(self.student) is not None else []
        if compiled is not None and not compiled.built and rank is not None and len(outputs) == 1:
            compiled.build(y, outputs[0])

    def _of_positions(self, y, y_pred, sample_weight):
        """What Keras compares, out of structures of one, with weights of each position."""
        y, y_pred, sample_weight = map(self._only_output, (y, y_pred, sample_weight))
        return y, y_pred, positions.spread_weights(sample_weight, y_pred)

    def get_metrics_result(self) -> Logs:
        """Results of all metrics by name; without the compiled ones before they saw labels."""
        compiled = keras_fixes.compiled_metrics(self)
        if compiled is None or compiled.built:
            return super().get_metrics_result()
        return self._results_without_labels()

    def _results_without_labels(self):
        compiled = keras_fixes.compiled_metrics(self)
        return {metric.name: metric.result() for metric in self.metrics if metric is not compiled}


def _of_only_output(argument, metrics):
    """Metrics as a list, out of a dict by output name."""
    if not isinstance(metrics, dict):
        return metrics
    entry = only_entry(argument, metrics)
    return entry if entry is None or isinstance(entry, (list, tuple)) else [entry]
