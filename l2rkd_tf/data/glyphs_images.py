"""Renders images of characters from what was drawn for them."""

import numpy as np

from l2rkd_tf.data.glyphs_draws import Draws, Style

__all__ = ["cover", "paint", "render"]

_SUBPIXELS = 4


def render(style: Style, masks: np.ndarray, labels: np.ndarray, draws: Draws) -> np.ndarray:
    """Renders images from what was drawn for them.

    Args:
        style: Their `Style`.
        masks: Masks of characters, bool, shape `(fonts, characters, side, side)`; the side is
            two heights of a capital, and the outermost pixels are empty.
        labels: Characters, integers of shape `(images,)`.
        draws: The `Draws`.

    Returns:
        Uint8 array of shape `(images, size, size, channels)`.
    """
    return paint(style, cover(style, masks, labels, draws), draws)


def cover(style: Style, masks: np.ndarray, labels: np.ndarray, draws: Draws) -> np.ndarray:
    """How much of each pixel is ink, float32 in `[0, 1]`, shape `(images, size, size)`.

    The arguments are those of `render`.
    """
    lines = _lines(style, masks, labels, draws.numbers)
    return _coverage(style, lines, draws.numbers)


def paint(style: Style, coverage: np.ndarray, draws: Draws) -> np.ndarray:
    """Images of ink on paper, with shading and noise.

    Args:
        style: Their `Style`.
        coverage: As returned by `cover`.
        draws: The `Draws`.

    Returns:
        Uint8 array of shape `(images, size, size, channels)`.
    """
    ink, paper = _colours(style, draws)
    stddev = (style.noise * draws.numbers["noise"]).astype(np.float32)
    image = paper + (ink - paper) * coverage[..., np.newaxis] + _shade(style, draws.numbers)
    image += stddev[:, np.newaxis, np.newaxis, np.newaxis] * draws.noise
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _shade(style, numbers):
    """What brightens each pixel, float32 of shape `(images, size, size, 1)`."""
    ramp = (2 * np.arange(style.size) + 1) / style.size - 1
    rows, columns = (
        (style.shade * (2 * numbers[name] - 1)[:, np.newaxis] * ramp).astype(np.float32)
        for name in ("shade_y", "shade_x")
    )
    return (rows[:, :, np.newaxis] + columns[:, np.newaxis, :])[..., np.newaxis]


def _colours(style, draws):
    """Ink and paper, float32, shape `(images, 1, 1, channels)` each."""
    contrast = _between(style.contrast, draws.numbers["contrast"])
    darker = (1 - contrast) * draws.numbers["level"]
    ink_is_lighter = draws.numbers["polarity"] < 0.5
    ink = darker + np.where(ink_is_lighter, contrast, 0)
    paper = darker + np.where(ink_is_lighter, 0, contrast)
    tints = style.tint * (2 * draws.tints[..., : style.channels] - 1)
    tints -= tints.mean(axis=-1, keepdims=True)
    colours = np.stack([ink, paper], axis=1)[..., np.newaxis] + tints
    return colours[:, :, np.newaxis, np.newaxis].swapaxes(0, 1).astype(np.float32)


def _coverage(style, lines, numbers):
    """How much of each pixel is ink, float32 in `[0, 1]`, shape `(images, size, size)`."""
    images, side, width = lines.shape
    columns, rows = _line_points(style, side, width, numbers)
    first = np.arange(images) * (side * width)
    points = rows * width + columns + first[:, np.newaxis, np.newaxis]
    inside = lines.reshape(-1).view(np.uint8)[points]
    shape = (images, style.size, _SUBPIXELS, style.size, _SUBPIXELS)
    total = inside.reshape(shape).sum(axis=(2, 4), dtype=np.uint8)
    return total.astype(np.float32) / _SUBPIXELS**2


def _lines(style, masks, labels, numbers):
    """Each character, and its neighbours, bool of shape `(images, side, side or 3 sides)`."""
    fonts, characters, side, _ = masks.shape
    font = (numbers["font"] * fonts).astype(np.int64)
    own = masks[font, labels]
    if style.neighbours == 0:
        return own
    lines = np.pad(own, [(0, 0), (0, 0), (side, side)])
    gap = side / 2 * _between(style.gap, numbers["gap"])
    for name, direction in (("left", -1), ("right", 1)):
        (present,) = np.nonzero(numbers[name] < style.neighbours)
        share = numbers[name][present] / style.neighbours
        others = masks[font[present], (share * characters).astype(np.int64)]
        distance = gap[present] + (_widths(own[present]) + _widths(others)) / 2
        starts = side + direction * np.minimum(distance, side).astype(np.int64)
        for image, other, start in zip(present, others, starts, strict=True):
            lines[image, :, start : start + side] |= other
    return lines


def _widths(masks):
    return masks.any(axis=1).sum(axis=1)


def _line_points(style, side, width, numbers):
    """Column and row in its line of every subpixel of an image.

    The image is the line, stretched, then sheared, then turned, and shifted last; here this is
    undone. Rotation by `2 atan(t)` has the cosine `(1 - t**2) / (1 + t**2)` and the sine
    `2 t / (1 + t**2)`, which are the same on every machine, as those of libraries are not.

    Returns:
        Two int64 arrays of shape `(images, size * 4, size * 4)`.
    """
    x, y = (_subpixels(style, numbers, shift) for shift in ("shift_x", "shift_y"))
    t = style.turn * (2 * numbers["turn"] - 1)
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    stretch = 1 + style.stretch * (2 * numbers["stretch"] - 1)
    shear = style.shear * (2 * numbers["shear"] - 1)
    scale = side / 2 / _between(style.cap_height, numbers["cap_height"])
    row_of_x, row_of_y = -sine * scale, cosine * scale
    column_of_x = (cosine * scale + shear * row_of_x) / stretch
    column_of_y = (sine * scale + shear * row_of_y) / stretch
    return (
        _sum_inside(column_of_x[:, np.newaxis] * x, column_of_y[:, np.newaxis] * y, width),
        _sum_inside(row_of_x[:, np.newaxis] * x, row_of_y[:, np.newaxis] * y, side),
    )


def _subpixels(style, numbers, shift):
    """Where the subpixels of a row lie, from the shifted middle, shape `(images, size * 4)`."""
    footprint = _between(style.footprint, numbers["footprint"])
    offsets = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    centres = np.arange(style.size) + 0.5 - style.size / 2
    middle = style.shift * (2 * numbers[shift] - 1)
    points = centres[:, np.newaxis] + footprint[:, np.newaxis, np.newaxis] * offsets
    return points.reshape(len(middle), -1) - middle[:, np.newaxis]


def _sum_inside(of_x, of_y, length):
    """Sums of a part of each column and a part of each row, as pixels counted from the middle."""
    points = of_x[:, np.newaxis, :] + (of_y[:, :, np.newaxis] + length / 2)
    # What lies outside falls on the outermost pixels, which are empty.
    return np.clip(points, 0, length - 1, out=points).astype(np.int64)


def _between(limits, share):
    low, high = limits
    return low + (high - low) * share
