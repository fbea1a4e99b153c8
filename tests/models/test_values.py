"""What standard architectures compute, against NumPy in float64, and how they begin."""

import functools
import re

import keras
import numpy as np
import pytest

from l2rkd_tf import models
from tests.helpers import with_random_weights


def windows(x, size, strides):
    """Pixels under a kernel, zeros beyond the border: (size, size, batch, height, width, ...)."""
    border = size // 2
    x = np.pad(x, ((0, 0), (border, border), (border, border), (0, 0)))
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return np.array(
        [
            [x[:, i : i + height : strides, j : j + width : strides] for j in range(size)]
            for i in range(size)
        ]
    )


def relu(x):
    return np.maximum(x, 0)


def max_pool(x):
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def shuffle(x, groups):
    size = x.shape[-1] // groups
    return x[..., [group * size + i for i in range(size) for group in range(groups)]]


class Reference:
    """The layers of a model in NumPy, by their names."""

    def __init__(self, model):
        self.weights = {
            layer.name: [weight.numpy().astype("float64") for weight in layer.weights]
            for layer in model.layers
        }

    def conv(self, x, name, strides=1):
        kernel, *bias = self.weights[name]
        y = np.tensordot(windows(x, len(kernel), strides), kernel, ((0, 1, 5), (0, 1, 2)))
        return y + bias[0] if bias else y

    def grouped_conv(self, x, name, groups):
        if groups == 1:
            return self.conv(x, name)
        parts = enumerate(np.split(x, groups, axis=-1), start=1)
        outputs = [self.conv(part, f"{name}_group{number}") for number, part in parts]
        return np.concatenate(outputs, axis=-1)

    def depthwise(self, x, name, strides):
        (kernel,) = self.weights[name]
        return np.einsum("ijbhwc,ijc->bhwc", windows(x, 3, strides), kernel[..., 0])

    def norm(self, x, name):
        scale, shift, mean, variance = self.weights[name]
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def conv_norm(self, x, prefix, label="", strides=1, norm=None):
        y = self.conv(x, f"{prefix}_conv{label}", strides)
        return self.norm(y, norm or f"{prefix}_norm{label}")

    def depthwise_norm(self, x, prefix, label, strides):
        y = self.depthwise(x, f"{prefix}_depthwise{label}", strides)
        return self.norm(y, f"{prefix}_norm{label}")

    def finish(self, x, points):
        points["features"] = x.mean((1, 2))
        kernel, bias = self.weights["logits"]
        return points | {"logits": points["features"] @ kernel + bias}


def prefixes(counts, first_stride):
    """Names and strides of units, with the name of the block where it ends."""
    for block, count in enumerate(counts, start=1):
        for unit in range(1, count + 1):
            strides = 2 if unit == 1 and (block > 1 or first_stride == 2) else 1
            yield f"block{block}_unit{unit}", strides, f"block{block}" if unit == count else None


def resnet(layers, x, counts, bottleneck=False):
    points = {}
    convs, strided = (3, 2) if bottleneck else (2, 1)
    x = relu(layers.conv_norm(x, "stem"))
    for prefix, strides, end in prefixes(counts, first_stride=1):
        y = x
        for number in range(1, convs + 1):
            y = layers.conv_norm(y, prefix, number, strides if number == strided else 1)
            y = relu(y) if number < convs else y
        if y.shape != x.shape:
            x = layers.conv_norm(x, f"{prefix}_shortcut", strides=strides)
        x = points[end] = relu(x + y)
    return layers.finish(x, points)


def wide_resnet(layers, x, counts):
    points = {}
    x = layers.conv(x, "stem_conv")
    for prefix, strides, end in prefixes(counts, first_stride=1):
        active = relu(layers.norm(x, f"{prefix}_norm1"))
        y = relu(layers.norm(layers.conv(active, f"{prefix}_conv1", strides), f"{prefix}_norm2"))
        y = layers.conv(y, f"{prefix}_conv2")
        if y.shape != x.shape:
            x = layers.conv(active, f"{prefix}_shortcut", strides)
        x = points[end] = x + y
    return layers.finish(relu(layers.norm(x, "last_norm")), points)


