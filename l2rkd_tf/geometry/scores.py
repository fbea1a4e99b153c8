"""Scores of a student, and a score of a region that needs only the teacher."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import model_outputs
from l2rkd_tf.geometry.evaluation import (
    Batches,
    batched,
    check_region,
    check_temperature,
    outputs_of_both,
    per_example,
    same_decisions,
)
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import points_of_draw
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.output_checks import check_models_agree, check_number_of_outputs
from l2rkd_tf.utils.outputs import mean_over_positions
from l2rkd_tf.utils.types import Data, TensorLike
from l2rkd_tf.utils.validation import checked_seed, is_positive_integer

__all__ = [
    "expected_calibration_error",
    "teacher_stddev",
    "top1_agreement",
]


def top1_agreement(
    teacher: keras.Model, student: keras.Model, x: Data, *, batch_size: int = 256
) -> float:
    """Fraction of examples for which student and teacher predict the same class.

    Of dense outputs, shape `(batch, ..., classes)`, it is the fraction of positions.

    ```
    mean_x [ argmax f_T(x) = argmax f_S(x) ]
    ```

    Args:
        teacher: Built Keras model that outputs logits or probabilities, shape `(batch, classes)`,
            with at least two classes.
        student: Built Keras model with outputs of the same shape.
        x: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`. Labels and weights are
            ignored.
        batch_size: Examples evaluated together; does not change the result.

    Returns:
        The fraction, a float from 0 to 1; NaN if an output is NaN.

    Raises:
        ValueError: If a model is not built, the models differ in inputs or outputs or have a single
            output, or `batch_size` is below 1.

    Example:
        >>> def model(scale):
        ...     return keras.Sequential([keras.Input((2,)), keras.layers.Rescaling(scale)])
        >>> x = [[1.0, 0.0], [0.0, 1.0], [2.0, 3.0]]
        >>> top1_agreement(model(1.0), model(5.0), x)
        1.0
        >>> top1_agreement(model(1.0), model(-1.0), x)
        0.0

    Reference: agreement as a measure of fidelity: Stanton et al., Does Knowledge Distillation
    Really Work? (arXiv:2106.05945), section 3.
    """
    check_models_are_built(teacher=teacher, student=student)

    def step(inputs, labels, number):
        del labels, number
        outputs = outputs_of_both(teacher, student, inputs)
        if outputs[0].shape[-1] == 1:
            raise ValueError(
                "`teacher` and `student` must have at least two outputs, one per class. Received: "
                f"outputs of shape {outputs[0].shape}"
            )
        return mean_over_positions(same_decisions(*outputs, "kl"))

    return float(per_example(step, batched(x, batch_size)).mean(dtype="float64"))


def expected_calibration_error(
    logits: TensorLike, labels: TensorLike, num_bins: int = 15, temperature: float = 1.0
) -> float:
    """How far a model's confidence is from its accuracy.

    ```
    ECE = sum_m |B_m| / n * | accuracy(B_m) - confidence(B_m) |
    ```

    over bins `B_m` of the examples whose confidence `max softmax(z / tau)` lies in
    `((m - 1) / M, m / M]`.

    Args:
        logits: Logits `z`, shape `(examples, classes)`, with at least two classes.
        labels: Class numbers, shape `(examples,)` or `(examples, 1)`, or one-hot labels.
        num_bins: `M`.
        temperature: `tau`, positive.

    Returns:
        The error, a float from 0 to 1.

    Raises:
        ValueError: If `logits`, `labels`, `num_bins` or `temperature` is not as above.

    Example:
        >>> logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
        >>> round(expected_calibration_error(logits, [0, 1, 0, 1]), 6)  # (2 * 0.4 + 2 * 0.4) / 4
        0.4

    Reference: Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), equation 3.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    is_matrix = logits.ndim == 2 and logits.shape[0] > 0 and logits.shape[1] > 1
    if not is_matrix or labels.shape[:1] != logits.shape[:1]:
        raise ValueError(
            "`logits` must have shape (examples, classes), with at least two classes and one "
            f"label per example. Received: logits of shape {logits.shape} and labels of shape "
            f"{labels.shape}"
        )
    labels = _class_numbers(labels, logits.shape)
    if not np.isfinite(logits).all():
        raise ValueError("`logits` must be finite. Received: logits with NaN or infinity")
    if not is_positive_integer(num_bins):
        raise ValueError(
            f"`num_bins` must be an integer of at least 1. Received: num_bins={num_bins!r}"
        )
    check_temperature(temperature)
    scaled = logits / temperature
    # The largest probability of a softmax: its own term of the sum is exp(0).
    confidence = 1.0 / np.exp(scaled - scaled.max(axis=1, keepdims=True)).sum(axis=1)
    is_right = logits.argmax(axis=1) == labels
    bins = np.ceil(confidence * num_bins).astype(int) - 1
    # |B_m| times accuracy or confidence is a sum over the bin.
    surplus = np.bincount(bins, weights=is_right - confidence, minlength=num_bins)
    return float(np.abs(surplus).sum() / len(logits))


def teacher_stddev(
    teacher: keras.Model,
    x: Data,
    region: Region,
    *,
    num_draws: int = 100,
    num_points: int = 320,
    temperature: float = 1.0,
    labels: TensorLike | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> float:
    """Scores a region for distillation with only the teacher: lower predicts a better student.

    ```
    u_d   = mean of softmax(f_T(z) / tau) over the points z of draw d
    score = mean over classes of the standard deviation of u_d over the draws d
    ```

    The points of a draw are `num_points` examples, taken from consecutive shuffled passes over the
    data, and one region point of each. If region points only repeat their examples, the mean of a
    draw varies; if they add something new, it varies less, and so does the student's loss.

    The size of a draw, the unbiased variance and the mean over classes are those of the authors'
    published code: 5 batches of 64 examples and the augmented point of each. How this differs from
    the paper: the augmentation is a region, the examples are not also cropped and flipped, and
    nothing is trained meanwhile. Compare scores only for the same teacher, dataset and
    `num_points`: they shrink roughly as `1 / sqrt(num_points)`.

    Args:
        teacher: Built Keras model that outputs logits, shape `(batch, classes)`.
        x: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`, which is read into
            memory. Weights are ignored.
        region: `l2rkd_tf.regions.Region`.
        num_draws: Number of draws, at least 2. The score's own relative error is about
            `1 / sqrt(2 * num_draws)` for each class.
        num_points: Examples in each draw. If equal to the number of examples, only the region's own
            randomness remains.
        temperature: `tau`, positive. The paper's is 1.
        labels: Labels of `x`, for regions that need them, if `x` is not a dataset.
        batch_size: Examples evaluated together, among which a region finds partners.
        seed: Integer seed of the draws.

    Returns:
        The score, a float.

    Raises:
        ValueError: If `teacher` is not built or does not output logits, `region` is not a region,
            or a number is out of range.

    Example:
        >>> constant = keras.layers.Dense(3, kernel_initializer="zeros")
        >>> teacher = keras.Sequential([keras.Input((4,)), constant])
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> teacher_stddev(teacher, x, l2rkd_tf.regions.Segment(), num_draws=3)  # always 1/3
        0.0

    Reference: Wang, Lohit, Jones and Fu, What Makes a "Good" Data Augmentation in Knowledge
    Distillation (arXiv:2012.02909): the standard deviation of the teacher's mean probability.
    """
    check_models_are_built(teacher=teacher)
    check_region(region)
    for name, value, least in (("num_draws", num_draws, 2), ("num_points", num_points, 1)):
        if not is_positive_integer(value) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )
    check_temperature(temperature)
    check_models_agree(teacher, teacher, "kl", True)
    seed = checked_seed(seed)
    data = per_example(
        lambda inputs, labels, number: (inputs,) if labels is None else (inputs, labels),
        batched(x, batch_size, labels),
    )
    rows = _rows_in_turn(len(keras.tree.flatten(data)[0]), num_draws * num_points, seed)
    means = _mean_probabilities(
        teacher, data, region, rows.reshape(num_draws, num_points), temperature, batch_size, seed
    )
    return float(means.std(axis=0, ddof=1).mean())


def _mean_probabilities(teacher, data, region, rows, temperature, batch_size, seed):
    """The teacher's mean probabilities in each draw, float64, shape `(draws, classes)`."""
    leaves = [tf.constant(leaf) for leaf in keras.tree.flatten(data)]

    def draw_in_batches(rows_of_draw):
        return tf.data.Dataset.from_tensor_slices(rows_of_draw).batch(batch_size)

    def step(inputs, labels, number):
        drawn = region.draw(inputs, tf.stack([seed, number]), labels)
        points = points_of_draw(region, inputs, drawn, teacher)
        outputs = [model_outputs(teacher, z) for z in (inputs, points)]
        check_number_of_outputs("teacher", outputs[0].shape, "kl")
        means = sum(tf.nn.softmax(output / temperature) for output in outputs) / 2.0
        return tf.reduce_mean(means, axis=tuple(range(1, means.shape.rank - 1)))

    batches = tf.data.Dataset.from_tensor_slices(rows).flat_map(draw_in_batches)
    batches = batches.map(lambda chosen: tuple(tf.gather(leaf, chosen) for leaf in leaves))
    probabilities = per_example(step, Batches(batches, data))
    return probabilities.reshape(*rows.shape, -1).mean(axis=1, dtype="float64")


def _rows_in_turn(count, num_rows, seed):
    """The first `num_rows` rows of consecutive shuffled passes over `count` rows."""
    generator = np.random.default_rng(seed)
    passes = [generator.permutation(count) for _ in range(-(-num_rows // count))]
    return np.concatenate(passes)[:num_rows]


def _class_numbers(labels, shape):
    """Class numbers, shape `(examples,)`, from class numbers or one-hot labels."""
    if labels.shape == shape:
        return labels.argmax(axis=1)
    if labels.shape not in (shape[:1], (shape[0], 1)):
        raise ValueError(
            f"`labels` must be class numbers, or one-hot of shape {shape}. Received: labels of "
            f"shape {labels.shape}"
        )
    numbers = labels.reshape(-1)
    unknown = np.unique(numbers[~np.isin(numbers, np.arange(shape[1]))])
    if len(unknown):
        raise ValueError(
            f"`labels` must be class numbers from 0 to {shape[1] - 1}. Received: labels "
            f"{unknown[:5].tolist()} among them"
        )
    return numbers
