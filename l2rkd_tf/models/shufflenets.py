"""ShuffleNets for small images."""

import functools

import keras

from l2rkd_tf.models.arguments import check_network
from l2rkd_tf.models.layers import (
    average_pool,
    channel_shuffle,
    classifier,
    conv_norm_relu,
    depthwise_norm,
    fan_in_uniform,
    grouped_conv,
    norm,
    norm_relu,
    some_channels,
    stack,
    stages,
)
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_number

__all__ = ["shufflenet_v1", "shufflenet_v2"]

_STEM = 24
_COUNTS = (4, 8, 4)
_STRIDES = (2, 2, 2)
_GROUPS = 3
_WIDTHS_V1 = (240, 480, 960)
# Channels of the stages and of the last convolution, by width: the paper's table 5.
_WIDTHS_V2 = {
    0.5: (48, 96, 192, 1024),
    1: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2: (244, 488, 976, 2048),
}

# The published code uses PyTorch's default initialization.
_conv_norm_relu = functools.partial(conv_norm_relu, initializer=fan_in_uniform)
_depthwise_norm = functools.partial(depthwise_norm, initializer=fan_in_uniform)
_grouped_conv = functools.partial(grouped_conv, initializer=fan_in_uniform)


def shufflenet_v1(
    input_shape: Shape, num_classes: int, *, synchronized: bool = False, name: str = "ShuffleNetV1"
) -> keras.Model:
    """Builds ShuffleNet with 3 groups for small images.

    A 1x1 convolution with 24 filters and three stages of 4, 8 and 4 units, with 240, 480 and 960
    channels; each halves the image. A unit is a grouped 1x1 convolution, a channel shuffle, a
    depthwise 3x3 convolution and a grouped 1x1 convolution, added to its input; a unit that halves
    the image is concatenated with its input's averages instead.

    The layers to name in feature distillation are `block1`, `block2`, `block3` (the last ReLU of
    each stage), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image.
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
        >>> shufflenet_v1((32, 32, 3), num_classes=100).get_layer("block3").output.shape
        (None, 4, 4, 960)

    Reference: Zhang et al., ShuffleNet (arXiv:1707.01083), as in the code of Tian et al.
    (arXiv:1910.10699), where a ReLU follows the depthwise convolution.
    """
    blocks = stages(_WIDTHS_V1, _COUNTS, _STRIDES)
    inputs, x = _stem(input_shape, num_classes, synchronized)
    x = stack(x, blocks, _unit_v1, synchronized=synchronized)
    return _model(inputs, x, num_classes, name)


def shufflenet_v2(
    input_shape: Shape,
    num_classes: int,
    width: float = 1,
    *,
    synchronized: bool = False,
    name: str = "ShuffleNetV2",
) -> keras.Model:
    """Builds ShuffleNetV2 for small images.

    A 1x1 convolution with 24 filters, three stages of 4, 8 and 4 units, each of which halves the
    image, and a 1x1 convolution. A unit keeps half of its channels, passes the others through a
    1x1, a depthwise 3x3 and a 1x1 convolution, and shuffles all of them; a unit that halves the
    image has two branches.

    The layers to name in feature distillation are `block1`, `block2`, `block3` (the last channel
    shuffle of each stage, after the ReLU), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image.
        num_classes: Number of logits.
        width: Approximate channel multiplier: 0.5, 1, 1.5 or 2.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `input_shape` is not such a shape or a number is not as above.

    Example:
        >>> shufflenet_v2((32, 32, 3), num_classes=100).get_layer("block3").output.shape
        (None, 4, 4, 464)

    Reference: Ma et al., ShuffleNet V2 (arXiv:1807.11164), as in the code of Tian et al.
    (arXiv:1910.10699).
    """
    if not is_number(width) or width not in _WIDTHS_V2:
        raise ValueError(f"`width` must be one of {tuple(_WIDTHS_V2)}. Received: width={width!r}")
    *widths, last = _WIDTHS_V2[width]
    inputs, x = _stem(input_shape, num_classes, synchronized)
    x = stack(x, stages(widths, _COUNTS, _STRIDES), _unit_v2, synchronized=synchronized)
    x = _conv_norm_relu(x, last, 1, prefix="last", synchronized=synchronized)
    return _model(inputs, x, num_classes, name)


def _stem(input_shape, num_classes, synchronized):
    check_network(input_shape, num_classes, synchronized, fixed_size=True)
    inputs = keras.Input(input_shape, name="image")
    return inputs, _conv_norm_relu(inputs, _STEM, 1, prefix="stem", synchronized=synchronized)


def _model(inputs, x, num_classes, name):
    kernel, bias = (fan_in_uniform(1, x.shape[-1], num_classes) for _ in range(2))
    return keras.Model(inputs, classifier(x, num_classes, kernel, bias), name=name)


def _unit_v1(x, filters, strides, *, prefix, name, synchronized):
    options = {"prefix": prefix, "synchronized": synchronized}
    # A unit that is concatenated with its input only adds the missing channels.
    filters = filters - x.shape[-1] if strides > 1 else filters
    groups = 1 if x.shape[-1] == _STEM else _GROUPS
    y = _grouped_conv(x, filters // 4, groups, name=f"{prefix}_conv1")
    y = norm_relu(y, label=1, **options)
    if groups > 1:
        y = channel_shuffle(y, groups, prefix=prefix, name=f"{prefix}_shuffle_join")
    y = _depthwise_norm(y, strides, label=2, **options)
    y = keras.layers.ReLU(name=f"{prefix}_relu2")(y)
    y = _grouped_conv(y, filters, _GROUPS, name=f"{prefix}_conv3")
    y = norm(y, name=f"{prefix}_norm3", synchronized=synchronized)
    if strides > 1:
        x = average_pool(x, name=f"{prefix}_pool")
        y = keras.layers.Concatenate(name=f"{prefix}_concat")([y, x])
    else:
        y = keras.layers.Add(name=f"{prefix}_add")([y, x])
    return keras.layers.ReLU(name=name)(y)


def _unit_v2(x, filters, strides, *, prefix, name, synchronized):
    options = {"prefix": prefix, "synchronized": synchronized}
    half = filters // 2
    if strides > 1:
        left = _depthwise_norm(x, strides, label="_left1", **options)
        left = _conv_norm_relu(left, half, 1, label="_left2", **options)
        right = x
    else:
        left = some_channels(x, 0, half, name=f"{prefix}_left")
        right = some_channels(x, half, half, name=f"{prefix}_right")
    right = _conv_norm_relu(right, half, 1, label=1, **options)
    right = _depthwise_norm(right, strides, label=2, **options)
    right = _conv_norm_relu(right, half, 1, label=3, **options)
    x = keras.layers.Concatenate(name=f"{prefix}_concat")([left, right])
    return channel_shuffle(x, 2, prefix=prefix, name=name)
