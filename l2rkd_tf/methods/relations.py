"""Methods that compare the relations between the examples of a batch.

Each compares a matrix of relations with one row per example, so that teacher and student may have
features of different sizes. Features of a layer are flattened to one vector per example. An
example's value is that of its row, so that the mean over the batch is the paper's loss. Relations
between examples on different replicas are not compared.
"""

import math

import keras
import tensorflow as tf

from l2rkd_tf.methods.base import FeatureMethod
from l2rkd_tf.methods.layer_search import LAST_MAP
from l2rkd_tf.methods.vectors import directions, flattened, or_one, scaled
from l2rkd_tf.utils.types import Config
from l2rkd_tf.utils.validation import is_positive_float32, is_positive_integer, is_weight

__all__ = [
    "CorrelationCongruence",
    "PKT",
    "RelationalKD",
    "SimilarityPreserving",
]

# Smallest value of a cosine kernel, as in the authors' code of PKT: opposite vectors have the
# kernel 0, whose logarithm is infinite.
_MIN_KERNEL = 1e-7


@keras.saving.register_keras_serializable("l2rkd_tf")
class SimilarityPreserving(FeatureMethod):
    """Matches row-normalized Gram matrices of the batch.

    With the features `F`, shape `(batch, size)`, of either model:

    ```
    G = F F^T,  each row divided by its length
    loss = ||G_T - G_S||^2 / b^2
    value_i = sum_j (G_T[i, j] - G_S[i, j])^2 / b
    ```

    Zero if the features are equal up to a rotation and a factor. The default weight, 3000, is from
    the paper, for one pair of layers.

    Args:
        teacher_layer_name: Name of the teacher's layer. `None` finds the last feature map.
        student_layer_name: Name of the student's layer, or `None`.

    Raises:
        ValueError: If a layer name is not a string.

    Example:
        >>> method = SimilarityPreserving()
        >>> method.per_example(tf.eye(2), tf.constant([[1.0, 0.0], [3.0, 4.0]])).numpy().round(3)
        array([0.684, 0.007], dtype=float32)

    Reference: Tung and Mori, Similarity-Preserving Knowledge Distillation (arXiv:1907.09682),
    equations 1 to 4.
    """

    default_weight = 3000.0
    layers_when_omitted = LAST_MAP

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        return _squared_distance_of_rows(*map(_gram_rows, _pair(teacher, student)))


@keras.saving.register_keras_serializable("l2rkd_tf")
class CorrelationCongruence(FeatureMethod):
    """Correlation congruence (CC): matches kernel matrices of the batch.

    With embeddings `f_i` of length 1 and the Gaussian kernel `exp(-gamma ||f_i - f_j||^2)` by its
    Taylor series up to the order `P`:

    ```
    C[i, j] = exp(-2 gamma) * sum_{p = 0}^{P} (2 gamma)^p / p! * (f_i . f_j)^p
    loss = ||C_T - C_S||^2 / b^2
    value_i = sum_j (C_T[i, j] - C_S[i, j])^2 / b
    ```

    How this differs from the paper: this is only the correlation congruence; the paper adds
    instance congruence, the divergence of the logits, and samples batches by class, which is up to
    the dataset. The default weight, 100, with `gamma` 0.4 and order 2, is that of a public
    implementation of this form, AberHu/Knowledge-Distillation-Zoo. RepDistiller's 0.02 belongs to a
    different formula, which multiplies the differences of neighbouring examples.

    Args:
        teacher_layer_name: Name of the teacher's layer. `None` finds the embedding, the input of
            the classifier.
        student_layer_name: Name of the student's layer, or `None`.
        gamma: Positive number, the width of the kernel in units of 1 / squared distance.
        order: Integer of at least 1, the order `P`.

    Raises:
        ValueError: If a layer name is not a string, or a number is out of range.

    Example:
        >>> method = CorrelationCongruence()
        >>> method.per_example(tf.eye(2), tf.constant([[1.0, 0.0], [3.0, 4.0]])).numpy().round(4)
        array([0.0358, 0.0358], dtype=float32)

    Reference: Peng et al., Correlation Congruence for Knowledge Distillation (arXiv:1904.01802),
    section 3.
    """

    default_weight = 100.0

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        gamma: float = 0.4,
        order: int = 2,
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        if not is_positive_float32(gamma):
            raise ValueError(f"`gamma` must be a positive number. Received: gamma={gamma!r}")
        if not is_positive_integer(order):
            raise ValueError(f"`order` must be an integer of at least 1. Received: order={order!r}")
        self.gamma = float(gamma)
        self.order = int(order)

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        return _squared_distance_of_rows(*map(self._correlations, _pair(teacher, student)))

    def _correlations(self, features):
        # Poisson probabilities: by logarithms, no power or factorial overflows.
        coefficients = [
            math.exp(p * math.log(2 * self.gamma) - 2 * self.gamma - math.lgamma(p + 1))
            for p in range(self.order, -1, -1)
        ]
        return tf.math.polyval(coefficients, _cosines(features))

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {"gamma": self.gamma, "order": self.order}


