"""VGG networks for small images."""

import keras

from l2rkd_tf.models.arguments import check_network
from l2rkd_tf.models.layers import classifier, conv, max_pool, norm_relu
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["VGG_DEPTHS", "vgg"]

_WIDTHS = (64, 128, 256, 512, 512)
# Number of convolutions of each block.
_CONVS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
#: Depths that `vgg` can build.
VGG_DEPTHS = tuple(_CONVS)


def vgg(
    input_shape: Shape,
    num_classes: int,
    depth: int,
    *,
    synchronized: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds a VGG network for small images, with batch normalization: vgg8, vgg13 and others.

    Five blocks of 3x3 convolutions, each with batch normalization and a ReLU. There is 2x2
    max-pooling between the first four, but not between the last two, followed by global average
    pooling and one dense layer. `depth` is the usual number in the name; vgg8 has six layers with
    weights, because two of VGG's three dense layers are omitted.

    The layers to name in feature distillation are `block1`, ..., `block5` (the last ReLU of each
    block, before pooling), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        depth: 8, 11, 13, 16 or 19.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model, such as `"vgg13"` if None.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `depth` is not one of these, `num_classes` is not a positive integer, or the
            image is too small for the pooling.

    Example:
        >>> vgg((32, 32, 3), num_classes=100, depth=8).get_layer("block5").output.shape
        (None, 4, 4, 512)

    Reference: Simonyan and Zisserman, Very deep convolutional networks (arXiv:1409.1556), as in the
    code of Tian et al. (arXiv:1910.10699) for images of 32x32 pixels.
    """
    check_network(input_shape, num_classes, synchronized, num_pools=3)
    if not is_positive_integer(depth) or depth not in _CONVS:
        raise ValueError(f"`depth` must be one of {VGG_DEPTHS}. Received: depth={depth!r}")
    inputs = x = keras.Input(input_shape, name="image")
    for block, (width, convs) in enumerate(zip(_WIDTHS, _CONVS[depth], strict=True), start=1):
        if 1 < block < 5:
            x = max_pool(x, name=f"block{block - 1}_pool")
        for number in range(1, convs + 1):
            end = f"block{block}" if number == convs else None
            x = _conv_norm_relu(x, width, f"block{block}", number, end, synchronized)
    kernel = keras.initializers.RandomNormal(stddev=0.01)
    return keras.Model(inputs, classifier(x, num_classes, kernel), name=name or f"vgg{depth}")


def _conv_norm_relu(x, width, prefix, number, name, synchronized):
    """Unlike in the other networks, the convolutions have a bias."""
    x = conv(x, width, name=f"{prefix}_conv{number}", use_bias=True)
    return norm_relu(x, prefix=prefix, label=number, name=name, synchronized=synchronized)
