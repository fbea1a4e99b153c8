"""Building blocks of the standard architectures, initialized and padded as in PyTorch.

The published code of these networks uses PyTorch, whose defaults differ from those of Keras:

- In PyTorch, a convolution of stride 2 pads both sides. Keras pads even sizes only at the end, and
  so uses other pixels: here a `ZeroPadding2D` comes first.
- Batch normalization has epsilon 1e-5 and updates its averages by a tenth: momentum 0.9 in Keras.
- Normal weights are not truncated.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras

__all__ = [
    "CHANNELS_LAST",
    "average_pool",
    "channel_shuffle",
    "classifier",
    "conv",
    "conv_norm",
    "conv_norm_relu",
    "depthwise_norm",
    "fan_in_uniform",
    "fan_out_normal",
    "grouped_conv",
    "max_pool",
    "norm",
    "norm_relu",
    "some_channels",
    "stack",
    "stages",
]

#: Of all images here, whatever `keras.config.image_data_format()` says.
CHANNELS_LAST = "channels_last"
# Of a kernel: a function of its size, input channels and output channels.
Initializer: TypeAlias = Callable[[int, int, int], keras.initializers.Initializer]


def fan_out_normal(size: int, inputs: int, outputs: int) -> keras.initializers.Initializer:
    """Normal weights with variance `2 / (size^2 * outputs)`, He et al. (arXiv:1502.01852)."""
    del inputs
    return keras.initializers.RandomNormal(stddev=math.sqrt(2 / (size**2 * outputs)))


def fan_in_uniform(size: int, inputs: int, outputs: int) -> keras.initializers.Initializer:
    """Weights uniform within ± `1 / sqrt(size^2 * inputs)`: PyTorch's default."""
    del outputs
    bound = 1 / math.sqrt(size**2 * inputs)
    return keras.initializers.RandomUniform(-bound, bound)


def conv(
    x: keras.KerasTensor,
    filters: int,
    size: int = 3,
    strides: int = 1,
    *,
    name: str,
    initializer: Initializer = fan_out_normal,
    use_bias: bool = False,
) -> keras.KerasTensor:
    """Convolution that pads `size // 2` pixels at each side.

    Args:
        x: Symbolic tensor of shape `(batch, height, width, channels)`.
        filters: Number of filters.
        size: Odd height and width of the kernel.
        strides: 1 or 2.
        name: Name of the layer; that of the padding, if any, ends in `_pad`.
        initializer: Function of the kernel's size, input and output channels.
        use_bias: Whether a bias is added.

    Returns:
        Symbolic tensor of shape `(batch, ceil(height / strides), ceil(width / strides), filters)`.
    """
    kernel = initializer(size, x.shape[-1], filters)
    x, padding = _padded(x, size, strides, name)
    layer = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding,
        CHANNELS_LAST,
        use_bias=use_bias,
        kernel_initializer=kernel,
        name=name,
    )
    return layer(x)


