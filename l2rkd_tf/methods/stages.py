"""The ends of a network's stages: feature maps of images, or hidden states of sequences."""

import dataclasses
import re
from collections.abc import Mapping

import keras

from l2rkd_tf.features import LayerOutput, layer_outputs

__all__ = ["HIDDEN_STATES", "MAPS_OF_IMAGES", "Stages", "stages_of"]

MAPS_OF_IMAGES = "feature maps"
HIDDEN_STATES = "hidden states"

# Names of the ends of stages, in this library's networks, `keras.applications` and the usual code.
_STAGE_END = re.compile(
    r"(?:(?:transformer|encoder|decoder|conv|res)_?)*(?:block|stage|group|layer)_?\d+"
    r"(?:_(?:out|output|add|relu))?"
    r"|conv\d+_block\d+_(?:out|concat)"  # ResNet, DenseNet
    r"|block\d+_conv\d+"  # VGG
    r"|block_?\d+[a-z]?_(?:add|project_bn)",  # MobileNet, EfficientNet
    re.IGNORECASE,
)
# Types of layers that are a block of a transformer, and of those that are part of one.
_BLOCK = re.compile(r"transformer|(?:en|de)coder_?layer|block$", re.IGNORECASE)
_ATTENTION = re.compile("attention", re.IGNORECASE)
_MARGIN = re.compile("padding|cropping", re.IGNORECASE)

_Candidates = Mapping[str, LayerOutput]


@dataclasses.dataclass(frozen=True)
class Stages:
    """Layers at the ends of a model's stages.

    Attributes:
        form: `"feature maps"` or `"hidden states"`.
        paths: Paths of the layers, from input to output; empty if there are none.
        sizes: Sizes of their spatial axes, or `(positions,)`.
    """

    form: str
    paths: tuple[str, ...]
    sizes: tuple[tuple[int | None, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.paths)

    def paired_with(self, student: "Stages") -> list[tuple[str, str]]:
        """Pairs of layers of this model and of the student, of one form."""
        mine, other = (dict(zip(s.sizes, s.paths, strict=True)) for s in (self, student))
        common = [size for size in other if size in mine]
        one_of_each_size = len(mine) == len(self.paths) and len(other) == len(student.paths)
        if common and one_of_each_size:
            return [(mine[size], other[size]) for size in common]
        count = min(len(self.paths), len(student.paths))
        if self.form == MAPS_OF_IMAGES:
            return list(zip(self.paths[-count:], student.paths[-count:], strict=True))
        return list(zip(_spaced(self.paths, count), _spaced(student.paths, count), strict=True))


def stages_of(model: keras.Model) -> Stages:
    """Ends of the stages of a model, of the form of which it has more.

    Args:
        model: Keras model.

    Returns:
        `Stages`; those of a model whose layers are not connected in a graph are empty.
    """
    learned = {
        path: layer
        for path, layer in layer_outputs(model).items()
        if layer.learned and not layer.is_output
    }
    maps = _ends_by_size({p: layer for p, layer in learned.items() if len(layer.shape) > 3})
    sequences = {p: layer for p, layer in learned.items() if len(layer.shape) == 3}
    blocks = _ends_of_blocks(sequences)
    hidden = blocks or _ends_by_size(sequences)
    # An image transformer has one map, of its patches.
    form = HIDDEN_STATES if len(hidden) > len(maps) - bool(blocks) else MAPS_OF_IMAGES
    ends = hidden if form == HIDDEN_STATES else maps
    return Stages(form, tuple(ends), tuple(learned[path].shape[1:-1] for path in ends))


def _ends_by_size(candidates: _Candidates) -> list[str]:
    """Paths of the last layer of each size, in the order of layers."""
    named = {path: layer for path, layer in candidates.items() if _is_named(path)}
    # A nested model outputs what its last layer does, and margins of zeros are no features.
    inner = {
        path: layer
        for path, layer in candidates.items()
        if not (layer.is_model or _MARGIN.search(layer.layer_type))
    }
    ends: dict[tuple[int | None, ...], str] = {}
    for path, layer in (named if _reach_the_end(named, inner) else inner).items():
        ends.pop(layer.shape[1:-1], None)
        ends[layer.shape[1:-1]] = path
    # Maps of one position before the last ones are gates, as in squeeze and excitation.
    return [path for size, path in ends.items() if set(size) != {1} or path == [*ends.values()][-1]]


def _ends_of_blocks(candidates: _Candidates) -> list[str]:
    """Paths of the ends of the blocks of a transformer, or of blocks named as such.

    None if there is no attention, and names tell nothing that sizes do not.
    """
    blocks: list[dict[str, LayerOutput]] = []
    for path, layer in candidates.items():
        if _BLOCK.search(layer.layer_type) or _ATTENTION.search(layer.layer_type):
            blocks.append({})
        if blocks:
            blocks[-1][path] = layer
    named = [path for path in candidates if _is_named(path)]
    of_one_size = len({candidates[path].shape[1:-1] for path in named}) == 1
    if len(named) == len(blocks) or (of_one_size and not blocks):
        return named
    return [_end_of_block(block) for block in blocks]


def _end_of_block(block: _Candidates) -> str:
    """A layer that is a block; else the last residual sum, normalization or layer of the block."""
    paths = [path for path, layer in block.items() if not layer.is_model]
    if _BLOCK.search(block[paths[0]].layer_type):
        return paths[0]
    for kind in ("Add", "Normalization"):
        found = [path for path in paths if kind in block[path].layer_type]
        if found:
            return found[-1]
    return paths[-1]


def _is_named(path):
    return bool(_STAGE_END.fullmatch(path.rpartition("/")[2]))


def _reach_the_end(named, candidates):
    """Whether no layer after the named ones, except pooling, has another size.

    A network may have such names only in its first stage.
    """
    sizes = [
        layer.shape[1:-1]
        for path, layer in candidates.items()
        if "pool" not in f"{layer.layer_type} {path.rpartition('/')[2]}".lower()
    ]
    return bool(named) and [list(named.values())[-1].shape[1:-1]] == sizes[-1:]


def _spaced(paths, count):
    """`count` of the paths at equal distances, the last one included."""
    return [paths[-(-(number + 1) * len(paths) // count) - 1] for number in range(count)]
