"""Wide residual networks."""

from typing import Any

import keras

from l2rkd_tf.models.arguments import check_dropout, check_network, check_positive_integer
from l2rkd_tf.models.layers import classifier, conv, fan_in_uniform, norm_relu, stack, stages
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["is_wide_resnet_depth", "wide_resnet"]


def wide_resnet(
    input_shape: Shape,
    num_classes: int,
    depth: int,
    width: int,
    dropout: float = 0.0,
    *,
    synchronized: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds a wide residual network: WRN-40-2, WRN-16-1 and others.

    A 3x3 convolution, three stages of `(depth - 4) / 6` units, batch normalization, a ReLU, global
    average pooling and a dense layer. A unit is batch normalization, a ReLU and a 3x3 convolution,
    twice, added to its input. The stages have `16, 32, 64` channels times `width`; the first unit
    of the second and third stage halves the image.

    The layers to name in feature distillation are `block1`, `block2`, `block3`, `features` (after
    global pooling) and `logits`. A block is the sum at the end of a stage, *before* the batch
    normalization and ReLU that follow: it has negative values, unlike the blocks of the other
    residual networks. These are the features that published methods compare.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        depth: Number of layers with weights, 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: Channel multiplier.
        dropout: Fraction of the values between the two convolutions of a unit that is dropped in
            training, in `[0, 1)`.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model, such as `"wrn_40_2"` if None.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `depth` is not 6n + 4 with n of at least 1, `width` or `num_classes` is not a
            positive integer, or `dropout` is not in `[0, 1)`.

    Example:
        >>> model = wide_resnet((32, 32, 3), num_classes=100, depth=10, width=2)
        >>> model.get_layer("block3").output.shape
        (None, 8, 8, 128)

    Reference: Zagoruyko and Komodakis, Wide residual networks (arXiv:1605.07146), as in the code of
    Tian et al. (arXiv:1910.10699).
    """
    check_network(input_shape, num_classes, synchronized)
    check_positive_integer("width", width)
    check_dropout(dropout)
    if not is_wide_resnet_depth(depth):
        raise ValueError(
            "`depth` must be 6n + 4 and at least 10: 10, 16, 22, 28, 34, 40, ... "
            f"Received: depth={depth!r}"
        )
    blocks = stages((16 * width, 32 * width, 64 * width), [(depth - 4) // 6] * 3, (1, 2, 2))
    inputs = keras.Input(input_shape, name="image")
    x = conv(inputs, 16, name="stem_conv")
    x = stack(x, blocks, _unit, dropout=dropout, synchronized=synchronized)
    x = norm_relu(x, prefix="last", synchronized=synchronized)
    logits = classifier(x, num_classes, fan_in_uniform(1, x.shape[-1], num_classes))
    return keras.Model(inputs, logits, name=name or f"wrn_{depth}_{width}")


def is_wide_resnet_depth(depth: Any) -> bool:
    """Whether `wide_resnet` has networks of this depth."""
    return is_positive_integer(depth) and depth >= 10 and (depth - 4) % 6 == 0


def _unit(x, filters, strides, *, prefix, name, dropout, synchronized):
    active = norm_relu(x, prefix=prefix, label=1, synchronized=synchronized)
    y = conv(active, filters, 3, strides, name=f"{prefix}_conv1")
    y = norm_relu(y, prefix=prefix, label=2, synchronized=synchronized)
    if dropout:
        y = keras.layers.Dropout(dropout, name=f"{prefix}_dropout")(y)
    y = conv(y, filters, name=f"{prefix}_conv2")
    if x.shape[-1] != filters:
        x = conv(active, filters, 1, strides, name=f"{prefix}_shortcut")
    return keras.layers.Add(name=name)([x, y])
