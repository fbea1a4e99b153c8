"""Small convolutional networks."""

from collections.abc import Sequence

import keras

from l2rkd_tf.models.arguments import check_dropout, check_input_shape, check_positive_integer
from l2rkd_tf.models.layers import CHANNELS_LAST, max_pool
from l2rkd_tf.utils.types import Shape
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["convnet"]


def convnet(
    input_shape: Shape,
    num_classes: int,
    widths: Sequence[int] = (16, 32),
    *,
    convs_per_block: int = 1,
    dropout: float = 0.0,
    synchronized: bool = False,
    name: str = "convnet",
) -> keras.Model:
    """Builds a plain convolutional classifier, small enough for a phone.

    Each block is `convs_per_block` times a 3x3 convolution, batch normalization and a ReLU, with
    2x2 max-pooling between blocks, and global average pooling and a dense layer at the end.

    The layers to name in feature distillation are `block1`, `block2`, ... (the last ReLU of each
    block, before pooling), `features` (after global pooling) and `logits`.

    Args:
        input_shape: `(height, width, channels)` of an image. Height and width may be None.
        num_classes: Number of logits.
        widths: Number of filters of each block.
        convs_per_block: Convolutions in each block.
        dropout: Fraction of the pooled features that is dropped in training, in `[0, 1)`.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If `widths` is empty, a number is out of range, or the image is too small for
            the pooling.

    Example:
        >>> convnet((8, 8, 1), num_classes=10).count_params()
        5274
    """
    check_positive_integer("num_classes", num_classes)
    check_positive_integer("convs_per_block", convs_per_block)
    _check_widths(widths)
    check_dropout(dropout)
    check_input_shape(input_shape, len(widths) - 1, "pass fewer `widths` or larger images")
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for block, width in enumerate(widths, start=1):
        if block > 1:
            x = max_pool(x, name=f"block{block - 1}_pool")
        for conv in range(1, convs_per_block + 1):
            x = _conv_norm_relu(x, width, synchronized, **_names(block, conv, convs_per_block))
    x = keras.layers.GlobalAveragePooling2D(CHANNELS_LAST, name="features")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def _names(block, conv, convs_per_block):
    number = "" if convs_per_block == 1 else str(conv)
    return {
        "conv": f"block{block}_conv{number}",
        "norm": f"block{block}_norm{number}",
        "relu": f"block{block}" if conv == convs_per_block else f"block{block}_relu{number}",
    }


def _conv_norm_relu(x, width, synchronized, *, conv, norm, relu):
    x = keras.layers.Conv2D(
        width,
        3,
        padding="same",
        data_format=CHANNELS_LAST,
        use_bias=False,
        kernel_initializer="he_normal",
        name=conv,
    )(x)
    x = keras.layers.BatchNormalization(synchronized=synchronized, name=norm)(x)
    return keras.layers.ReLU(name=relu)(x)


def _check_widths(widths):
    if (
        not isinstance(widths, list | tuple)
        or not widths
        or not all(map(is_positive_integer, widths))
    ):
        raise ValueError(
            "`widths` must be a list or tuple with the number of filters of each block, such as "
            f"(16, 32). Received: widths={widths!r}"
        )
