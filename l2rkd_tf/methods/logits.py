"""Distillation methods that compare logits."""

import keras
import tensorflow as tf

from l2rkd_tf.losses import binary_kl_divergence, kl_divergence
from l2rkd_tf.methods.base import Method
from l2rkd_tf.utils.types import Config, TensorLike
from l2rkd_tf.utils.validation import is_positive_float32, is_weight

__all__ = [
    "DIST",
    "DKD",
    "LogitStandardization",
    "correlation_distance",
    "decoupled_kl",
]

# Added to the variance of an example's logits; far below that of any trained model.
_VARIANCE_OF_NOTHING = 1e-7
# Centred values below this fraction of the values themselves are rounding errors.
_CONSTANT = 1e-6


@keras.saving.register_keras_serializable("l2rkd_tf")
class DKD(Method):
    """Decoupled knowledge distillation (DKD): the target class and the others, separately.

    ```
    tau^2 (alpha TCKD + beta NCKD)
    TCKD = KL between the two-class distributions (target, all others)
    NCKD = KL between the distributions over the other classes, given that it is one of them
    ```

    Plain distillation is `tau^2 (TCKD + (1 - p_target) NCKD)`: where the teacher is confident, the
    other classes hardly count. See `decoupled_kl`.

    The target class is the label. For an example without a label (`labels` is `None`, -1, as for
    region points, or no class of the logits, such as 255) it is the teacher's most likely class,
    the first one in a tie; in the paper, all examples have labels.

    `alpha` and `beta` are already weights, so `default_weight` is 1. The authors raise the weight
    linearly from 0 to 1 over the first 20 epochs.

    Args:
        alpha: Weight of the target class, at least 0.
        beta: Weight of the other classes, at least 0. The paper's choice depends on the teacher: 8
            for most pairs of models on CIFAR-100, 0.5 on ImageNet.
        temperature: `tau`, positive.

    Raises:
        ValueError: If a weight is negative or `temperature` not positive, or if the logits do not
            have the same shape `(batch, ..., classes)` with at least two classes.

    Example:
        >>> method = DKD(alpha=1.0, beta=8.0, temperature=4.0)
        >>> teacher, student = tf.constant([[3.0, 1.0, 0.0]]), tf.constant([[1.0, 0.0, 0.0]])
        >>> method.values(teacher, student, labels=tf.constant([0])).shape
        TensorShape([1])

    Reference: Zhao et al., Decoupled Knowledge Distillation (arXiv:2203.08679), equation 7.
    """

    uses_labels = True

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.alpha = _checked_weight("alpha", alpha)
        self.beta = _checked_weight("beta", beta)
        self.temperature = _checked_temperature(temperature)

    def per_example(
        self, teacher: tf.Tensor, student: tf.Tensor, labels: TensorLike | None = None
    ) -> tf.Tensor:
        """See `Method.per_example`; `labels`, int32, shape `(batch, ...)`, -1 where unknown."""
        target = tf.argmax(teacher, axis=-1, output_type=tf.int32)
        if labels is not None:
            known = tf.cast(labels, tf.int32)
            is_class = (known >= 0) & (known < tf.shape(teacher)[-1])
            target = tf.where(is_class, known, target)
        target_part, others_part = decoupled_kl(teacher, student, target, self.temperature)
        return self.alpha * target_part + self.beta * others_part

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "alpha": self.alpha,
            "beta": self.beta,
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable("l2rkd_tf")
class DIST(Method):
    """DIST: distils how classes and examples relate, independent of the predictions' scale.

    ```
    tau^2 (beta mean_i d(p_i, q_i) + gamma mean_c d(p_.c, q_.c)),    d = 1 - Pearson correlation
    ```

    with `p` and `q` the softmax of the teacher's and the student's logits at temperature `tau`,
    rows `p_i` of examples (inter-class relation) and columns `p_.c` of classes over the batch
    (intra-class relation). An example's value is the distance of its own row plus the mean over all
    columns: the mean over the batch is the paper's loss.

    A row or column that is constant in either model (as all columns in a batch of one) has no
    correlation and contributes 0, without a gradient; in the authors' code it contributes 1. Of
    dense logits `(batch, ..., classes)` each position is an example, and columns go over all of
    them, also over those that a mask leaves out of the mean. Under `tf.distribute` the columns are
    those of each replica's part of the batch.

    `beta` and `gamma` are already weights, so `default_weight` is 1. The factor `tau^2` is from the
    authors' code.

    Args:
        beta: Weight of the inter-class relation, at least 0.
        gamma: Weight of the intra-class relation, at least 0.
        temperature: `tau`, positive; the paper's is 4 on CIFAR-100 and 1 on ImageNet.

    Raises:
        ValueError: If a weight is negative or `temperature` not positive, or if the logits do not
            have the same shape `(batch, ..., classes)` with at least two classes.

    Example:
        >>> method = DIST(temperature=1.0)
        >>> logits = tf.constant([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
        >>> np.allclose(method.per_example(logits, logits), 0.0, atol=1e-5)
        True

    Reference: Huang et al., Knowledge Distillation from A Stronger Teacher (arXiv:2205.10536),
    section 4, with the weights of its experiments on classification.
    """

    def __init__(self, *, beta: float = 2.0, gamma: float = 2.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.beta = _checked_weight("beta", beta)
        self.gamma = _checked_weight("gamma", gamma)
        self.temperature = _checked_temperature(temperature)

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        _check_shapes(teacher, student)
        teacher = tf.nn.softmax(teacher / self.temperature)
        student = tf.nn.softmax(student / self.temperature)
        row_distances = correlation_distance(teacher, student)
        columns = (tf.transpose(_rows(probabilities)) for probabilities in (teacher, student))
        column_distances = correlation_distance(*columns)
        values = self.beta * row_distances + self.gamma * tf.reduce_mean(column_distances)
        return self.temperature**2 * values

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "beta": self.beta,
            "gamma": self.gamma,
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable("l2rkd_tf")
class LogitStandardization(Method):
    """Distils logits that are standardized for each example, which leaves their scale free.

    ```
    tau^2 KL(softmax(Z(t) / tau) || softmax(Z(s) / tau)),    Z(z) = (z - mean(z)) / std(z)
    ```

    with the population standard deviation over the classes, as the paper defines it (the authors'
    code uses the sample standard deviation, which differs by `sqrt(classes / (classes - 1))`). 1e-7
    is added to the variance in case the logits are constant.

    The value does not change under `z -> a z + b`, `a > 0`, of an example's logits of either
    model: combine it with a loss that sets the scale of the student, such as the hard loss.

    Args:
        temperature: The base temperature `tau`, positive.

    Raises:
        ValueError: If `temperature` is not positive, or if the logits do not have the same shape
            `(batch, ..., classes)` with at least two classes.

    Example:
        >>> method = LogitStandardization()
        >>> logits = tf.constant([[3.0, 1.0, 0.0]])
        >>> np.allclose(method.per_example(logits, 2.0 * logits + 1.0), 0.0, atol=1e-5)
        True

    Reference: Sun et al., Logit Standardization in Knowledge Distillation (arXiv:2403.01427),
    algorithms 1 and 2; the weight is from the authors' commands for CIFAR-100.
    """

    default_weight = 9.0

    def __init__(self, *, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = _checked_temperature(temperature)

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        _check_shapes(teacher, student)
        return kl_divergence(_standardized(teacher), _standardized(student), self.temperature)

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {"temperature": self.temperature}


def decoupled_kl(
    teacher: TensorLike, student: TensorLike, target: tf.Tensor, temperature: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """The two parts of the KL divergence: target class and other classes.

    ```
    tau^2 KL(p || q) = target part + (1 - p_target) * non-target part
    target part      = tau^2 KL((p_target, 1 - p_target) || (q_target, 1 - q_target))
    non-target part  = tau^2 KL(p given not target || q given not target)
    ```

    in log space, so that both parts are exact at any gap between logits.

    Args:
        teacher: Logits, shape `(batch, ..., classes)`.
        student: Logits, shape `(batch, ..., classes)`.
        target: Class numbers, int32, shape `(batch, ...)`.
        temperature: Positive number `tau`.

    Returns:
        Target part and non-target part, float32, each of shape `(batch, ...)`.

    Raises:
        ValueError: If the shapes differ or are not `(batch, ..., classes)` with at least two
            classes.

    Example:
        >>> teacher, student = [[2.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]
        >>> target, others = decoupled_kl(teacher, student, tf.constant([0]))
        >>> p_target = tf.nn.softmax(teacher)[:, 0]
        >>> whole = l2rkd_tf.losses.kl_divergence(teacher, student)
        >>> np.allclose(target + (1.0 - p_target) * others, whole)
        True

    Reference: Zhao et al. (arXiv:2203.08679), section 3.1.
    """
    teacher, student = tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)
    _check_shapes(teacher, student)
    if teacher.shape.rank > 2:  # each position is an example
        flat_target = tf.reshape(target, [-1])
        parts = decoupled_kl(_rows(teacher), _rows(student), flat_target, temperature)
        target_part, others_part = (tf.reshape(part, tf.shape(target)) for part in parts)
        return target_part, others_part
    columns = tf.range(tf.shape(teacher)[-1] - 1)
    columns += tf.cast(columns >= target[:, None], tf.int32)
    teacher_others, student_others = (
        tf.gather(logits, columns, batch_dims=1) for logits in (teacher, student)
    )
    odds = (
        _log_odds(logits, others, target, temperature)
        for logits, others in ((teacher, teacher_others), (student, student_others))
    )
    return (
        temperature**2 * binary_kl_divergence(*odds),
        kl_divergence(teacher_others, student_others, temperature),
    )


def _log_odds(logits, others, target, temperature):
    """`log(p_target / (1 - p_target))`, shape `(batch, 1)`."""
    target_logit = tf.gather(logits, target[:, None], batch_dims=1)
    others_logit = tf.reduce_logsumexp(others / temperature, axis=-1, keepdims=True)
    return target_logit / temperature - others_logit


def correlation_distance(first: TensorLike, second: TensorLike) -> tf.Tensor:
    """One minus the Pearson correlation along the last axis.

    Invariant under `x -> a x + b`, `a > 0`, of either argument. A row that is constant in either
    argument has no correlation: its distance is 0, without a gradient.

    Args:
        first: Float32, shape `(..., n)`.
        second: Float32, shape `(..., n)`.

    Returns:
        Distance from 0 to 2, float32, shape `(...)`.

    Example:
        >>> correlation_distance([[1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0]]).numpy().round(4).tolist()
        [2.0]

    Reference: Huang et al. (arXiv:2205.10536), section 4.
    """
    units, are_defined = zip(*map(_centred_unit, (first, second)), strict=True)
    correlation = tf.reduce_sum(units[0] * units[1], axis=-1)
    return tf.where(are_defined[0] & are_defined[1], 1.0 - correlation, 0.0)


def _centred_unit(values):
    """Centred rows of length 1, and which rows are not constant; the others have no gradient."""
    values = tf.convert_to_tensor(values, tf.float32)
    # The squares of small probabilities underflow. The correlation does not depend on the scale, so
    # the gradient may ignore it.
    scale = tf.reduce_max(tf.abs(values), axis=-1, keepdims=True)
    values = tf.math.divide_no_nan(values, tf.stop_gradient(scale))
    centred = values - tf.reduce_mean(values, axis=-1, keepdims=True)
    square = tf.reduce_sum(centred**2, axis=-1, keepdims=True)
    is_defined = square > _CONSTANT**2 * tf.reduce_sum(values**2, axis=-1, keepdims=True)
    length = tf.sqrt(tf.where(is_defined, square, 1.0))
    return tf.where(is_defined, centred, 0.0) / length, is_defined[..., 0]


def _standardized(logits):
    centred = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred**2, axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + _VARIANCE_OF_NOTHING)


def _rows(logits):
    """Logits of all positions, shape `(positions, classes)`."""
    return logits if logits.shape.rank == 2 else tf.reshape(logits, [-1, logits.shape[-1]])


def _check_shapes(teacher, student):
    if (
        (teacher.shape.rank or 0) < 2
        or not teacher.shape.is_compatible_with(student.shape)
        or 1 in (teacher.shape[-1], student.shape[-1])
    ):
        raise ValueError(
            "Teacher and student logits must have the same shape, `(batch, ..., classes)`, with at "
            f"least two classes. Received: teacher logits of shape {teacher.shape}, student logits "
            f"of shape {student.shape}"
        )


def _checked_weight(argument, value):
    if not is_weight(value):
        raise ValueError(
            f"`{argument}` must be a finite number of at least 0. Received: {argument}={value!r}"
        )
    return float(value)


def _checked_temperature(temperature):
    if not is_positive_float32(temperature):
        raise ValueError(
            "`temperature` must be a finite number above 0, such as 4. "
            f"Received: temperature={temperature!r}"
        )
    return float(temperature)
