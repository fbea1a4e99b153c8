"""Networks by the names that the literature calls them."""

import functools
import re

import keras

from l2rkd_tf.models.mobilenets import mobilenet_v2
from l2rkd_tf.models.resnets import is_resnet_depth, resnet, resnet50
from l2rkd_tf.models.shufflenets import shufflenet_v1, shufflenet_v2
from l2rkd_tf.models.vggs import VGG_DEPTHS, vgg
from l2rkd_tf.models.wide_resnets import is_wide_resnet_depth, wide_resnet
from l2rkd_tf.utils.types import Shape

__all__ = ["get", "names"]

_NAMES = (
    *("resnet20", "resnet32", "resnet56", "resnet110", "resnet8x4", "resnet32x4", "ResNet50"),
    *("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"),
    *("vgg8", "vgg13", "MobileNetV2", "ShuffleNetV1", "ShuffleNetV2"),
)
# Networks of which there is one, also by the names that the published code gives them.
_SINGLE = {
    "resnet50": resnet50,
    "mobilenetv2": mobilenet_v2,
    "mobilev2": mobilenet_v2,
    "shufflenetv1": shufflenet_v1,
    "shufflev1": shufflenet_v1,
    "shufflenetv2": shufflenet_v2,
    "shufflev2": shufflenet_v2,
}


def names() -> list[str]:
    """The names that the literature's tables of results show.

    Returns:
        A list of names, each of which `get` takes.

    Example:
        >>> names()[:2]
        ['resnet20', 'resnet32']
    """
    return list(_NAMES)


def get(
    name: str,
    num_classes: int = 100,
    input_shape: Shape = (32, 32, 3),
    *,
    synchronized: bool = False,
) -> keras.Model:
    """Build a network of the literature by its name.

    Args:
        name: One of `names()`, or `resnet<depth>`, `resnet<depth>x<width_multiplier>`,
            `wrn_<depth>_<width>` or `vgg<depth>` of another size that `resnet`, `wide_resnet` and
            `vgg` can build. Upper or lower case, and `-` for `_`, make no difference. `ResNet50`,
            however it is written, is the one with bottlenecks; `resnet(..., depth=50)` is the
            other.
        num_classes: Number of logits; the tables are about CIFAR-100.
        input_shape: `(height, width, channels)` of an image.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, so that training equals that on one device.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to
        logits, float32 also under mixed precision, shape `(batch, num_classes)`.

    Raises:
        ValueError: If there is no network of this name, or another argument is out of range.

    Example:
        >>> student = get("wrn_16_1", num_classes=100)
        >>> student.name, student.output_shape
        ('wrn_16_1', (None, 100))
    """
    builder = _builder(name) if isinstance(name, str) else None
    if builder is None:
        raise ValueError(
            f"`name` must be one of {', '.join(_NAMES)}, or another resnet<6n + 2>, "
            "resnet<6n + 2>x<width multiplier>, wrn_<6n + 4>_<width> or vgg<"
            f"{', '.join(map(str, VGG_DEPTHS))}>. Received: name={name!r}"
        )
    return builder(input_shape, num_classes, synchronized=synchronized)


def _builder(name):
    """The function that builds the network of this name; None, if there is none."""
    name = name.lower().replace("-", "_")
    if name in _SINGLE:
        return _SINGLE[name]
    size = r"([1-9][0-9]{0,3})"
    if match := re.fullmatch(f"resnet{size}(?:x{size})?", name):
        depth, multiplier = int(match[1]), int(match[2] or 1)
        if is_resnet_depth(depth):
            return functools.partial(resnet, depth=depth, width_multiplier=multiplier)
    if match := re.fullmatch(f"wrn_{size}_{size}", name):
        depth, width = int(match[1]), int(match[2])
        if is_wide_resnet_depth(depth):
            return functools.partial(wide_resnet, depth=depth, width=width)
    if match := re.fullmatch(f"vgg{size}", name):
        if int(match[1]) in VGG_DEPTHS:
            return functools.partial(vgg, depth=int(match[1]))
    return None
