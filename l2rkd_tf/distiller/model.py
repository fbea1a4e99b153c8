"""The Keras model that trains a student in the local regions of its teacher."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.distiller.batch import Batch, BatchSampler
from l2rkd_tf.distiller.finite_check import NonFiniteGuard
from l2rkd_tf.distiller.first_batch import FirstBatch, check_batch, has_scaling
from l2rkd_tf.distiller.fit_arguments import checked_arguments, joined_callbacks
from l2rkd_tf.distiller.forward import make_forwards
from l2rkd_tf.distiller.frozen import FrozenWeights
from l2rkd_tf.distiller.heads import make_heads
from l2rkd_tf.distiller.method_term import (
    MethodTerm,
    check_outputs_of_methods,
    check_points_of_methods,
    method_terms,
)
from l2rkd_tf.distiller.objective import Objective
from l2rkd_tf.distiller.region_at import layer_pair
from l2rkd_tf.distiller.saving import SavedDistiller
from l2rkd_tf.distiller.settings import Settings
from l2rkd_tf.distiller.teacher import Teacher
from l2rkd_tf.distiller.terms import DivergenceTerm, HardLossTerm
from l2rkd_tf.features import OUTPUT
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import mask_values
from l2rkd_tf.teacher_cache.inputs import points_of, unpack_batch
from l2rkd_tf.teacher_cache.origin import RegionLook, check_origin
from l2rkd_tf.teachers import as_teacher
from l2rkd_tf.utils.model_checks import (
    check_models,
    check_takes_more_points,
    input_symbols,
    takes_integers,
)
from l2rkd_tf.utils.types import (
    Config,
    DistillationLosses,
    Divergence,
    FeatureFunction,
    Logs,
    RegionTargets,
    TeacherDtype,
    TeacherLike,
    TeacherPreprocessing,
    Where,
)
from l2rkd_tf.utils.validation import checked_seed

__all__ = ["L2RKDDistiller"]


@keras.saving.register_keras_serializable("l2rkd_tf")
class L2RKDDistiller(SavedDistiller):
    """Trains a student to match its teacher at the training examples and in regions around them.

    The student minimises, over the examples `(x, y)` of the global batch with weights `w`,

    ```
    hard_weight   * w * compiled_loss(y, f_S(x))
    + kd_weight     * w * tau^2 * KL(p(f_T(x);  tau) || p(f_S(x);  tau))
    + region_weight * w * tau^2 * KL(p(f_T(x'); tau) || p(f_S(x'); tau))
    + weights of `distillation_losses` + the student's own regularization
    ```

    with `p(z; tau) = softmax(z / tau)` and `x'` drawn from the region of `x` in every step. Each
    term is a mean over its own points, with the example weights multiplied in, as Keras reduces
    losses: of dense outputs `(batch, ..., classes)` also over their positions, with weights of
    examples or of positions, and without positions that a Keras mask leaves out. Of several outputs
    each term is the sum over those that both models have, by name, with `output_weights`. Training
    and region points pass through the student together, so BatchNorm statistics move once a step.

    Use it as any Keras model: `compile(optimizer, loss, metrics, ...)`, `fit`, `evaluate`,
    `predict`. Training logs `loss`, `hard_loss`, `kd_loss`, `region_loss`, one entry for each of
    `distillation_losses` and the compiled metrics (at the training points); of several outputs also
    each one's part, such as `box_kd_loss`. `loss` is the weighted sum of the others plus
    regularization; a term whose weight is 0 is not computed and logs 0. `evaluate` judges only the
    student: `loss` is the hard loss plus regularization (without labels or compiled loss, only
    regularization).

    `temperature`, `hard_weight`, `kd_weight`, `region_weight` and `region.radius` may be set
    between epochs, by a callback for instance, and `region` may be replaced; all other settings are
    fixed. The step is retraced only where a weight becomes zero or stops being zero.

    Args:
        teacher: Trained Keras model that outputs logits of shape `(batch, ..., classes)`, or a dict
            or list of several outputs; another Keras layer, such as `TFSMLayer`; a
            `l2rkd_tf.CallableTeacher`; or a list of these, for their mean (`models.ensemble`). It
            runs in inference mode, is not changed, and is not part of weight checkpoints. It is not
            run for batches that already carry its outputs (`l2rkd_tf.teacher_cache`), and may be
            `None` where they carry all that is needed.
        student: Keras model with outputs of the same shape; of several outputs, those with the
            same names are compared. `distiller.student` is the trained model.
        teacher_preprocessing: Keras layer, model or registered function from the student's inputs
            to the teacher's: of another size, scale or number of channels. It runs in inference
            mode wherever the teacher does; regions stay in the student's inputs.
        teacher_dtype: What the teacher's layers compute in, `"bfloat16"` or `"float16"`; a heavy
            teacher takes less time so on processors made for it. `None` for what they are made for.
        region: A `l2rkd_tf.regions.Region`, its name (`"patch"`) or its config. `None` means
            `Patch(grid=4)` for images, series and volumes (rank 3 or more), swaps and noise for
            vectors (`Segment()` with interpolated targets), and `Swap()` for only integers,
            booleans, strings and ids in floats: see `regions.default_region`.
        region_at: Layer after which regions are drawn, such as the embedding of token ids: its
            name or path (`"backbone/token_embedding"`), or a pair of such, the teacher's first
            (`None` where it is not run in regions). A region point is what the rest of each model
            makes of the layer's output, moved by one draw in both. What else the rest needs moves
            along: floats by the same map; a mask, boolean or called so, is true where it is in all
            that is mixed. `region=None` is then `Segment()`. Both models need a graph.
        region_targets: `"teacher"` runs the teacher at `x'`. `"interpolated"` applies the region's
            linear map to the teacher's outputs at the training points instead: exact where the
            teacher is linear, and without a teacher pass.
        temperature: `tau`, positive, or a dict of such by output name; not for `divergence="mse"`.
        hard_weight: Weight of the compiled loss, not negative. With 0, labels may be absent.
        kd_weight: Weight of plain distillation at the training points, not negative.
        region_weight: Weight of distillation at the region points, not negative.
        num_region_points: Region points drawn for each example in every step; a step costs about
            `1 + num_region_points` steps of plain distillation.
        replace_fraction: If given, between 0 and 1: this fraction of every batch moves from its
            training point into its region, and a step costs what plain distillation costs. The
            objective stays the same: its terms are estimated from fewer points each.
        divergence: `"kl"` for classes, `"binary_kl"` for independent yes/no outputs, `"mse"` for
            regression on raw outputs. A dict by output name where models have several outputs; one
            that is missing in it, or `None`, is not compared.
        from_logits: Whether both models output logits; `False` for probabilities (a softmax or,
            for `"binary_kl"`, a sigmoid). Prefer logits: Keras clips probabilities at 1e-7 in the
            compiled loss, so that a confidently wrong student gets no gradient from its labels.
        output_weights: Weights of several outputs in distillation by name. `None` for 1 each.
        distillation_losses: One or several of `l2rkd_tf.methods`, their names (`"rkd"`), or other
            `keras.distillation.DistillationLoss` objects. All features they compare are read in
            the one forward pass. What they train themselves (a projector, say) is trained and
            saved with the distiller and is not part of the student. Losses of
            `keras.distillation` are means over a batch, without example weights.
        distillation_loss_weights: A non-negative weight for each of them; `None` for the weights
            of the methods' papers (`default_weight`), and 1 for losses of `keras.distillation`.
        distillation_losses_at: Where they compare: at the training points (`"data"`), at
            `"region"` points or at all points of the batch together (`"both"`); one for all, or a
            list with one for each.
        features: Features of both models, in place of those of their layers; needed where models
            are not graphs of layers. A callable `(model, inputs, training) -> (outputs, {name:
            feature, ...})`; maps have their channels last.
        check_finite: Whether NaN or Inf in inputs, teacher outputs or a loss stops training with a
            `FloatingPointError` that names term and step.
        seed: Integer seed of all draws, which are keyed by seed, step and replica. `None` draws
            one (from Python's generator, which `keras.utils.set_random_seed` seeds).
        name: Name of the model.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If one of these arguments is out of its range or of another type, which the
            message names, or if teacher and student differ in inputs or number of outputs, share
            weights that are trained, end in an activation that `from_logits` rules out, or have no
            such layers as `region_at` needs.

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

    Reference: Deng and Zhang, Locally Linear Region Knowledge Distillation (arXiv:2010.04812). The
    definition of a region is this library's own: see `l2rkd_tf.regions`. Mixing after an embedding
    is from Liang et al., MixKD (arXiv:2011.00593).
    """

    def __init__(
        self,
        teacher: TeacherLike | None,
        student: keras.Model,
        *,
        teacher_preprocessing: TeacherPreprocessing | None = None,
        teacher_dtype: TeacherDtype = None,
        region: Region | str | Config | None = None,
        region_at: str | tuple[str | None, str] | None = None,
        region_targets: RegionTargets = "teacher",
        temperature: float | dict[str, float] = 4.0,
        hard_weight: float = 0.1,
        kd_weight: float = 0.9,
        region_weight: float = 0.9,
        num_region_points: int = 1,
        replace_fraction: float | None = None,
        divergence: Divergence | dict[str, Divergence | None] = "kl",
        from_logits: bool = True,
        output_weights: dict[str, float] | None = None,
        distillation_losses: DistillationLosses = (),
        distillation_loss_weights: float | Sequence[float] | None = None,
        distillation_losses_at: Where | Sequence[Where] = "data",
        features: FeatureFunction | None = None,
        check_finite: bool = True,
        seed: int | None = None,
        name: str = "l2rkd_distiller",
        **kwargs: Any,
    ) -> None:
        given = teacher, teacher_preprocessing
        teacher = as_teacher(*given, input_symbols(student), divergence, from_logits)
        check_models(teacher, student)
        super().__init__(student, name=name, **kwargs)
        self._settings = Settings(
            region_targets, num_region_points, replace_fraction, divergence, from_logits,
            output_weights, check_finite, checked_seed(seed), layer_pair(region_at), teacher_dtype,
        )  # fmt: skip
        compared = divergence, temperature, output_weights, from_logits
        self._make_weights(hard_weight, kd_weight, region_weight)
        methods = distillation_losses, distillation_loss_weights, distillation_losses_at
        self._set_parts(teacher, given, features, compared, methods, region)

    def _set_parts(self, teacher, given, features, compared, losses_weights_at, region):
        self._heads = make_heads(teacher, self.student, *compared)
        methods = method_terms(*losses_weights_at, teacher, self, self._heads.student, features)
        self._objective = self._make_objective(methods)
        forward, self._student_forward = make_forwards(
            teacher, given, self.student, methods, features, self._heads, self.region_at,
            runs_teacher=self.region_targets == "teacher",
        )  # fmt: skip
        for term in methods:
            term.validate(teacher, self.student)
        frozen = FrozenWeights(teacher, self.student, self._retrace)
        self._teacher = Teacher(
            forward, self._objective, self._settings, self._heads.teacher, given, frozen
        )
        self._region_look = RegionLook()
        self._sampler = BatchSampler(self.seed, self.num_region_points, self.replace_fraction)
        # An attribute of its own: Keras finds and saves what methods train themselves.
        self.distillation_losses = [term.method for term in methods]
        names = [name for term in self._objective.terms for name in term.names]
        self._term_trackers = {name: keras.metrics.Mean(name=name) for name in names}
        self.non_finite_guard = NonFiniteGuard.of_terms(names) if self.check_finite else None
        scales = has_scaling(teacher) or has_scaling(self.student)
        self.first_batch = FirstBatch(self._heads, scales)
        self.supports_jit = self._teacher.supports_jit
        self.built = self.student.built and all(term.is_built for term in methods)
        self._set_first_region(region)

    def _make_objective(self, methods: list[MethodTerm]) -> Objective:
        check_points_of_methods(methods, self.region_targets)
        check_outputs_of_methods(methods, len(self._heads.heads))
        self._hard_loss = HardLossTerm(self._hard_weight, self, self._heads)
        return Objective(
            [
                self._hard_loss,
                DivergenceTerm("kd_loss", self._kd_weight, "data", self._heads),
                DivergenceTerm("region_loss", self._region_weight, "region", self._heads),
                *methods,
            ]
        )

    # Training.

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; teacher outputs that data carry must fit this distiller.

        Prints which layers methods compare, unless `verbose` is 0.

        Raises:
            ValueError: If data are empty, endless without a number of steps, not dense, not in
                batches, or carry points of another region than that of now, labels are text, or
                weights are not one for each class or example.
        """
        inputs, _, labels, weights = unpack_batch(getattr(x, "element_spec", (x,)))
        self._match_inputs(inputs)
        compared = self._heads.divergence, self.from_logits
        check_origin(x, self.get_teacher(), *compared, self.region)
        arguments = checked_arguments(self.student, self._heads, x, *args, **kwargs)
        if isinstance(x, tf.data.Dataset):
            check_batch(self.student, inputs, labels, weights, self.hard_weight > 0)
        self.first_batch.begin()
        self._tell_layers(arguments.get("verbose", "auto"))
        self._region_look.begin(self, x)
        looks = self._teacher.frozen.callback, self._region_look
        arguments["callbacks"] = joined_callbacks(arguments.get("callbacks"), *looks)
        return super().fit(**arguments)

    def step_checks(self) -> list[Any]:
        """See `DistributedModel.step_checks`."""
        checks = self._teacher, self.first_batch, self.non_finite_guard, self._teacher.frozen
        return [check for check in checks if check is not None]

    def finish_checks(self) -> None:
        """See `DistributedModel.finish_checks`."""
        if self.non_finite_guard is not None:
            self.non_finite_guard.finish()

    def train_step(self, data: Any) -> Logs:
        """Draws region points, runs the teacher, updates the student; returns the logs."""
        step = tf.convert_to_tensor(keras_fixes.batch_number(self.optimizer))  # before the update
        with tf.GradientTape() as tape:
            batch = self._sample(data, step)
            with tape.stop_recording():
                teacher = self._teacher(batch)
            student = self._student_forward(batch, training=True)
            # Read before replicas meet in a reduction, where another one may run its student.
            regularization = self._regularization(batch.original.count)
            losses = self._objective(batch, teacher, student, regularization)
            scaled_loss = self.optimizer.scale_loss(losses.total)
        variables = self._variables_to_train()
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._track(losses, batch.original.count)
        seen = batch.data
        logs = self.compute_metrics(seen.inputs, seen.labels, student["data"][OUTPUT], seen.weights)
        answers = [features for features in teacher.values() if OUTPUT in features]
        logs |= self.first_batch.note(batch, answers[0] if answers else None, student["data"])
        if self.non_finite_guard is not None:
            outputs = [features[OUTPUT] for features in answers]
            values = {"x": batch.given, "teacher": outputs, **losses.terms, "loss": losses.total}
            logs |= self.non_finite_guard.note(step, values)
        return logs

    def _sample(self, data: Any, step: tf.Tensor) -> Batch:
        """The batch of a step, with its region points where any term needs some."""
        (x, cached, y, sample_weight), carried = unpack_batch(data), points_of(data)
        y, sample_weight = map(self._only_output, (y, sample_weight))
        check_batch(self.student, x, y, sample_weight, self.hard_weight > 0)
        self._teacher.check(cached is not None, carried is not None)
        self._objective.check(y)
        self._sampler.region = self.region or self._default_region(x)
        self._match_inputs(x)
        if not self.built:
            self._note_dtypes(x)
            self.build(keras.tree.map_structure(lambda tensor: tuple(tensor.shape), x))
        needs, projections = self._objective.needs, None
        if needs.region_points:
            check_takes_more_points(self.get_teacher(), self.student)
        if needs.num_projections:
            projections = needs.num_projections, self._teacher.num_outputs(x)
        return self._sampler(
            x,
            y,
            sample_weight,
            cached,
            step=step,
            with_region=needs.region_points,
            projections=projections,
            whole_numbers=takes_integers(self.get_teacher()) or takes_integers(self.student),
            mask_values=mask_values(x, self.student, self.get_teacher()),
            front=self._student_forward.front,
            carried=carried,
        )