def vgg(layers, x, counts):
    points = {}
    for block, count in enumerate(counts, start=1):
        x = max_pool(x) if block in (2, 3, 4) else x
        for number in range(1, count + 1):
            x = points[f"block{block}"] = relu(layers.conv_norm(x, f"block{block}", number))
    return layers.finish(x, points)


def mobilenet_v2(layers, x):
    points = {}
    x = relu(layers.conv_norm(x, "stem", strides=2))
    # Strides of the units of each block.
    blocks = ([1, 1, 1], [2, 1, 1], [2, 1, 1, 1, 1, 1, 1], [2, 1, 1, 1])
    for block, strides in enumerate(blocks, start=1):
        for unit, stride in enumerate(strides, start=1):
            prefix = f"block{block}_unit{unit}"
            name = f"block{block}" if unit == len(strides) else prefix
            y = relu(layers.conv_norm(x, prefix, 1))
            y = relu(layers.depthwise_norm(y, prefix, 2, stride))
            norm = f"{prefix}_norm3" if f"{prefix}_norm3" in layers.weights else name
            y = layers.conv_norm(y, prefix, 3, norm=norm)
            x = points[f"block{block}"] = x + y if stride == 1 and x.shape == y.shape else y
    return layers.finish(relu(layers.conv_norm(x, "last")), points)


def shufflenet_v1(layers, x):
    points = {}
    x = relu(layers.conv_norm(x, "stem"))
    for prefix, strides, end in prefixes((4, 8, 4), first_stride=2):
        groups = 1 if prefix == "block1_unit1" else 3
        y = layers.grouped_conv(x, f"{prefix}_conv1", groups)
        y = shuffle(relu(layers.norm(y, f"{prefix}_norm1")), groups)
        y = relu(layers.depthwise_norm(y, prefix, 2, strides))
        y = layers.norm(layers.grouped_conv(y, f"{prefix}_conv3", 3), f"{prefix}_norm3")
        if strides == 2:
            y = np.concatenate([y, windows(x, 3, 2).mean((0, 1))], axis=-1)
        else:
            y = y + x
        x = points[end] = relu(y)
    return layers.finish(x, points)


def shufflenet_v2(layers, x):
    points = {}
    x = relu(layers.conv_norm(x, "stem"))
    for prefix, strides, end in prefixes((4, 8, 4), first_stride=2):
        if strides == 2:
            left = layers.depthwise_norm(x, prefix, "_left1", 2)
            left, right = relu(layers.conv_norm(left, prefix, "_left2")), x
        else:
            left, right = np.split(x, 2, axis=-1)
        right = relu(layers.conv_norm(right, prefix, 1))
        right = layers.depthwise_norm(right, prefix, 2, strides)
        right = relu(layers.conv_norm(right, prefix, 3))
        x = points[end] = shuffle(np.concatenate([left, right], axis=-1), 2)
    return layers.finish(relu(layers.conv_norm(x, "last")), points)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            lambda: models.resnet((9, 6, 3), 5, depth=14),
            lambda layers, x: resnet(layers, x, (2, 2, 2)),
        ),
        (
            lambda: models.resnet((8, 5, 2), 5, depth=8, width_multiplier=4),
            lambda layers, x: resnet(layers, x, (1, 1, 1)),
        ),
        (
            lambda: models.wide_resnet((9, 6, 3), 5, depth=16, width=1),
            lambda layers, x: wide_resnet(layers, x, (2, 2, 2)),
        ),
        (
            lambda: models.wide_resnet((8, 5, 2), 5, depth=10, width=2, dropout=0.5),
            lambda layers, x: wide_resnet(layers, x, (1, 1, 1)),
        ),
        (
            lambda: models.vgg((9, 8, 3), 5, depth=11),
            lambda layers, x: vgg(layers, x, (1, 1, 2, 2, 2)),
        ),
        (
            lambda: models.resnet50((6, 5, 3), 5),
            lambda layers, x: resnet(layers, x, (3, 4, 6, 3), bottleneck=True),
        ),
        (lambda: models.mobilenet_v2((18, 12, 3), 5), mobilenet_v2),
        (lambda: models.shufflenet_v1((9, 6, 3), 5), shufflenet_v1),
        (lambda: models.shufflenet_v2((9, 6, 3), 5), shufflenet_v2),
    ],
    ids=[
        *["resnet14", "resnet8x4", "wrn_16_1", "wrn_10_2", "vgg11"],
        *["ResNet50", "MobileNetV2", "ShuffleNetV1", "ShuffleNetV2"],
    ],
)
def test_feature_points_are_those_of_numpy(model, expected):
    model = with_random_weights(model())
    x = np.random.RandomState(1).rand(2, *model.input_shape[1:])
    points = expected(Reference(model), x)
    points.pop(None, None)  # Units before the end of a block.
    blocks = [layer.name for layer in model.layers if re.fullmatch(r"block\d+", layer.name)]
    assert [*points] == [*blocks, "features", "logits"]
    outputs = {name: model.get_layer(name).output for name in points}
    for name, value in keras.Model(model.input, outputs)(x.astype("float32")).items():
        scale = np.abs(points[name]).max()
        np.testing.assert_allclose(value.numpy() / scale, points[name] / scale, atol=2e-5)


