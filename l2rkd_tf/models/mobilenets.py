"""MobileNetV2 for small images."""

import keras

from l2rkd_tf.models.arguments import check_network
from l2rkd_tf.models.layers import classifier, conv_norm, conv_norm_relu, depthwise_norm, stack
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_float32

__all__ = ["mobilenet_v2"]

# Channels, units, stride of the first unit and expansion, by rows of the paper's table 2, grouped
# by the layers that features are taken from.
_BLOCKS = (
    ((16, 1, 1, 1), (24, 2, 1, 6)),
    ((32, 3, 2, 6),),
    ((64, 4, 2, 6), (96, 3, 1, 6)),
    ((160, 3, 2, 6), (320, 1, 1, 6)),
)


def mobilenet_v2(
    input_shape: Shape,
    num_classes: int,
    width: float = 0.5,
    *,
    synchronized: bool = False,
    name: str = "MobileNetV2",
) -> keras.Model:
    """Builds MobileNetV2 for small images.

    As for large images, except that the second stage keeps the image's size, activations are plain
    ReLUs, and the first unit also has a 1x1 convolution before its depthwise one. The last maps are
    16 times smaller than the image.

    The layers to name in feature distillation are `block1`, ..., `block4` (the ends of the stages
    with 24, 32, 96 and 320 channels times `width`; the last output of each resolution), `features`
    (after global pooling) and `logits`. A block is the output of a linear bottleneck: no ReLU
    follows it, so it has negative values.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        width: Channel multiplier, at least 1/16; 0.5 for the usual student. The last convolution
            has at least 1280 channels.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `input_shape` is not such a shape, `num_classes` is not a positive integer,
            `width` is below 1/16, or `synchronized` is not a bool.

    Example:
        >>> mobilenet_v2((32, 32, 3), num_classes=100).get_layer("block4").output.shape
        (None, 2, 2, 160)

    Reference: Sandler et al., MobileNetV2 (arXiv:1801.04381), as in the code of Tian et al.
    (arXiv:1910.10699).
    """
    check_network(input_shape, num_classes, synchronized)
    if not is_positive_float32(width) or width < 1 / 16:
        raise ValueError(
            "`width` must be a number of at least 1/16, so that every layer has at least one "
            f"channel. Received: width={width!r}"
        )
    inputs = keras.Input(input_shape, name="image")
    x = conv_norm_relu(inputs, int(32 * width), 3, 2, prefix="stem", synchronized=synchronized)
    x = stack(x, _units(width), _unit, synchronized=synchronized)
    x = conv_norm_relu(x, int(1280 * max(width, 1)), 1, prefix="last", synchronized=synchronized)
    logits = classifier(x, num_classes, keras.initializers.RandomNormal(stddev=0.01))
    return keras.Model(inputs, logits, name=name)


def _units(width):
    """Filters, strides and expansion of the units of each block."""
    return [
        [
            (int(channels * width), stride if number == 0 else 1, expansion)
            for channels, count, stride, expansion in rows
            for number in range(count)
        ]
        for rows in _BLOCKS
    ]


def _unit(x, filters, strides, expansion, *, prefix, name, synchronized):
    """Inverted residual: expands, filters by depthwise convolution, and projects linearly."""
    options = {"prefix": prefix, "synchronized": synchronized}
    adds = strides == 1 and x.shape[-1] == filters
    y = conv_norm_relu(x, expansion * x.shape[-1], 1, label=1, **options)
    y = depthwise_norm(y, strides, label=2, **options)
    y = keras.layers.ReLU(name=f"{prefix}_relu2")(y)
    y = conv_norm(y, filters, 1, label=3, name=None if adds else name, **options)
    return keras.layers.Add(name=name)([x, y]) if adds else y