def grouped_conv(
    x: keras.KerasTensor,
    filters: int,
    groups: int,
    *,
    name: str,
    initializer: Initializer = fan_out_normal,
) -> keras.KerasTensor:
    """1x1 convolution in which each group of input channels has its own group of filters.

    One layer per group: Keras compiles every `Conv2D(groups=...)` with XLA, which makes a training
    step of ShuffleNet four times slower on a CPU.
    """
    if groups == 1:
        return conv(x, filters, 1, name=name, initializer=initializer)
    size = x.shape[-1] // groups
    parts = [
        some_channels(x, group * size, size, name=f"{name}_input{group + 1}")
        for group in range(groups)
    ]
    outputs = [
        conv(part, filters // groups, 1, name=f"{name}_group{number}", initializer=initializer)
        for number, part in enumerate(parts, start=1)
    ]
    return keras.layers.Concatenate(name=name)(outputs)


def some_channels(x: keras.KerasTensor, start: int, number: int, *, name: str) -> keras.KerasTensor:
    """`number` channels from `start` on."""
    # Declared as channels-first, the layer crops the last two axes.
    crop = (start, x.shape[-1] - start - number)
    layer = keras.layers.Cropping2D(((0, 0), crop), data_format="channels_first", name=name)
    return layer(x)


def channel_shuffle(
    x: keras.KerasTensor, groups: int, *, prefix: str, name: str
) -> keras.KerasTensor:
    """Interleaves the channels of the groups (ShuffleNet, arXiv:1707.01083).

    Height and width must be known. They are merged into one axis in between, since some LiteRT
    delegates do not support tensors of rank 5.
    """
    _, height, width, channels = x.shape
    x = keras.layers.Reshape(
        (height * width, groups, channels // groups), name=f"{prefix}_shuffle_split"
    )(x)
    x = keras.layers.Permute((1, 3, 2), name=f"{prefix}_shuffle")(x)
    return keras.layers.Reshape((height, width, channels), name=name)(x)


def average_pool(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Average pooling of 3x3 pixels with stride 2 and zero padding."""
    x, padding = _padded(x, 3, 2, name)
    return keras.layers.AveragePooling2D(3, 2, padding, CHANNELS_LAST, name=name)(x)


def max_pool(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Max-pooling of 2x2 pixels; a last odd row or column is left out."""
    return keras.layers.MaxPooling2D(data_format=CHANNELS_LAST, name=name)(x)


def norm(x: keras.KerasTensor, *, name: str, synchronized: bool) -> keras.KerasTensor:
    """Batch normalization."""
    layer = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=synchronized, name=name
    )
    return layer(x)


def norm_relu(
    x: keras.KerasTensor,
    *,
    prefix: str,
    label: str | int = "",
    name: str | None = None,
    synchronized: bool,
) -> keras.KerasTensor:
    """Batch normalization and a ReLU."""
    x = norm(x, name=f"{prefix}_norm{label}", synchronized=synchronized)
    return keras.layers.ReLU(name=name or f"{prefix}_relu{label}")(x)


def conv_norm(
    x: keras.KerasTensor,
    filters: int,
    size: int = 3,
    strides: int = 1,
    *,
    prefix: str,
    label: str | int = "",
    name: str | None = None,
    synchronized: bool,
    initializer: Initializer = fan_out_normal,
) -> keras.KerasTensor:
    """Convolution and batch normalization, named `<prefix>_conv<label>`, `<prefix>_norm<label>`.

    Args:
        x: See `conv`.
        filters: See `conv`.
        size: See `conv`.
        strides: See `conv`.
        prefix: Beginning of the layers' names.
        label: End of the layers' names.
        name: Name of the last layer, instead of the default.
        synchronized: Whether replicas share the statistics.
        initializer: See `conv`.

    Returns:
        Symbolic tensor of the shape that `conv` returns.
    """
    x = conv(x, filters, size, strides, name=f"{prefix}_conv{label}", initializer=initializer)
    return norm(x, name=name or f"{prefix}_norm{label}", synchronized=synchronized)


def conv_norm_relu(
    x: keras.KerasTensor,
    filters: int,
    size: int = 3,
    strides: int = 1,
    *,
    prefix: str,
    label: str | int = "",
    name: str | None = None,
    synchronized: bool,
    initializer: Initializer = fan_out_normal,
) -> keras.KerasTensor:
    """Convolution, batch normalization and a ReLU, with the arguments of `conv_norm`."""
    x = conv(x, filters, size, strides, name=f"{prefix}_conv{label}", initializer=initializer)
    return norm_relu(x, prefix=prefix, label=label, name=name, synchronized=synchronized)


def depthwise_norm(
    x: keras.KerasTensor,
    strides: int,
    *,
    prefix: str,
    label: str | int = "",
    synchronized: bool,
    initializer: Initializer = fan_out_normal,
) -> keras.KerasTensor:
    """Depthwise 3x3 convolution and batch normalization."""
    name = f"{prefix}_depthwise{label}"
    # Each output has one input, unlike what Keras's initializers assume.
    kernel = initializer(3, 1, x.shape[-1])
    x, padding = _padded(x, 3, strides, name)
    layer = keras.layers.DepthwiseConv2D(
        3,
        strides,
        padding,
        data_format=CHANNELS_LAST,
        use_bias=False,
        depthwise_initializer=kernel,
        name=name,
    )
    return norm(layer(x), name=f"{prefix}_norm{label}", synchronized=synchronized)


def classifier(
    x: keras.KerasTensor,
    num_classes: int,
    kernel_initializer: keras.initializers.Initializer,
    bias_initializer: keras.initializers.Initializer | str = "zeros",
) -> keras.KerasTensor:
    """Global average pooling, named `features`, and the dense layer of the float32 `logits`."""
    x = keras.layers.GlobalAveragePooling2D(CHANNELS_LAST, name="features")(x)
    layer = keras.layers.Dense(
        num_classes,
        kernel_initializer=kernel_initializer,
        bias_initializer=bias_initializer,
        dtype="float32",
        name="logits",
    )
    return layer(x)


def stages(
    widths: Sequence[int], counts: Sequence[int], strides: Sequence[int]
) -> list[list[tuple[int, int]]]:
    """The argument `blocks` of `stack`, for stages of equal units.

    Args:
        widths: Width of the units of each stage.
        counts: Number of units of each stage.
        strides: Stride of the first unit of each stage; that of the others is 1.

    Returns:
        A list with a list of `(width, strides)` for each stage.
    """
    return [
        [(width, stride)] + [(width, 1)] * (count - 1)
        for width, count, stride in zip(widths, counts, strides, strict=True)
    ]


def stack(
    x: keras.KerasTensor,
    blocks: Sequence[Sequence[tuple[Any, ...]]],
    unit: Callable[..., keras.KerasTensor],
    **options: Any,
) -> keras.KerasTensor:
    """Stacks units: `block1_unit1`, `block1_unit2`, ..., with the last one called `block1`.

    Args:
        x: Symbolic tensor.
        blocks: Stages, each a list with a tuple of arguments for each unit.
        unit: Function `(x, *arguments, prefix, name, **options)` that adds a unit, whose last layer
            is called `name`.
        **options: Arguments that are the same for all units.

    Returns:
        Symbolic tensor: the output of the last stage.
    """
    for block, units in enumerate(blocks, start=1):
        for number, arguments in enumerate(units, start=1):
            prefix = f"block{block}_unit{number}"
            name = f"block{block}" if number == len(units) else prefix
            x = unit(x, *arguments, prefix=prefix, name=name, **options)
    return x


def _padded(x, size, strides, name):
    """Input of a convolution or pooling with padding on both sides, and its Keras padding."""
    if strides == 1:
        return x, "same"
    if size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, CHANNELS_LAST, name=f"{name}_pad")(x)
    return x, "valid"
