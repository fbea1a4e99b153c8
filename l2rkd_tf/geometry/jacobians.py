"""Distance between the input Jacobians of two models."""

from typing import NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.features import feature_model
from l2rkd_tf.geometry.evaluation import batched, outputs_of_both, per_example, ratio_and_stderr
from l2rkd_tf.methods.jacobian import draw_directions, projected_gradients
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.output_checks import check_models_agree
from l2rkd_tf.utils.outputs import flat_outputs
from l2rkd_tf.utils.types import Data
from l2rkd_tf.utils.validation import checked_seed, is_positive_integer

__all__ = ["JacobianDistance", "jacobian_distance"]


class JacobianDistance(NamedTuple):
    """Distance between the Jacobians of a teacher and a student.

    Attributes:
        relative: `squared_distance / teacher_squared_norm`: 0 for equal Jacobians, 1 for a constant
            student. Squared, like a fraction of unexplained variance.
        relative_stderr: Its standard error, by the delta method over the examples.
        squared_distance: Mean of `||J_T - J_S||_F^2` over the examples.
        teacher_squared_norm: Mean of `||J_T||_F^2` over the examples.
        num_points: Number of examples.
    """

    relative: float
    relative_stderr: float
    squared_distance: float
    teacher_squared_norm: float
    num_points: int


def jacobian_distance(
    teacher: keras.Model,
    student: keras.Model,
    x: Data,
    *,
    num_projections: int = 4,
    batch_size: int = 256,
    seed: int = 0,
) -> JacobianDistance:
    """Measures how far a student's input Jacobians at the examples are from its teacher's.

    ```
    relative = mean_x ||J_T(x) - J_S(x)||_F^2 / mean_x ||J_T(x)||_F^2
    ```

    with the Jacobians `J = df / dx` of the logits. Vectors `v` of random signs give unbiased
    estimates of both means, `E_v ||v^T J||^2 = ||J||_F^2`, for one backward pass per vector instead
    of one per class. Each example has its own independent `v`, so that the standard error over the
    examples includes the variance of the projections. The ratio of two unbiased means has a bias
    that shrinks with the number of examples.

    Adding the same function of the input to all logits does not change the softmax, but does change
    this Jacobian: models with equal predictions may differ in it.

    Args:
        teacher: Built Keras model that outputs logits, shape `(batch, classes)`.
        student: Built Keras model with outputs of the same shape.
        x: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`. Labels and weights are
            ignored.
        num_projections: Number of random `v` for each example. `None` uses all rows of the
            Jacobians instead: exact, with one backward pass per class.
        batch_size: Examples evaluated together; does not change the result.
        seed: Integer seed of the projections.

    Returns:
        `JacobianDistance`.

    Raises:
        ValueError: If a model is not built or ends in a softmax, the models differ in inputs or
            outputs, an output cannot be differentiated, the teacher is constant, or
            `num_projections`, `batch_size` or `seed` is not as above.

    Example:
        >>> def linear(slope):
        ...     return keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(slope)])
        >>> distance = jacobian_distance(linear(2.0), linear(1.0), np.ones((5, 4), "float32"))
        >>> distance.relative, distance.num_points
        (0.25, 5)

    Reference: the projection is from Hutchinson, A Stochastic Estimator of the Trace of the
    Influence Matrix (1989); Jacobian matching is from Srinivas and Fleuret (arXiv:1803.00443).
    """
    check_models_are_built(teacher=teacher, student=student)
    _check_projections(num_projections)
    # Outputs are used as they are: a softmax is rejected, a single output is not.
    check_models_agree(teacher, student, "binary_kl", True)
    seed = checked_seed(seed)
    models = [feature_model(model, ()) for model in (teacher, student)]

    def step(inputs, labels, number):
        del labels
        outputs = flat_outputs(outputs_of_both(teacher, student, inputs)[0])
        rows = number * batch_size + tf.range(tf.shape(outputs)[0])
        directions = _directions(rows, num_projections, outputs.shape[-1], seed)
        teacher_grads, student_grads = (
            projected_gradients(model, inputs, directions, training=False)[1] for model in models
        )
        # Whole rows add up to the squared norm; each random projection estimates all of it.
        factor = 1.0 if num_projections is None else 1.0 / num_projections
        distance = tf.reduce_sum((teacher_grads - student_grads) ** 2, axis=(1, 2))
        return factor * distance, factor * tf.reduce_sum(teacher_grads**2, axis=(1, 2))

    distances, norms = per_example(step, batched(x, batch_size))
    if not norms.any():
        raise ValueError(
            "`teacher` must depend on its inputs, since the distance is relative to its Jacobian. "
            "Received: a teacher with a Jacobian of zero at all of `x`"
        )
    relative, stderr = ratio_and_stderr(distances, norms)
    distance, norm = (float(values.mean(dtype="float64")) for values in (distances, norms))
    return JacobianDistance(float(relative), float(stderr), distance, norm, len(distances))


def _check_projections(num_projections):
    if num_projections is not None and not is_positive_integer(num_projections):
        raise ValueError(
            "`num_projections` must be an integer of at least 1, or None for whole Jacobians. "
            f"Received: num_projections={num_projections!r}"
        )


def _directions(rows, num_projections, outputs, seed):
    """Random signs that depend only on an example's row, or unit vectors for whole Jacobians."""
    if num_projections is None:
        return tf.tile(tf.eye(outputs)[None], [tf.size(rows), 1, 1])

    def signs(row):
        row_seed = tf.random.fold_in([seed, 0], row, alg="philox")
        return draw_directions(1, num_projections, outputs, row_seed)[0]

    directions = tf.map_fn(signs, rows, fn_output_signature=tf.float32)
    return tf.ensure_shape(directions, [None, num_projections, outputs])
