"""Divergences between teacher and student outputs, one value for each example or position.

Every function maps two arrays of shape `(batch, ..., outputs)` to one array of shape `(batch,
...)`, computed in float32 for any dtype, without any reduction over the batch or over positions
(of pixels, of time): the caller weights and reduces once.
"""

import tensorflow as tf

from l2rkd_tf.utils.types import TensorLike

__all__ = [
    "DIVERGENCES",
    "binary_kl_divergence",
    "kl_divergence",
    "logits_from_probabilities",
    "mean_squared_error",
]

# The smallest probability distinguished from zero. Far below the usual 1e-7, at which gradients
# vanish for logit gaps above 16; well above the smallest normal float32.
_MIN_PROBABILITY = 1e-30
# The largest float32 below one.
_MAX_PROBABILITY = 1.0 - 2.0**-24


def kl_divergence(
    teacher_logits: TensorLike, student_logits: TensorLike, temperature: TensorLike = 1.0
) -> tf.Tensor:
    """Temperature-scaled KL divergence of the student's classes from the teacher's.

    `tau^2 * KL(softmax(t / tau) || softmax(s / tau))`, in log space, so that value and gradient
    `tau * (softmax(s / tau) - softmax(t / tau))` stay exact at any gap between logits. The factor
    `tau^2` keeps the size of the gradient independent of the temperature.

    Args:
        teacher_logits: Logits `t`, shape `(batch, ..., classes)`.
        student_logits: Logits `s`, shape `(batch, ..., classes)`.
        temperature: Positive scalar `tau`.

    Returns:
        Divergence in nats times `tau^2`, float32, shape `(batch, ...)`.

    Raises:
        ValueError: If the shapes differ or are not `(batch, ..., classes)`.

    Example:
        >>> divergence = kl_divergence([[2.0, 0.0]], [[0.0, 0.0]], temperature=1.0)
        >>> round(float(divergence[0]), 4)
        0.3278

    Reference: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network
    (arXiv:1503.02531), section 2.
    """
    teacher, student = _pair(teacher_logits, student_logits)
    temperature = tf.cast(temperature, tf.float32)
    teacher_log = tf.nn.log_softmax(teacher / temperature)
    student_log = tf.nn.log_softmax(student / temperature)
    # A class with a teacher logit of minus infinity contributes 0, not NaN.
    terms = tf.math.multiply_no_nan(teacher_log - student_log, tf.exp(teacher_log))
    return temperature**2 * tf.reduce_sum(terms, axis=-1)


def binary_kl_divergence(
    teacher_logits: TensorLike, student_logits: TensorLike, temperature: TensorLike = 1.0
) -> tf.Tensor:
    """Temperature-scaled KL divergence of independent yes/no outputs, for multi-label models.

    The mean over the outputs of `tau^2 * KL(Bernoulli(sigmoid(t / tau)) || Bernoulli(sigmoid(s /
    tau)))`, in log space. A mean, as in Keras's `BinaryCrossentropy`, so that both are on the same
    scale.

    Args:
        teacher_logits: Logits `t`, shape `(batch, ..., outputs)`.
        student_logits: Logits `s`, shape `(batch, ..., outputs)`.
        temperature: Positive scalar `tau`.

    Returns:
        Divergence in nats times `tau^2`, float32, shape `(batch, ...)`.

    Raises:
        ValueError: If the shapes differ or are not `(batch, ..., outputs)`.

    Example:
        >>> round(float(binary_kl_divergence([[2.0]], [[0.0]])[0]), 4)
        0.3278

    Reference: the two-class case of Hinton, Vinyals and Dean (arXiv:1503.02531), section 2.
    """
    teacher, student = _pair(teacher_logits, student_logits)
    temperature = tf.cast(temperature, tf.float32)
    teacher, student = teacher / temperature, student / temperature
    yes = tf.math.softplus(-student) - tf.math.softplus(-teacher)
    no = tf.math.softplus(student) - tf.math.softplus(teacher)
    # An answer that the teacher excludes, by an infinite logit, contributes 0, not NaN.
    yes = tf.math.multiply_no_nan(yes, tf.sigmoid(teacher))
    no = tf.math.multiply_no_nan(no, tf.sigmoid(-teacher))
    return temperature**2 * tf.reduce_mean(yes + no, axis=-1)


def mean_squared_error(
    teacher_outputs: TensorLike, student_outputs: TensorLike, temperature: TensorLike = 1.0
) -> tf.Tensor:
    """Mean squared difference of raw outputs, for regression.

    `mean_j (t_j - s_j)^2`, as Keras's `MeanSquaredError`.

    Args:
        teacher_outputs: Outputs `t`, shape `(batch, ..., outputs)`.
        student_outputs: Outputs `s`, shape `(batch, ..., outputs)`.
        temperature: Ignored, since raw outputs have no temperature; accepted so that all
            divergences have the same signature.

    Returns:
        Squared difference in squared units of the outputs, float32, shape `(batch, ...)`.

    Raises:
        ValueError: If the shapes differ or are not `(batch, ..., outputs)`.

    Example:
        >>> mean_squared_error([[1.0, 2.0]], [[0.0, 0.0]]).numpy().tolist()
        [2.5]

    Reference: Ba and Caruana, Do Deep Nets Really Need to be Deep? (arXiv:1312.6184), equation 2.
    """
    del temperature
    teacher, student = _pair(teacher_outputs, student_outputs)
    return tf.reduce_mean(tf.math.squared_difference(teacher, student), axis=-1)


DIVERGENCES = {
    "kl": kl_divergence,
    "binary_kl": binary_kl_divergence,
    "mse": mean_squared_error,
}


def logits_from_probabilities(probabilities: TensorLike, divergence: str = "kl") -> tf.Tensor:
    """Logits of a model that ends in a softmax (`"kl"`) or a sigmoid (`"binary_kl"`).

    `log p` for a softmax (up to a constant for each example, which a softmax ignores) and
    `log p - log(1 - p)` for a sigmoid. Probabilities are clipped to `[1e-30, 1 - 2^-24]`: a sigmoid
    that reaches 1 in float32, at logits above 17, no longer has a gradient.

    Args:
        probabilities: Shape `(batch, ..., outputs)`, values in `[0, 1]`.
        divergence: `"kl"` or `"binary_kl"`.

    Returns:
        Logits, float32, of the same shape.

    Raises:
        ValueError: If `divergence` is neither `"kl"` nor `"binary_kl"`.

    Example:
        >>> logits_from_probabilities([[0.5]], "binary_kl").numpy().tolist()
        [[0.0]]
    """
    if divergence not in ("kl", "binary_kl"):
        raise ValueError(
            "`divergence` must be 'kl' or 'binary_kl' for outputs that are probabilities. "
            f"Received: divergence={divergence!r}"
        )
    probabilities = tf.cast(probabilities, tf.float32)
    if divergence == "kl":
        return tf.math.log(tf.maximum(probabilities, _MIN_PROBABILITY))
    probabilities = tf.clip_by_value(probabilities, _MIN_PROBABILITY, _MAX_PROBABILITY)
    return tf.math.log(probabilities) - tf.math.log1p(-probabilities)


def _pair(teacher, student):
    teacher, student = tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)
    if (teacher.shape.rank or 0) < 2 or not teacher.shape.is_compatible_with(student.shape):
        raise ValueError(
            "Teacher and student outputs must have one shape, `(batch, ..., outputs)`. "
            f"Received: teacher outputs of shape {teacher.shape}, "
            f"student outputs of shape {student.shape}"
        )
    return teacher, student
