"""How the agreement of a student with its teacher changes on the way out of a region."""

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
)
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.regions import Region
from l2rkd_tf.utils.types import Data, Divergence, TensorLike
from l2rkd_tf.utils.validation import (
    check_choice,
    check_models_are_built,
    check_number_of_outputs,
    check_outputs,
    checked_seed,
)

__all__ = ["FidelityProfile", "fidelity_profile"]


class FidelityProfile(NamedTuple):
    """Fidelity of a student at fractions of the way to the edge of a region.

    Attributes:
        fractions: Fractions of the way: 0 at the examples, 1 at the edge, shape `(fractions,)`.
        kl: Mean divergence of the student from the teacher at each, in nats without a factor
            `tau^2` (mean squared error for `divergence="mse"`), shape `(fractions,)`.
        kl_stderr: Its standard error over the examples.
        agreement: Share of the points at which both decide alike, shape `(fractions,)`.
        agreement_stderr: Its standard error over the examples.
        num_points: Number of points at each fraction: one for each example.
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
    """Measures how well a student mimics its teacher from the examples to the edge of a region.

    ```
    x_f   = x + f * (edge - x)
    kl(f) = mean_x KL(softmax(f_T(x_f) / tau) || softmax(f_S(x_f) / tau))
    ```

    Every example draws one direction of its region, and all fractions are taken along it, so that
    differences between fractions are not those between draws. A student of plain distillation is
    faithful at 0; one that has the teacher's local shape stays so up to 1.

    Args:
        teacher: Built Keras model with outputs of shape `(batch, classes)`.
        student: Built Keras model with outputs of the same shape.
        x: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`. Weights are ignored.
        region: `l2rkd_tf.regions.Region` with a method `at_fraction`.
        fractions: Fractions of the way to the edge, from 0 to 1.
        temperature: `tau`, positive.
        divergence: `"kl"`, `"binary_kl"` or `"mse"`, as in `l2rkd_tf.losses`. Independent outputs
            (`"binary_kl"`) decide alike one by one; `"mse"` knows no decisions, and `agreement`
            is NaN.
        from_logits: Whether the models give logits; `False` for probabilities.
        labels: Labels of `x`, for regions that need them, where `x` is no dataset.
        batch_size: Examples evaluated together, among which a region finds partners. An example
            that is alone in the last batch has none and stays where it is.
        seed: Integer seed of the draws.

    Returns:
        `FidelityProfile`.

    Raises:
        ValueError: If an argument is wrong, or the models do not fit together.
        NotImplementedError: If the region has no `at_fraction`.

    Example:
        >>> models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in "TS"]
        >>> models[1].set_weights(models[0].get_weights())
        >>> x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
        >>> profile = fidelity_profile(*models, x, l2rkd_tf.regions.Segment(), (0.0, 1.0))
        >>> profile.kl.tolist(), profile.agreement.tolist(), profile.num_points
        ([0.0, 0.0], [1.0, 1.0], 20)

    Reference: this library's definition, after the claim of Deng and Zhang (arXiv:2010.04812) that
    a student of local regions captures the teacher's local shape.
    """
    check_models_are_built(teacher=teacher, student=student)
    check_region(region)
    fractions = checked_fractions(fractions)
    check_temperature(temperature)
    check_choice("divergence", divergence, tuple(DIVERGENCES))
    check_outputs(teacher, student, divergence, from_logits)
    seed = checked_seed(seed)

    def step(inputs, labels, number):
        drawn = region.draw(inputs, tf.stack([seed, number]), labels)

        def at_fraction(fraction):
            points = region.apply(inputs, region.at_fraction(drawn, fraction))
            outputs = outputs_of_both(teacher, student, points)
            check_number_of_outputs("teacher", outputs[0].shape, divergence)
            return _comparison(*outputs, temperature, divergence, from_logits)

        # A loop in the graph: the models are traced once, however many fractions.
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
    return distance, _same_decisions(*outputs, divergence)


def _same_decisions(teacher, student, divergence):
    """Share of the decisions about each example that are alike, float32, shape `(batch,)`."""
    if divergence == "mse":
        return tf.fill(tf.shape(teacher)[:1], np.float32(np.nan))
    if divergence == "binary_kl":
        return tf.reduce_mean(tf.cast((teacher > 0.0) == (student > 0.0), tf.float32), axis=-1)
    return tf.cast(tf.argmax(teacher, axis=-1) == tf.argmax(student, axis=-1), tf.float32)
