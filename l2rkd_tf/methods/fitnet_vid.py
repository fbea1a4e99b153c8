"""Methods that predict the teacher's features from the student's, by layers trained with it."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.methods.base import FeatureMethod, LayersMethod, TrainableMethod
from l2rkd_tf.methods.layer_search import MIDDLE_MAP
from l2rkd_tf.methods.pooling import match_sizes
from l2rkd_tf.utils.types import Config, Shape
from l2rkd_tf.utils.validation import is_positive_float32

__all__ = ["FitNet", "VID"]


@keras.saving.register_keras_serializable("l2rkd_tf")
class FitNet(TrainableMethod, FeatureMethod):
    """Hints (FitNets): a layer of the student predicts the features of a layer of the teacher.

    ```
    loss = mean over positions and channels of (T[x, y, c] - (S[x, y] W + b)[c])^2
    ```

    The projector `W, b`, a 1 x 1 convolution, is trained with the student, and omitted if both
    layers have the same number of channels. Features are vectors, maps, or hidden states of shape
    `(batch, positions, channels)`; the larger ones are first pooled by `match_sizes`.

    How this differs from the paper: the paper uses half the sum of squares, matches sizes by a
    larger kernel of the projector, and trains only by the hint in a first stage. The default
    weight, 100, is the one that later studies use for the mean of squares together with the labels.

    Args:
        teacher_layer_name: Name of the teacher's layer, the hint; `"model/layer"` for that of a
            nested model. `None` finds one in the middle, by `l2rkd_tf.methods.find_layers`.
        student_layer_name: Name of the student's layer, or `None`.

    Raises:
        ValueError: If a layer name is not a string, or the features are not both vectors, both maps
            or both hidden states, of known size.

    Example:
        >>> method = FitNet("block2", "block2")
        >>> teacher, student = tf.ones((2, 8, 8, 16)), tf.zeros((2, 4, 4, 12))
        >>> method.values(teacher, student).numpy().tolist()
        [1.0, 1.0]
        >>> [tuple(weight.shape) for weight in method.trainable_weights]
        [(12, 16), (16,)]

    Reference: Romero et al., FitNets: Hints for Thin Deep Nets (arXiv:1412.6550), equation 3.
    """

    default_weight = 100.0
    layers_when_omitted = MIDDLE_MAP

    def __init__(
        self, teacher_layer_name: str | None = None, student_layer_name: str | None = None
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        self.projector: keras.layers.Dense | None = None

    def build(self, teacher_shapes: Shape, student_shapes: Shape) -> None:
        """Creates the projector if the numbers of channels differ."""
        _check_shapes(teacher_shapes, student_shapes)
        if teacher_shapes[-1] != student_shapes[-1]:
            projector = keras.layers.Dense(teacher_shapes[-1], dtype="float32")
            projector.build(student_shapes)
            self.projector = projector

    def per_example(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """Mean squared difference of the hint and the projected features."""
        teacher, student = _matched(teacher, student)
        if self.projector is not None:
            student = self.projector(student)
        return _mean_of_example(tf.math.squared_difference(teacher, student))


@keras.saving.register_keras_serializable("l2rkd_tf")
class VID(TrainableMethod, LayersMethod):
    """Variational information distillation (VID): the student's features predict the teacher's.

    The teacher's features are modelled by a normal distribution whose mean is predicted from the
    student's features and whose variance is learned for each channel. Its negative log-likelihood,
    which bounds the mutual information of the features, is

    ```
    v[c] = softplus(alpha[c]) + epsilon
    loss = sum over pairs of layers of
        mean over x, y, c of ((T[x, y, c] - mean(S)[x, y, c])^2 / v[c] + log v[c]) / 2
    ```

    It becomes negative if the prediction is good. For maps and hidden states, the mean is three 1 x
    1 convolutions, each with the teacher's number of channels, with ReLUs between them; for
    vectors, it is linear; neither has a bias. The mean and `alpha` are trained with the student.
    The larger maps are first pooled by `match_sizes`.

    How this differs from the paper: the paper sums over positions and channels; the mean follows
    the usual reimplementations, whose weight is 1.

    Args:
        teacher_layer_names: Names of the teacher's layers, a list, or one name. `None` finds one of
            each resolution, by `l2rkd_tf.methods.find_layers`.
        student_layer_names: Names of as many layers of the student, or `None`.
        init_variance: Initial variance, above `epsilon`, in squared units of the teacher's
            features.
        epsilon: Positive number, the smallest variance.

    Raises:
        ValueError: If a layer name is not a string, `init_variance` is not above `epsilon`,
            `epsilon` is not positive, or the features of a pair of layers are not both vectors,
            both maps or both hidden states, of known size.

    Example:
        >>> method = VID("features", "features", init_variance=2.0)
        >>> values = method.values(tf.ones((2, 16)), tf.zeros((2, 12)))
        >>> np.testing.assert_allclose(values, [0.5 * (1 / 2 + np.log(2))] * 2, rtol=1e-6)

    Reference: Ahn et al., Variational Information Distillation for Knowledge Transfer
    (arXiv:1904.05835), section 2.
    """

    default_weight = 1.0

    def __init__(
        self,
        teacher_layer_names: Sequence[str] | str | None = None,
        student_layer_names: Sequence[str] | str | None = None,
        *,
        init_variance: float = 5.0,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__(teacher_layer_names, student_layer_names)
        for argument, value in (("epsilon", epsilon), ("init_variance", init_variance)):
            if not is_positive_float32(value):
                raise ValueError(
                    f"`{argument}` must be a positive number. Received: {argument}={value!r}"
                )
        if not init_variance > epsilon:
            raise ValueError(
                "`init_variance` must be above `epsilon`, the smallest variance. Received: "
                f"init_variance={init_variance!r}, epsilon={epsilon!r}"
            )
        self.init_variance, self.epsilon = float(init_variance), float(epsilon)
        self.predictions: list[_Prediction] = []

    def build(self, teacher_shapes: Any, student_shapes: Any) -> None:
        """Creates the layers that predict the teacher's features, for each pair of layers."""
        pairs = zip(_list_of(teacher_shapes), _list_of(student_shapes), strict=True)
        predictions = []
        for teacher_shape, student_shape in pairs:
            _check_shapes(teacher_shape, student_shape)
            prediction = _Prediction(teacher_shape[-1], self.init_variance, self.epsilon)
            prediction.build(student_shape)
            predictions.append(prediction)
        self.predictions = predictions

    def per_example(self, teacher: Any, student: Any) -> tf.Tensor:
        """Negative log-likelihood of the teacher's features, without the constant."""
        teacher, student = keras.tree.flatten(teacher), keras.tree.flatten(student)
        values = []
        for *pair, prediction in zip(teacher, student, self.predictions, strict=True):
            pair_teacher, pair_student = _matched(*pair)
            mean, variance = prediction(pair_student)
            terms = tf.math.squared_difference(pair_teacher, mean) / variance + tf.math.log(
                variance
            )
            values.append(0.5 * _mean_of_example(terms))
        return tf.add_n(values)

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "init_variance": self.init_variance,
            "epsilon": self.epsilon,
        }