@pytest.fixture(scope="module")
def fresh():
    """Networks by name, as they begin, each built once."""
    return functools.cache(lambda name: models.get(name, 50, (8, 8, 3)))


@pytest.mark.parametrize(
    ("name", "layer", "variance"),
    [
        ("resnet14", "block3_unit1_conv1", 2 / (9 * 64)),
        ("wrn_10_1", "block3_unit1_conv1", 2 / (9 * 64)),
        ("vgg8", "block3_conv1", 2 / (9 * 256)),
        ("vgg8", "logits", 0.01**2),
        ("MobileNetV2", "block4_unit1_conv1", 2 / 288),
        # All channels of a depthwise convolution count as outputs.
        ("MobileNetV2", "block4_unit3_depthwise2", 2 / (9 * 480)),
        ("MobileNetV2", "logits", 0.01**2),
    ],
)
def test_normal_weights(fresh, name, layer, variance):
    kernel = fresh(name).get_layer(layer).weights[0].numpy()
    deviation = variance**0.5
    assert kernel.std() == pytest.approx(deviation, rel=0.05)
    assert abs(kernel.mean()) < 0.05 * deviation
    assert np.abs(kernel).max() > 2.5 * deviation  # Truncated ones end at 2.3.


@pytest.mark.parametrize(
    ("name", "layer", "inputs"),
    [
        ("resnet14", "logits", 64),
        ("wrn_10_1", "logits", 64),
        ("ShuffleNetV1", "block2_unit2_conv3_group2", 40),
        ("ShuffleNetV1", "logits", 960),
        ("ShuffleNetV2", "block3_unit1_depthwise2", 9),
        ("ShuffleNetV2", "last_conv", 464),
    ],
)
def test_uniform_weights(fresh, name, layer, inputs):
    kernel = fresh(name).get_layer(layer).weights[0].numpy()
    bound = inputs**-0.5
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.mean()) < 0.05 * bound


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        *[("resnet14", 64**-0.5), ("ShuffleNetV1", 960**-0.5), ("ShuffleNetV2", 1024**-0.5)],
        *[("wrn_10_1", 0), ("vgg8", 0), ("MobileNetV2", 0)],
    ],
)
def test_biases_of_the_last_layers(fresh, name, bound):
    bias = fresh(name).get_layer("logits").bias.numpy()
    assert 0.8 * bound <= np.abs(bias).max() <= bound


def test_layers_of_one_shape_begin_differently(fresh):
    layers = [f"block1_unit{unit}_conv{conv}" for unit in (1, 2) for conv in (1, 2)]
    kernels = {fresh("resnet14").get_layer(layer).kernel.numpy().tobytes() for layer in layers}
    assert len(kernels) == 4