@keras.saving.register_keras_serializable("l2rkd_tf")
class RelationalKD(FeatureMethod):
    """Relational KD (RKD): matches distances and angles between the examples of the batch.

    ```
    psi_D(i, j) = ||f_i - f_j|| / mean of ||f_k - f_l|| over the pairs k != l
    psi_A(i, j, k) = cos of the angle at f_j between f_i and f_k
    loss = distance_weight * mean of H(psi_D^T - psi_D^S) over the b (b - 1) pairs i != j
         + angle_weight * mean of H(psi_A^T - psi_A^S) over the b (b - 1) (b - 2) triplets of
           distinct i, j, k
    H(e) = e^2 / 2 where |e| <= 1, |e| - 1 / 2 elsewhere
    ```

    The value of an example is the mean over the pairs in which it is the first, and over the
    triplets in which it is the vertex `j`. Zero if the embeddings are equal up to a rotation or
    reflection, a shift and a factor. Examples with equal embeddings have the distance 0, and angles
    there the cosine 0, both without a gradient. Needs memory for `batch^2 * size` numbers, and for
    `batch^3` if `angle_weight` is not 0.

    How this differs from the paper: the paper sums over the tuples; the authors' code, which the
    weights 25 and 50 are from, takes the mean over all `b^2` pairs and `b^3` triplets, including
    those of an example with itself, which are 0. It is smaller by the factors `(b - 1) / b` and
    `(b - 1) (b - 2) / b^2`.

    Args:
        teacher_layer_name: Name of the teacher's layer. `None` finds the embedding, the input of
            the classifier.
        student_layer_name: Name of the student's layer, or `None`.
        distance_weight: Weight of the distances, at least 0.
        angle_weight: Weight of the angles, at least 0; one of the two must be positive.

    Raises:
        ValueError: If a layer name is not a string, or a number is out of range.

    Example:
        >>> points = np.float32([[0, 0], [1, 0], [0, 1]])
        >>> method = RelationalKD(distance_weight=1.0, angle_weight=1.0)
        >>> method.values(points, 5.0 * points + 1.0).numpy().round(3)
        array([0., 0., 0.], dtype=float32)
        >>> method.values(points, points * [1, 2]).numpy().round(3)
        array([0.041, 0.058, 0.036], dtype=float32)

    Reference: Park et al., Relational Knowledge Distillation (arXiv:1904.05068), section 3.2.
    """

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        weights = {"distance_weight": distance_weight, "angle_weight": angle_weight}
        for argument, weight in weights.items():
            if not is_weight(weight):
                raise ValueError(
                    f"`{argument}` must be a number of at least 0. Received: {argument}={weight!r}"
                )
        if not any(weights.values()):
            raise ValueError(
                "`distance_weight` or `angle_weight` must be positive. Received: 0 for both."
            )
        self.distance_weight = float(distance_weight)
        self.angle_weight = float(angle_weight)

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        # The loss does not depend on the scale of either, and squares of scaled ones are finite.
        pair = [scaled(features) for features in _pair(teacher, student)]
        others = _size(pair[0]) - 1.0
        differences = [features[None] - features[:, None] for features in pair]
        values = tf.zeros_like(pair[0][:, 0])
        if self.distance_weight:
            distances = tf.reduce_sum(_huber(*map(_relative_distances, differences)), axis=1)
            values += self.distance_weight * distances / tf.maximum(others, 1.0)
        if self.angle_weight:
            # Row i and column k at the vertex j. Where i or k is j, both models have 0.
            cosines = [tf.matmul(d, d, transpose_b=True) for d in map(directions, differences)]
            angles = tf.reduce_sum(_huber(*cosines) * _off_diagonal(pair[0]), axis=(1, 2))
            values += self.angle_weight * angles / tf.maximum(others * (others - 1.0), 1.0)
        return values

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "distance_weight": self.distance_weight,
            "angle_weight": self.angle_weight,
        }


