"""How a student's agreement with its teacher changes towards the boundary of a region."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.geometry.evaluation import (
    batched,
    check_region,
    check_temperature,
    checked_fractions,
    mean_and_stderr,
    outputs_of_both,
    per_example,
    same_decisions,
)
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import points_of_draw
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.output_checks import check_models_agree, check_number_of_outputs
from l2rkd_tf.utils.outputs import mean_over_positions
from l2rkd_tf.utils.types import Data, Divergence, TensorLike
from l2rkd_tf.utils.validation import check_choice, checked_seed

__all__ = ["FidelityProfile", "fidelity_profile"]


class FidelityProfile(NamedTuple):
    """Fidelity of a student at fractions of the way to the boundary of a region.

    Attributes:
        fractions: Fractions of the way: 0 at the examples, 1 at the boundary, shape `(fractions,)`.
        kl: Mean divergence of the student from the teacher at each, in nats without a factor
            `tau^2` (mean squared error for `divergence="mse"`), shape `(fractions,)`.
        kl_stderr: Its standard error over the examples.
        agreement: Fraction of the points at which both predict the same class, shape
            `(fractions,)`.
        agreement_stderr: Its standard error over the examples.
        num_points: Number of points at each fraction: one per example.
    """

    fractions: np.ndarray
    kl: np.ndarray
    kl_stderr: np.ndarray
    agreement: np.ndarray
    agreement_stderr: np.ndarray
    num_points: int


def fidelity_profile(
    teacher: keras.Model,
    student: keras.Model,
    x: Data,
    region: Region,
    fractions: Sequence[float] | np.ndarray = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    temperature: float = 1.0,
    divergence: Divergence = "kl",
    from_logits: bool = True,
    labels: TensorLike | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> FidelityProfile:
    """Measures how well a student matches its teacher, from the examples to a region's boundary.

    ```
    x_f   = x + f * (boundary - x)
    kl(f) = mean_x KL(softmax(f_T(x_f) / tau) || softmax(f_S(x_f) / tau))
    ```

    Every example draws one direction in its region, and all fractions lie along it, so that
    differences between fractions are not due to different draws. A plainly distilled student
    matches the teacher at 0; one that has learned the teacher's local shape also matches it up to
    1.

    Args:
        teacher: Built Keras model with outputs of shape `(batch, classes)`; of dense outputs, shape
            `(batch, ..., classes)`, an example's value is the mean over its positions.
        student: Built Keras model with outputs of the same shape.
        x: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`. Weights are ignored.
        region: `l2rkd_tf.regions.Region` with a method `at_fraction`.
        fractions: Fractions of the way to the boundary, from 0 to 1.
        temperature: `tau`, positive.
        divergence: `"kl"`, `"binary_kl"` or `"mse"`, as in `l2rkd_tf.losses`. With `"binary_kl"`,
            agreement is counted for each output; with `"mse"`, which has no classes, it is NaN.
            Like the divergence, it is also NaN where outputs are.
        from_logits: Whether the models output logits; `False` for probabilities.
        labels: Labels of `x`, for regions that need them, if `x` is not a dataset.
        batch_size: Examples evaluated together, among which a region finds partners. A single
            example in the last batch has no partner and stays where it is.
        seed: Integer seed of the draws.

    Returns:
        `FidelityProfile`.

    Raises:
        ValueError: If a model is not built, the models differ in inputs or outputs or do not suit
            `divergence` and `from_logits`, or another argument is not as above.
        NotImplementedError: If the region has no `at_fraction`.

    Example:
        >>> models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in "TS"]
        >>> models[1].set_weights(models[0].get_weights())
        >>> x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
        >>> profile = fidelity_profile(*models, x, l2rkd_tf.regions.Segment(), (0.0, 1.0))
        >>> profile.kl.tolist(), profile.agreement.tolist(), profile.num_points
        ([0.0, 0.0], [1.0, 1.0], 20)

    Reference: Deng and Zhang (arXiv:2010.04812) claim that a student of local regions captures the
    teacher's local shape, which this measures; the measure itself is not from the paper.
    """
    check_models_are_built(teacher=teacher, student=student)
    check_region(region)
    fractions = checked_fractions(fractions)
    check_temperature(temperature)
    check_choice("divergence", divergence, tuple(DIVERGENCES))
    check_models_agree(teacher, student, divergence, from_logits)
    seed = checked_seed(seed)

    def step(inputs, labels, number):
        drawn = region.draw(inputs, tf.stack([seed, number]), labels)

        def at_fraction(fraction):
            reached = region.at_fraction(drawn, fraction)
            points = points_of_draw(region, inputs, reached, student, teacher)
            outputs = outputs_of_both(teacher, student, points)
            check_number_of_outputs("teacher", outputs[0].shape, divergence)
            return _comparison(*outputs, temperature, divergence, from_logits)

        # A loop in the graph, so that the models are traced once for all fractions.
        values = tf.map_fn(at_fraction, fractions, fn_output_signature=(tf.float32, tf.float32))
        return tuple(tf.transpose(value) for value in values)

    distances, agreements = per_example(step, batched(x, batch_size, labels))
    return FidelityProfile(
        fractions, *mean_and_stderr(distances), *mean_and_stderr(agreements), len(distances)
    )


def _comparison(teacher, student, temperature, divergence, from_logits):
    """Divergence without a factor `tau^2`, and agreement, float32, shape `(batch,)` each."""
    outputs = [teacher, student]
    if not from_logits:
        outputs = [logits_from_probabilities(output, divergence) for output in outputs]
    distance = DIVERGENCES[divergence](*outputs, temperature)
    if divergence != "mse":
        distance /= temperature**2
    return tuple(map(mean_over_positions, (distance, same_decisions(*outputs, divergence))))
