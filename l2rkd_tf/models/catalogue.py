"""Standard architectures by name."""

import difflib
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
# Networks without a choice of size, by their names without separators; `mobilev2` and the like are
# names in published code.
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
    """Names of the architectures in the result tables of published methods.

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
    """Builds a standard architecture by its name.

    Args:
        name: One of `names()`, or `resnet<depth>`, `resnet<depth>x<width_multiplier>`,
            `wrn_<depth>_<width>` or `vgg<depth>` of another size that `resnet`, `wide_resnet` and
            `vgg` can build. Case, `-`, `_` and spaces make no difference: `"MobileNetV2"` is also
            `"mobilenet_v2"`, `"wrn_40_2"` also `"WRN-40-2"` and `"Wide ResNet 40-2"`. `ResNet50`
            in any spelling is the network with bottlenecks; `resnet(..., depth=50)` is the one
            without.
        num_classes: Number of logits; the default is that of CIFAR-100.
        input_shape: `(height, width, channels)` of an image.
        synchronized: Whether batch normalization averages its statistics over the replicas of a
            `tf.distribute` strategy, as training on one device does.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to logits,
        shape `(batch, num_classes)`, in float32 even with mixed precision.

    Raises:
        ValueError: If there is no architecture of this name, `num_classes` is not a positive
            integer, or `input_shape` is too small for the network.

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
            f"{', '.join(map(str, VGG_DEPTHS))}>. Received: name={name!r}{_close_matches(name)}"
        )
    return builder(input_shape, num_classes, synchronized=synchronized)


def _without_separators(name):
    return re.sub(r"[-_\s]+", "", name.lower())


def _close_matches(name):
    """The known names that look most alike, as the end of a message."""
    known = {_without_separators(one): one for one in _NAMES}
    close = difflib.get_close_matches(_without_separators(str(name)), known, cutoff=0.7)
    return f". Close matches: {', '.join(known[one] for one in close)}" if close else ""


def _builder(name):
    """The function that builds the network of this name; None, if there is none."""
    if single := _SINGLE.get(_without_separators(name)):
        return single
    # Sizes stay apart: the 40 and the 2 of wrn_40_2 must not become 402.
    name = re.sub(r"[-_\s]+", "_", name.lower().strip())
    size = "_?([1-9][0-9]{0,3})"
    if match := re.fullmatch(f"resnet{size}(?:_?x{size})?", name):
        depth, multiplier = int(match[1]), int(match[2] or 1)
        if is_resnet_depth(depth):
            return functools.partial(resnet, depth=depth, width_multiplier=multiplier)
    if match := re.fullmatch(f"(?:wrn|wide_?resnet){size}(?:_|_?x){size}", name):
        depth, width = int(match[1]), int(match[2])
        if is_wide_resnet_depth(depth):
            return functools.partial(wide_resnet, depth=depth, width=width)
    if match := re.fullmatch(f"vgg{size}", name):
        if int(match[1]) in VGG_DEPTHS:
            return functools.partial(vgg, depth=int(match[1]))
    return None
