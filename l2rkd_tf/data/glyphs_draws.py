"""What varies among images of characters, drawn for each from only its number."""

import dataclasses

import numpy as np

__all__ = ["Draws", "Style", "draw", "draw_labels"]

_CLASSES = 62
_NAMES = (
    "font cap_height stretch turn shear shift_x shift_y footprint contrast level polarity "
    "shade_x shade_y noise gap left right"
).split()
_NUMBERS = len(_NAMES)
_TINTS = 6
# Of the sum of four whole numbers, each uniform in 0..65535.
_NOISE_MEAN = 2 * 65535
_NOISE_STDDEV = np.sqrt((65536**2 - 1) / 3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
    """Size and variation of the images; lengths are in pixels of the image.

    Attributes:
        size: Side of the image.
        channels: 1 for grey images, 3 for coloured ones.
        cap_height: Smallest and largest height of a capital. Lower-case letters are smaller as in
            their font, and all characters stand on one baseline, half the height of a capital below
            the middle, which distinguishes an o from an O.
        stretch: Largest relative change of the width.
        turn: Largest rotation, as the tangent of half the angle.
        shear: Largest sideways shift of the top against the baseline, relative to the height.
        shift: Largest shift right, left, up or down.
        footprint: Smallest and largest side of the square that a pixel averages over: 1 is
            sharp, and more is blurred.
        contrast: Smallest and largest difference of ink and paper, in `[0, 1]`. Either may be
            the lighter one.
        tint: Largest shift of a channel, of ink and of paper; their means over the channels
            stay.
        shade: Largest brightening or darkening of the right and lower edges of the image, with the
            opposite at the other edges.
        noise: Largest standard deviation of the noise of an image.
        neighbours: Probability of a neighbour on the left, and of one on the right: random
            characters of the same font and ink on the same line.
        gap: Smallest and largest gap between neighbours, in heights of a capital.
    """

    size: int
    channels: int
    cap_height: tuple
    stretch: float
    turn: float
    shear: float
    shift: float
    footprint: tuple
    contrast: tuple
    tint: float
    shade: float
    noise: float
    neighbours: float
    gap: tuple


@dataclasses.dataclass(frozen=True)
class Draws:
    """What was drawn for some images.

    Attributes:
        numbers: Dict of float64 arrays of shape `(images,)`, uniform in `[0, 1)`, by name.
        tints: Ink and paper, uniform in `[0, 1)`, shape `(images, 2, 3)`.
        noise: Mean 0 and variance 1, float32, shape `(images, size, size, channels)`.
    """

    numbers: dict
    tints: np.ndarray
    noise: np.ndarray


def draw_labels(stream: str, start: int, stop: int) -> np.ndarray:
    """Classes of the images `start` to `stop - 1` of a stream.

    Every 62 consecutive images, starting with image 0, hold one of each class.

    Args:
        stream: Name of a sequence of images.
        start: Number of the first image.
        stop: Number after that of the last image.

    Returns:
        Int64 array of shape `(stop - start,)`.

    Example:
        >>> draw_labels("doctest", 0, 124).reshape(2, 62).sum(axis=1)
        array([1891, 1891])
    """
    first, last = start // _CLASSES, -(-stop // _CLASSES)
    words = _words(f"{stream}/labels", _CLASSES, first, last)
    labels = np.argsort(words, axis=1, kind="stable").reshape(-1)
    return labels[start - first * _CLASSES : stop - first * _CLASSES]


def draw(style: Style, stream: str, start: int, stop: int) -> Draws:
    """Draws what varies among the images `start` to `stop - 1` of a stream.

    Args:
        style: The `Style` of the images.
        stream: Name of a sequence of images.
        start: Number of the first image.
        stop: Number after that of the last image.

    Returns:
        The `Draws`.
    """
    shape = (stop - start, style.size, style.size, style.channels)
    num_pixels = style.size**2 * style.channels
    words = _words(f"{stream}/images", _NUMBERS + _TINTS + num_pixels, start, stop)
    numbers, tints, noise = np.split(words, [_NUMBERS, _NUMBERS + _TINTS], axis=1)
    return Draws(
        numbers=dict(zip(_NAMES, _uniform(numbers).T, strict=True)),
        tints=_uniform(tints).reshape(-1, 2, 3),
        noise=_normal(noise).reshape(shape),
    )


def _words(stream, count, start, stop):
    """Random 64-bit words, shape `(stop - start, count)`, one row per image.

    Raw words of Philox, which generates four at once: only these are the same in all releases of
    NumPy.
    """
    key = np.random.SeedSequence(list(stream.encode())).generate_state(2, np.uint64)
    fours = -(-count // 4)
    bits = np.random.Philox(key=key, counter=start * fours)
    return bits.random_raw((stop - start) * fours * 4).reshape(stop - start, -1)[:, :count]


def _uniform(words):
    """Numbers in `[0, 1)` from the upper 53 bits of words, which float64 holds exactly."""
    return (words >> np.uint64(11)) * 2.0**-53


def _normal(words):
    """Nearly normal numbers: the sum of the four 16-bit parts of each word, scaled."""
    low = np.uint64(0x0000FFFF0000FFFF)
    pairs = (words & low) + ((words >> np.uint64(16)) & low)
    total = (pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))
    return ((total.astype(np.float64) - _NOISE_MEAN) / _NOISE_STDDEV).astype(np.float32)