class _Prediction(keras.layers.Layer):
    """Normal distribution of the teacher's features, from features of the student."""

    def __init__(self, channels, init_variance, epsilon):
        # Keras rejects its own default name for a class that starts with an underscore.
        super().__init__(dtype="float32", name="prediction")
        self.channels = channels
        self.init_variance = init_variance
        self.epsilon = epsilon
        self.mean_layers = []

    def build(self, shape):
        activations = [None] if len(shape) == 2 else ["relu", "relu", None]
        mean_layers = []
        for activation in activations:
            layer = keras.layers.Dense(
                self.channels, activation=activation, use_bias=False, dtype="float32"
            )
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
            mean_layers.append(layer)
        self.mean_layers = mean_layers
        excess = self.init_variance - self.epsilon
        # The inverse of softplus, in the form that does not overflow.
        alpha = excess + np.log(-np.expm1(-excess))
        self.alpha = self.add_weight(
            shape=(self.channels,), initializer=keras.initializers.Constant(alpha), name="alpha"
        )

    def call(self, features):
        mean = features
        for layer in self.mean_layers:
            mean = layer(mean)
        return mean, tf.math.softplus(self.alpha) + self.epsilon


def _list_of(shapes):
    """A list of shapes, from a list or a single shape."""
    return shapes if isinstance(shapes[0], (list, tuple)) else [shapes]


def _check_shapes(teacher_shape, student_shape):
    fit = len(teacher_shape) == len(student_shape) > 1
    if not fit or None in (teacher_shape[-1], student_shape[-1]):
        raise ValueError(
            "Features must both be maps of shape (batch, height, width, channels), both hidden "
            "states of shape (batch, positions, channels), or both vectors of shape (batch, "
            "channels), with known channels: name other layers. Received: teacher features of "
            f"shape {tuple(teacher_shape)}, student features of shape {tuple(student_shape)}"
        )


def _matched(teacher, student):
    return match_sizes(teacher, student) if teacher.shape.rank > 2 else (teacher, student)


def _mean_of_example(terms):
    return tf.reduce_mean(terms, axis=list(range(1, terms.shape.rank)))
