"""Methods that compare positions and channels of features of several layers.

Features are maps, or hidden states of shape `(batch, positions, channels)`, whose only spatial axis
is that of the positions.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.methods.base import LayersMethod
from l2rkd_tf.methods.pooling import match_sizes
from l2rkd_tf.utils.types import Config
from l2rkd_tf.utils.validation import is_positive_float32

__all__ = ["AttentionTransfer", "FSP", "NeuronSelectivityTransfer"]

# Smaller features count as zero: they are not scaled to unit length.
_SMALLEST_FEATURE = 1e-12


@keras.saving.register_keras_serializable("l2rkd_tf")
class AttentionTransfer(LayersMethod):
    """Attention transfer (AT): the student attends to the same spatial positions as the teacher.

    ```
    A(F)[x, y] = sum_c |F[x, y, c]|^power
    loss = sum over pairs of layers of mean over positions of (A(T) / |A(T)| - A(S) / |A(S)|)^2
    ```

    with the Euclidean norm `|A|` over spatial positions. It does not depend on the number and order
    of channels, nor on the scale of the features. The larger maps are first pooled by
    `match_sizes`. Of hidden states, the attention is that of their positions.

    How this differs from the paper: the paper's equation has the norm of the difference. This is
    its square, averaged over positions, as in the authors' code, where its weight is 1000.

    Args:
        teacher_layer_names: Names of layers of the teacher that output feature maps or hidden
            states, a list, or one name; `"model/layer"` for those of nested models. `None` finds
            one of each resolution, by `l2rkd_tf.methods.find_layers`.
        student_layer_names: Names of as many layers of the student, or `None`.
        power: Number of at least 1; higher ones emphasize the positions of the strongest
            activations.

    Raises:
        ValueError: If a layer name is not a string, a number is out of range, or features are not
            maps or hidden states of known size.

    Example:
        >>> method = AttentionTransfer("block2", "block2")
        >>> teacher = tf.constant([[[[3.0, 4.0], [0.0, 0.0]]]])
        >>> student = tf.constant([[[[0.0], [7.0]]]])
        >>> method.per_example([teacher], [student]).numpy().tolist()
        [1.0]

    Reference: Zagoruyko and Komodakis, Paying More Attention to Attention (arXiv:1612.03928),
    section 3.1, equation 2.
    """

    default_weight = 1000.0

    def __init__(
        self,
        teacher_layer_names: Sequence[str] | str | None = None,
        student_layer_names: Sequence[str] | str | None = None,
        *,
        power: float = 2.0,
    ) -> None:
        super().__init__(teacher_layer_names, student_layer_names)
        if not is_positive_float32(power) or power < 1:
            raise ValueError(
                "`power` must be a number of at least 1: below it, the gradient at a feature of 0 "
                f"is infinite. Received: power={power!r}"
            )
        self.power = float(power)

    def per_layer(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """Mean squared difference of attention maps; arguments as in `per_example`."""
        teacher, student = (self._attention(maps) for maps in match_sizes(teacher, student))
        return tf.reduce_mean(tf.math.squared_difference(teacher, student), axis=-1)

    def _attention(self, maps):
        # Without scaling, powers of small or large features leave the range of float32.
        sizes = _scaled(tf.abs(maps), axis=list(range(1, maps.shape.rank)))
        attention = tf.reduce_sum(tf.pow(_flat(sizes), self.power), axis=-1)
        return tf.math.l2_normalize(attention, axis=-1)

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {"power": self.power}


@keras.saving.register_keras_serializable("l2rkd_tf")
class NeuronSelectivityTransfer(LayersMethod):
    """Neuron selectivity transfer (NST): matches the spatial patterns of channels.

    The pattern of a channel is its values at all spatial positions of an example's map, scaled to
    unit Euclidean length. The loss is the squared maximum mean discrepancy, with the kernel
    `k(a, b) = (a . b)^2`, between the patterns of the teacher's `m` channels and those of the
    student's `n`:

    ```
    loss = sum over pairs of layers of
        mean_{i, j} k(t_i, t_j) + mean_{i, j} k(s_i, s_j) - 2 mean_{i, j} k(t_i, s_j)
    ```

    for each example. Numbers of channels may differ; the order of channels and factors of single
    channels, of either sign, have no effect. A channel of zeros has a pattern of zeros. The larger
    maps are first pooled by `match_sizes`.

    How this differs from the paper: the authors' code compares only the last map, with the weight
    50; `None` uses a map of each resolution, as later studies do with the same weight.

    Args:
        teacher_layer_names: Names of layers of the teacher that output feature maps or hidden
            states, a list, or one name; `"model/layer"` for those of nested models. `None` finds
            one of each resolution, by `l2rkd_tf.methods.find_layers`.
        student_layer_names: Names of as many layers of the student, or `None`.

    Raises:
        ValueError: If a layer name is not a string, a number is out of range, or features are not
            maps or hidden states of known size.

    Example:
        >>> method = NeuronSelectivityTransfer("block3", "block3")
        >>> teacher = tf.constant([[[[1.0], [0.0]]]])
        >>> student = tf.constant([[[[5.0, 0.0], [0.0, 5.0]]]])
        >>> method.per_example([teacher], [student]).numpy().tolist()
        [0.5]

    Reference: Huang and Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer
    (arXiv:1707.01219), section 4, the polynomial kernel with d = 2 and c = 0.
    """

    default_weight = 50.0

    def per_layer(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """Squared maximum mean discrepancy of patterns; arguments as in `per_example`."""
        teacher, student = match_sizes(teacher, student)
        return _squared_discrepancy(_patterns(teacher), _patterns(student))


@keras.saving.register_keras_serializable("l2rkd_tf")
class FSP(LayersMethod):
    """Flow of solution procedure (FSP): matches how features change from layer to layer.

    The flow between layer `l` and layer `l + 1` of one model is the matrix of inner products of
    their channels:

    ```
    G_l[i, j] = mean over positions of F_l[x, y, i] * F_{l + 1}[x, y, j]
    loss = sum_l mean_{i, j} (G_l(teacher)[i, j] - G_l(student)[i, j])^2
    ```

    Teacher and student must have the same numbers of channels at the compared layers; the sizes
    of their maps may differ. Of two layers of one model, the larger map is pooled by
    `match_sizes`.

    How this differs from the paper: the paper uses max pooling and the sum over `i, j`; average
    pooling and the mean follow the usual reimplementations. There and in the paper, only this loss
    trains the student in a first stage, before the labels do; the default weight, 1, is that of the
    first stage.

    Args:
        teacher_layer_names: Names of at least two layers of the teacher that output feature maps or
            hidden states, a list, from input to output. `None` finds one of each resolution, by
            `l2rkd_tf.methods.find_layers`.
        student_layer_names: Names of as many layers of the student, or `None`.

    Raises:
        ValueError: If a layer name is not a string, fewer than two layers are given or found,
            features are not maps or hidden states of known size, or teacher and student differ in
            channels.

    Example:
        >>> method = FSP(["block1", "block2"], ["block1", "block2"])
        >>> teacher = [tf.ones((1, 4, 4, 3)), tf.ones((1, 2, 2, 5))]
        >>> student = [tf.ones((1, 4, 4, 3)), tf.zeros((1, 2, 2, 5))]
        >>> method.per_example(teacher, student).numpy().tolist()
        [1.0]

    Reference: Yim, Joo, Bae and Kim, A Gift from Knowledge Distillation: Fast Optimization, Network
    Minimization and Transfer Learning (CVPR 2017), equations 1 and 2.
    """

    def __init__(
        self,
        teacher_layer_names: Sequence[str] | str | None = None,
        student_layer_names: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__(teacher_layer_names, student_layer_names)
        for layers in (self.teacher_layers, self.student_layers):
            _check_number_of_layers(layers or None)

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Finds the layers if no names were given."""
        super().validate_model_compatibility(teacher, student)
        _check_number_of_layers(self.teacher_layers)

    def per_example(self, teacher: Any, student: Any) -> tf.Tensor:
        """The sum over consecutive layers of the mean squared difference of FSP matrices."""
        teacher, student = keras.tree.flatten(teacher), keras.tree.flatten(student)
        _check_number_of_layers([tuple(maps.shape) for maps in teacher])
        pairs = zip(_flows(teacher), _flows(student), strict=True)
        return tf.add_n([_mean_squared_difference(*pair) for pair in pairs])


