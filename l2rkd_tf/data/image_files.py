"""Image files: which names they have, how they are decoded, and why one cannot be."""

import functools
import io
import os
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

__all__ = ["Checked", "check", "decode", "is_image", "read", "stored_channels"]

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_SUFFIXES = (
    ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp",
)  # fmt: skip
# Images that Pillow does not decode, or not everywhere: they are refused by name, not overlooked.
_OTHER_SUFFIXES = (
    ".arw", ".avif", ".cr2", ".dng", ".heic", ".heif", ".ico", ".jp2", ".jxl", ".nef", ".psd",
    ".svg", ".tga",
)  # fmt: skip
_GREY_MODES = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"}
_REMEMBERED = 2**20


class Checked(NamedTuple):
    """What decoding a file has shown."""

    size: tuple[int, int] | None  # Height and width of the upright image; None if it is broken.
    reason: str | None  # Why it cannot be decoded, or None.


def is_image(name: str) -> bool:
    """Whether the name of a file is that of an image, also of one that cannot be decoded."""
    return name.lower().endswith(_SUFFIXES + _OTHER_SUFFIXES)


def decode(encoded: bytes, channels: int) -> np.ndarray:
    """Decodes the first image of a file, upright and with 8 bits in a channel.

    The content decides the format: JPEG, PNG, WebP, BMP, GIF or TIFF. The image is turned as its
    EXIF orientation says, transparent pixels are composited on white, CMYK and palettes become what
    Pillow converts them to, and of 16 bits the upper 8 are kept.

    Args:
        encoded: Content of the file.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 array of shape `(height, width, channels)`.

    Raises:
        ValueError: If the content is not a complete image of one of these formats; the message is
            the reason only.
    """
    if not encoded:
        raise ValueError("is empty")
    try:
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            pixels = np.array(_converted(image, "L" if channels == 1 else "RGB"))
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"is not an image in one of the formats {', '.join(_FORMATS)}") from error
    # On damaged files, Pillow raises whatever its parsers run into.
    except Exception as error:
        raise ValueError(f"cannot be decoded ({error or type(error).__name__})") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def read(path: str, channels: int) -> np.ndarray:
    """Reads and decodes a file: see `decode`.

    Raises:
        ValueError: If it cannot be read or decoded; the message is the reason only.
    """
    try:
        with open(path, "rb") as file:
            return decode(file.read(), channels)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error


def check(path: str) -> Checked:
    """Decodes a file completely, to find out its size or what is wrong with it.

    A file that was checked before, and has not changed since, is not decoded again.
    """
    if path.lower().endswith(_OTHER_SUFFIXES):
        suffix = os.path.splitext(path)[1]
        return Checked(None, f"has the unsupported format {suffix}; convert it to JPEG or PNG")
    return _check(path, _stamp(path))


def stored_channels(path: str) -> int | None:
    """Channels that a file needs, from its header: 1 if it is stored as grey, else 3.

    Palettes count as colours. None if it cannot be read.
    """
    return _stored_channels(path, _stamp(path))


def _stamp(path):
    """What changes when a file does; None if there is no such file."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@functools.lru_cache(_REMEMBERED)
def _check(path, stamp):
    del stamp  # tells one version of the file from another
    try:
        size = read(path, channels=3).shape[:2]
        with Image.open(path, formats=_FORMATS) as image:
            image.verify()  # the checksums of PNG, which decoding ignores
    except ValueError as error:
        return Checked(None, str(error))
    except Exception as error:  # as in `decode`
        return Checked(None, f"is damaged ({error})")
    return Checked(size, None)


@functools.lru_cache(_REMEMBERED)
def _stored_channels(path, stamp):
    del stamp
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return 1 if image.mode in _GREY_MODES else 3
    except Exception:  # as in `decode`; `check` tells the reason
        return None


def _converted(image, mode):
    if image.mode.startswith("I;16"):
        # `convert` would clip instead of scale. Pillow itself keeps the upper bits of RGB.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, of unknown range; save it with 8 or 16")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert(mode)
