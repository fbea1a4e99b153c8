"""Matching of the input gradients of teacher and student."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features import OUTPUT
from l2rkd_tf.methods.base import Method
from l2rkd_tf.regions.draws import random_bits
from l2rkd_tf.utils.outputs import flat_outputs, only_output
from l2rkd_tf.utils.types import Config, Features, TensorLike, Tensors
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["JacobianMatching", "draw_directions", "projected_gradients"]

# Squared length below which a gradient has no direction.
_NO_LENGTH = 1e-24


@keras.saving.register_keras_serializable("l2rkd_tf")
class JacobianMatching(Method):
    """Distils the derivatives of the outputs with respect to the inputs.

    ```
    ||J_T - J_S||_F^2 = E_v ||v^T J_T - v^T J_S||^2
    ```

    with the Jacobians `J = df / dx` of the logits and a vector `v` of random signs. An example's
    value is the mean over `num_projections` independent `v`, drawn again in every step: an unbiased
    estimate that does not need a backward pass for every class. `normalize=True` compares
    `v^T J / ||v^T J||` instead, which ignores how steep either model is.

    For Gaussian noise `n` of variance `sigma^2` in each coordinate of the input, so small that ReLU
    networks stay linear, `E_n ||f_T(x + n) - f_S(x + n)||^2 = ||f_T(x) - f_S(x)||^2 + sigma^2 ||J_T
    - J_S||_F^2`: distillation on noisy inputs matches Jacobians.

    It costs a backward pass through the teacher and a second derivative of the student for each
    projection. Equal Jacobians determine the outputs only up to a constant, so combine it with a
    loss on the outputs. Works in `L2RKDDistiller`, which supplies the projected gradients
    (`projected_gradients`), not in `keras.distillation.Distiller`.

    How this differs from the paper: the paper matches the whole Jacobian in theory and the
    normalized gradient of one output in its experiments. The default weight, 1, is not from the
    paper: the squared norm is a sum over the inputs, so its size depends on their number and units.

    Args:
        num_projections: Number of random projections, at least 1.
        normalize: Whether each projected gradient is divided by its length. A gradient of zero
            length stays zero.

    Raises:
        ValueError: If `num_projections` is below 1 or `normalize` is not a bool, or if
            `per_example` gets anything but projected gradients.

    Example:
        >>> method = JacobianMatching(num_projections=2)
        >>> teacher, student = tf.ones((1, 2, 3)), tf.zeros((1, 2, 3))
        >>> method.per_example(teacher, student).numpy().tolist()
        [3.0]

    Reference: Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching (arXiv:1803.00443),
    sections 3 and 4; the random projection is not from the paper.
    """

    def __init__(self, *, num_projections: int = 1, normalize: bool = False) -> None:
        super().__init__()
        if not is_positive_integer(num_projections):
            raise ValueError(
                "`num_projections` must be an integer of at least 1. "
                f"Received: num_projections={num_projections!r}"
            )
        if not isinstance(normalize, bool):
            raise ValueError(
                f"`normalize` must be True or False. Received: normalize={normalize!r}"
            )
        self.num_projections = int(num_projections)
        self.normalize = normalize

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """Loss of each example.

        Args:
            teacher: The teacher's projected gradients, shape `(batch, num_projections, size)`.
            student: The student's, of the same shape.

        Returns:
            float32, shape `(batch,)`.
        """
        if teacher.shape.rank != 3 or not teacher.shape.is_compatible_with(student.shape):
            raise ValueError(
                "JacobianMatching needs gradients of the outputs with respect to the inputs, of "
                "shape (batch, num_projections, size), which L2RKDDistiller supplies. Received: "
                f"tensors of shapes {teacher.shape} and {student.shape}"
            )
        if self.normalize:
            teacher, student = _normalized(teacher), _normalized(student)
        squares = tf.reduce_sum(tf.math.squared_difference(teacher, student), axis=-1)
        return tf.reduce_mean(squares, axis=-1)

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "num_projections": self.num_projections,
            "normalize": self.normalize,
        }


def draw_directions(
    batch: int | tf.Tensor, num_projections: int, outputs: int, seed: TensorLike
) -> tf.Tensor:
    """Random signs to project the outputs of each example on.

    Args:
        batch: Number of examples, an integer or a scalar tensor.
        num_projections: Number of directions for each.
        outputs: Number of outputs of the models.
        seed: Stateless seed, int32, shape `(2,)`. The same seed returns the same signs in eager
            mode, in a graph and under XLA.

    Returns:
        -1 or 1 with equal probability, float32, shape `(batch, num_projections, outputs)`.

    Example:
        >>> directions = draw_directions(2, 1, 10, seed=[0, 0])
        >>> bool(tf.reduce_all(tf.abs(directions) == 1.0))
        True

    Reference: Hutchinson, A Stochastic Estimator of the Trace of the Influence Matrix (1989).
    """
    bits = random_bits([batch, num_projections, outputs], seed)
    return 2.0 * tf.cast(bits >= 2**23, tf.float32) - 1.0


def projected_gradients(
    features: Callable[..., Features],
    inputs: Tensors,
    directions: tf.Tensor,
    compared: Callable[[Any], tf.Tensor] = only_output,
    **kwargs: Any,
) -> tuple[Features, tf.Tensor]:
    """A model's features, and gradients of its projected outputs with respect to its inputs.

    The features come from one forward pass. The gradients are differentiable. If examples depend on
    each other, as through BatchNorm's batch statistics in training, the gradient at an example
    includes the outputs of all of them.

    Args:
        features: A callable `features(inputs, **kwargs) -> {OUTPUT: outputs, ...}`, such as that
            of `l2rkd_tf.features.feature_model`, with outputs of shape `(batch, outputs)`.
        inputs: Float tensor of shape `(batch, ...)`, or a list or dict of such.
        directions: Vectors to project the outputs on, float32, shape
            `(batch, num_projections, outputs)`.
        compared: Finds the output to project among those of the model, where it has several.
        **kwargs: Passed to `features`.

    Returns:
        The features, a dict, and the gradients of `sum_k directions[:, p, k] * outputs[:, k]`
        with respect to all inputs, one after the other, float32, shape
        `(batch, num_projections, total size of an example)`.

    Raises:
        ValueError: If `directions` does not fit the outputs, or the outputs do not depend on an
            input.

    Example:
        >>> double = lambda inputs: {"": 2.0 * inputs}
        >>> directions = tf.constant([[[1.0, -1.0]]])
        >>> _, gradients = projected_gradients(double, tf.constant([[3.0, 4.0]]), directions)
        >>> gradients.numpy().tolist()
        [[[2.0, -2.0]]]

    """
    inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
    leaves = keras.tree.flatten_with_path(inputs)
    for path, leaf in leaves:
        if not leaf.dtype.is_floating:
            raise _no_gradient(path, f"is of dtype {leaf.dtype.name}")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([leaf for _, leaf in leaves])
        found = features(inputs, **kwargs)
        outputs = flat_outputs(tf.cast(compared(found[OUTPUT]), tf.float32))
    if not outputs.shape[1:].is_compatible_with(directions.shape[2:]):
        raise ValueError(
            "`directions` must have shape (batch, num_projections, outputs). Received: directions "
            f"of shape {directions.shape} for outputs of shape {outputs.shape}"
        )
    return found, tf.stack(
        [
            _gradient(tape, outputs, leaves, direction)
            for direction in tf.unstack(directions, axis=1)
        ],
        axis=1,
    )


def _gradient(tape, outputs, leaves, direction):
    """Gradient along one direction, shape `(batch, total size of an example)`."""
    gradients = tape.gradient(outputs, [leaf for _, leaf in leaves], output_gradients=direction)
    flat = []
    for (path, leaf), gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            raise _no_gradient(path, "has no gradient: the output does not use it, or rounds it")
        size = tf.reduce_prod(tf.shape(leaf)[1:])
        gradient = tf.reshape(tf.cast(gradient, tf.float32), [tf.shape(leaf)[0], size])
        gradient.set_shape([None, leaf.shape[1:].num_elements()])
        flat.append(gradient)
    return tf.concat(flat, axis=1)


def _no_gradient(path, reason):
    name = "".join(f"[{key!r}]" for key in path)
    return ValueError(
        "JacobianMatching needs outputs that can be differentiated with respect to every input, "
        f"of teacher and student. Received: `inputs{name}`, which {reason}."
    )


def _normalized(gradients):
    square = tf.reduce_sum(gradients**2, axis=-1, keepdims=True)
    has_length = square > _NO_LENGTH
    unit = gradients * tf.math.rsqrt(tf.where(has_length, square, 1.0))
    return tf.where(has_length, unit, 0.0)