@keras.saving.register_keras_serializable("l2rkd_tf")
class PKT(FeatureMethod):
    """Probabilistic knowledge transfer (PKT): matches the probabilities of neighbours.

    ```
    K(i, j) = (1 + cos(f_i, f_j)) / 2
    p_i(j) = K(i, j) / sum_{k != i} K(i, k),  for j != i, from the teacher; q_i(j) from the student
    loss = sum_i sum_{j != i} p_i(j) log(p_i(j) / q_i(j)) / b^2
    value_i = KL(p_i || q_i) / b
    ```

    Zero if the features are equal up to a rotation and a factor for each example. Pairs of an
    example with itself do not count, as in the paper but not in the authors' code. The paper sums
    over the pairs; the mean over `b^2` is that of the authors' code and of RepDistiller, whose
    weight, 30000, is the default. Kernels are at least 1e-7, since those of opposite vectors would
    have no logarithm.

    Args:
        teacher_layer_name: Name of the teacher's layer. `None` finds the embedding, the input of
            the classifier.
        student_layer_name: Name of the student's layer, or `None`.

    Raises:
        ValueError: If a layer name is not a string.

    Example:
        >>> method = PKT()
        >>> student = tf.constant([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> method.per_example(tf.eye(3), student).numpy().round(4)
        array([0.0196, 0.0196, 0.    ], dtype=float32)

    Reference: Passalis and Tefas, Learning Deep Representations with Probabilistic Knowledge
    Transfer (arXiv:1803.10837), section 3.
    """

    default_weight = 30000.0

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """See `Method.per_example`."""
        teacher, student = _pair(teacher, student)
        log_p, log_q = map(_log_probabilities, (teacher, student))
        divergences = tf.exp(log_p) * (log_p - log_q) * _off_diagonal(teacher)
        return tf.reduce_sum(divergences, axis=1) / tf.maximum(_size(teacher), 1.0)


def _pair(teacher, student):
    """Features of both models as vectors, of equally many examples."""
    if not teacher.shape[:1].is_compatible_with(student.shape[:1]):
        raise ValueError(
            "Teacher and student features must be of the same examples. Received: teacher "
            f"features of shape {teacher.shape}, student features of shape {student.shape}"
        )
    return flattened(teacher), flattened(student)


def _size(batch):
    """Number of examples, float32."""
    return tf.cast(tf.shape(batch)[0], tf.float32)


def _off_diagonal(batch):
    """1 at pairs of different examples, 0 elsewhere, float32, shape `(batch, batch)`."""
    return 1.0 - tf.eye(tf.shape(batch)[0])


def _cosines(features):
    units = directions(features)
    return tf.matmul(units, units, transpose_b=True)


def _gram_rows(features):
    features = scaled(features)
    return directions(tf.matmul(features, features, transpose_b=True))


def _squared_distance_of_rows(teacher, student):
    squares = tf.math.squared_difference(teacher, student)
    return tf.reduce_sum(squares, axis=1) / tf.maximum(_size(teacher), 1.0)


def _relative_distances(differences):
    """Lengths of differences, shape `(batch, batch)`, divided by their mean over distinct pairs."""
    squares = tf.reduce_sum(tf.square(differences), axis=-1)
    # The derivative of the square root at 0 is infinite.
    distances = tf.where(squares > 0.0, tf.sqrt(or_one(squares)), tf.zeros_like(squares))
    pairs = _size(distances) * (_size(distances) - 1.0)
    mean = tf.reduce_sum(distances) / tf.maximum(pairs, 1.0)
    return distances / or_one(mean)


def _huber(teacher, student):
    gaps = tf.abs(teacher - student)
    quadratic = tf.minimum(gaps, 1.0)
    return quadratic * (gaps - 0.5 * quadratic)


def _log_probabilities(features):
    """Logarithms of `K(i, j) / sum_{k != i} K(i, k)`; those for `i == j` are meaningless."""
    kernel = tf.maximum(0.5 * (1.0 + _cosines(features)), _MIN_KERNEL)
    sums = tf.reduce_sum(kernel * _off_diagonal(features), axis=1, keepdims=True)
    return tf.math.log(kernel) - tf.math.log(or_one(sums))
