"""The colours of a decision map: the class sets the colour, the confidence its strength."""

from collections.abc import Mapping

import numpy as np

__all__ = ["OTHER_CLASSES", "class_palette", "shades"]

# Ten colours that are distinguishable with common colour vision deficiencies: the Okabe-Ito palette
# without black and with a darker yellow, since paleness means low confidence, and three more.
_PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#C9B800",
    "#6A3D9A",
    "#8C564B",
    "#666666",
)
OTHER_CLASSES = "#B0B0B0"
_PALEST = 0.4


def class_palette(scores: Mapping[str, np.ndarray]) -> dict[int, str]:
    """A colour for each predicted class, in the order of classes.

    Args:
        scores: Scores of each model by its name, each of shape `(rows, columns, classes)`.

    Returns:
        Colours by class, the same for all models. Of more than ten classes, the ten that cover most
        have their own colours, and the others `OTHER_CLASSES`.
    """
    classes = np.concatenate([values.argmax(axis=-1).ravel() for values in scores.values()])
    occurring, counts = np.unique(classes, return_counts=True)
    if max(occurring) < len(_PALETTE):
        return {label: _PALETTE[label] for label in occurring.tolist()}
    largest = sorted(occurring[np.argsort(-counts)][: len(_PALETTE)].tolist())
    colours = dict(zip(largest, _PALETTE, strict=False))
    return {label: colours.get(label, OTHER_CLASSES) for label in occurring.tolist()}


def shades(scores: np.ndarray, palette: Mapping[int, str], from_logits: bool) -> np.ndarray:
    """RGB colours in [0, 1] of scores, shape `(rows, columns, 3)`."""
    from matplotlib import colors

    if from_logits:
        exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
        confidence = 1.0 / exponentials.sum(axis=-1)
    else:
        confidence = scores.max(axis=-1)
    chance = 1.0 / scores.shape[-1]
    certainty = np.clip((confidence - chance) / (1.0 - chance), 0.0, 1.0)
    strength = (_PALEST + (1.0 - _PALEST) * certainty)[..., None]
    table = np.ones((scores.shape[-1], 3))
    for label, colour in palette.items():
        table[label] = colors.to_rgb(colour)
    return 1.0 - strength * (1.0 - table[scores.argmax(axis=-1)])
