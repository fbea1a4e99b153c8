"""Residual networks for small images."""

from typing import Any

import keras

from l2rkd_tf.models.arguments import check_network, check_positive_integer
from l2rkd_tf.models.layers import (
    classifier,
    conv_norm,
    conv_norm_relu,
    fan_in_uniform,
    stack,
    stages,
)
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["is_resnet_depth", "resnet", "resnet50"]


def resnet(
    input_shape: Shape,
    num_classes: int,
    depth: int,
    width_multiplier: int = 1,
    *,
    synchronized: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds a residual network for small images: resnet20, resnet56, resnet8x4 and others.

    A 3x3 convolution, three stages of `(depth - 2) / 6` units of two 3x3 convolutions, global
    average pooling and a dense layer. The first unit of the second and third stage halves the
    image. A shortcut that changes its shape is a 1x1 convolution with batch normalization.

    The stages have `16, 32, 64` channels times `width_multiplier`. The first convolution has 16
    channels, or 32 with any multiplier, as in the published x4 networks.

    The layers to name in feature distillation are `block1`, `block2`, `block3` (the last ReLU of
    each stage), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        depth: Number of layers with weights, 6n + 2: 8, 14, 20, ..., 110, ...
        width_multiplier: Channel multiplier of the stages.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model, such as `"resnet8x4"` if None.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `input_shape` is not such a shape or a number is not as above.

    Example:
        >>> model = resnet((32, 32, 3), num_classes=100, depth=8)
        >>> model.get_layer("block3").output.shape
        (None, 8, 8, 64)

    Reference: He et al., Deep residual learning for image recognition, section 4.2
    (arXiv:1512.03385), with the shortcuts, the x4 widths and the initialization of the code of Tian
    et al. (arXiv:1910.10699).
    """
    check_network(input_shape, num_classes, synchronized)
    check_positive_integer("width_multiplier", width_multiplier)
    if not is_resnet_depth(depth):
        raise ValueError(
            "`depth` must be 6n + 2 and at least 8: 8, 14, 20, 26, 32, ..., 56, ..., 110. "
            f"Received: depth={depth!r}"
        )
    suffix = "" if width_multiplier == 1 else f"x{width_multiplier}"
    widths = [width * width_multiplier for width in (16, 32, 64)]
    return _network(
        input_shape,
        num_classes,
        stem=16 if width_multiplier == 1 else 32,
        blocks=stages(widths, [(depth - 2) // 6] * 3, (1, 2, 2)),
        unit=_basic_unit,
        synchronized=synchronized,
        name=name or f"resnet{depth}{suffix}",
    )


def resnet50(
    input_shape: Shape, num_classes: int, *, synchronized: bool = False, name: str = "ResNet50"
) -> keras.Model:
    """Builds ResNet-50 for small images, a teacher.

    As for large images, except for the stem: one 3x3 convolution of stride 1 without pooling. For
    images of 32x32 pixels, the maps of its four stages have 32, 16, 8 and 4 pixels a side.

    The layers to name in feature distillation are `block1`, ..., `block4` (the last ReLU of each
    stage), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `input_shape` is not such a shape or a number is not as above.

    Example:
        >>> resnet50((8, 8, 3), num_classes=10).get_layer("block4").output.shape
        (None, 1, 1, 2048)

    Reference: He et al., Deep residual learning for image recognition (arXiv:1512.03385), as in the
    code of Tian et al. (arXiv:1910.10699).
    """
    check_network(input_shape, num_classes, synchronized)
    return _network(
        input_shape,
        num_classes,
        stem=64,
        blocks=stages((64, 128, 256, 512), (3, 4, 6, 3), (1, 2, 2, 2)),
        unit=_bottleneck_unit,
        synchronized=synchronized,
        name=name,
    )


def is_resnet_depth(depth: Any) -> bool:
    """Whether `resnet` has networks of this depth."""
    return is_positive_integer(depth) and depth >= 8 and (depth - 2) % 6 == 0


def _network(input_shape, num_classes, *, stem, blocks, unit, synchronized, name):
    inputs = keras.Input(input_shape, name="image")
    x = conv_norm_relu(inputs, stem, prefix="stem", synchronized=synchronized)
    x = stack(x, blocks, unit, synchronized=synchronized)
    kernel, bias = (fan_in_uniform(1, x.shape[-1], num_classes) for _ in range(2))
    return keras.Model(inputs, classifier(x, num_classes, kernel, bias), name=name)


def _basic_unit(x, filters, strides, *, prefix, name, synchronized):
    options = {"prefix": prefix, "synchronized": synchronized}
    y = conv_norm_relu(x, filters, 3, strides, label=1, **options)
    y = conv_norm(y, filters, label=2, **options)
    return _joined(x, y, strides, name=name, **options)


def _bottleneck_unit(x, filters, strides, *, prefix, name, synchronized):
    options = {"prefix": prefix, "synchronized": synchronized}
    y = conv_norm_relu(x, filters, 1, label=1, **options)
    y = conv_norm_relu(y, filters, 3, strides, label=2, **options)
    y = conv_norm(y, 4 * filters, 1, label=3, **options)
    return _joined(x, y, strides, name=name, **options)


def _joined(x, y, strides, *, prefix, name, synchronized):
    """Adds shortcut and branch, and applies a ReLU."""
    filters = y.shape[-1]
    if strides > 1 or x.shape[-1] != filters:
        shortcut = f"{prefix}_shortcut"
        x = conv_norm(x, filters, 1, strides, prefix=shortcut, synchronized=synchronized)
    y = keras.layers.Add(name=f"{prefix}_add")([x, y])
    return keras.layers.ReLU(name=name)(y)