def _scaled(features, axis):
    """Features scaled to a largest absolute value of 1, for functions that do not depend on scale.

    The scale counts as constant: if it has no effect, neither does its gradient.
    """
    peak = tf.reduce_max(tf.abs(features), axis=axis, keepdims=True)
    return features / tf.maximum(tf.stop_gradient(peak), _SMALLEST_FEATURE)


def _flat(maps):
    """All positions in one axis, shape `(batch, positions, channels)`."""
    if maps.shape.rank == 3:
        return maps
    return tf.reshape(maps, [-1, maps.shape[1:-1].num_elements(), maps.shape[-1]])


def _patterns(maps):
    """Channels as vectors of unit length, shape `(batch, positions, channels)`."""
    return tf.math.l2_normalize(_scaled(_flat(maps), axis=1), axis=1)


def _squared_discrepancy(teacher, student):
    """`|sum_i w_i z_i z_i^T|^2` over the patterns `z_i` of both, `w` = 1 / m or -1 / n.

    As a square of shape `(positions, positions)`, or from the inner products of all patterns,
    whichever matrix is smaller. They agree, since `(a . b)^2` is the inner product of `a a^T` and
    `b b^T`.
    """
    patterns = tf.concat([teacher, student], axis=-1)
    weights = np.repeat(
        np.float32([1.0 / teacher.shape[-1], -1.0 / student.shape[-1]]),
        [teacher.shape[-1], student.shape[-1]],
    )
    positions, channels = patterns.shape[1:]
    if positions is not None and positions <= channels:
        difference = tf.einsum("bpc,bqc->bpq", patterns * weights, patterns)
        return tf.reduce_sum(tf.square(difference), axis=[1, 2])
    products = tf.einsum("bpc,bpd->bcd", patterns, patterns)
    return tf.einsum("bcd,c,d->b", tf.square(products), weights, weights)


def _flows(layers):
    """FSP matrices of consecutive layers, shape `(batch, channels, next channels)`."""
    flows = []
    for maps, next_maps in zip(layers[:-1], layers[1:], strict=True):
        maps, next_maps = map(_flat, match_sizes(maps, next_maps))
        positions = tf.cast(tf.shape(maps)[1], tf.float32)
        flows.append(tf.einsum("bpi,bpj->bij", maps, next_maps) / positions)
    return flows


def _mean_squared_difference(teacher, student):
    if teacher.shape[1:] != student.shape[1:]:
        raise ValueError(
            "Teacher and student must have the same numbers of channels at the compared layers. "
            f"Received: from layer to layer, {tuple(teacher.shape[1:])} channels of the teacher "
            f"and {tuple(student.shape[1:])} of the student."
        )
    return tf.reduce_mean(tf.math.squared_difference(teacher, student), axis=[1, 2])


def _check_number_of_layers(layers):
    if layers is not None and len(layers) < 2:
        raise ValueError(
            "`teacher_layer_names` and `student_layer_names` must name at least two layers, since "
            f"FSP compares what happens between layers of one model. Received: {list(layers)}"
        )
