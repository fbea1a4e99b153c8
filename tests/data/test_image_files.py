"""Decoded image files against Pillow's own conversions and known pixels."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from l2rkd_tf.data import image_files

RANDOM = np.random.RandomState(0)
RGB = RANDOM.randint(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = RGB[..., 0]
ALPHA = RANDOM.randint(0, 256, (6, 9)).astype(np.uint8)
ALPHA[0] = 0
# Smooth, since lossy formats keep only what is.
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[40:200:5, 60:220:5], 128), axis=-1).astype(np.uint8)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def rgb_of(image):
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ],
)  # fmt: skip
def test_lossless_formats_are_exact(form, options):
    content = encoded(Image.fromarray(RGB), form, **options)
    np.testing.assert_array_equal(image_files.decode(content, 3), RGB)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "MPO"])
def test_lossy_formats_are_close(form):
    content = encoded(Image.fromarray(SMOOTH), form, quality=95)
    found = image_files.decode(content, 3)
    assert found.shape == SMOOTH.shape
    assert np.abs(found.astype(int) - SMOOTH).max() <= 8


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_several_counts(form):
    frames = [Image.fromarray(np.full((4, 5), level, np.uint8)) for level in (10, 200)]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(image_files.decode(content, 3), np.full((4, 5, 3), 10))


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_becomes_rgb_by_repetition(channels):
    found = image_files.decode(encoded(Image.fromarray(GREY), "PNG"), channels)
    np.testing.assert_array_equal(found, np.repeat(GREY[..., np.newaxis], channels, axis=-1))


def test_black_and_white_become_0_and_255():
    content = encoded(Image.fromarray(GREY > 99), "PNG")
    np.testing.assert_array_equal(image_files.decode(content, 1)[..., 0], 255 * (GREY > 99))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bits_are_scaled_and_not_clipped(form):
    levels = np.array([[0, 255, 256, 32768], [65535, 1000, 511, 60000]], np.uint16)
    found = image_files.decode(encoded(Image.fromarray(levels), form), 1)
    np.testing.assert_array_equal(found[..., 0], [[0, 0, 1, 128], [255, 3, 1, 234]])


@pytest.mark.parametrize("pixels", [np.ones((2, 2), np.float32), np.ones((2, 2), np.int32)])
def test_32_bits_of_unknown_range_are_refused(pixels):
    content = encoded(Image.fromarray(pixels), "TIFF")
    with pytest.raises(ValueError, match="pixels have 32 bits"):
        image_files.decode(content, 1)


def test_cmyk_as_pillow_converts_it():
    image = Image.fromarray(SMOOTH).convert("CMYK")
    content = encoded(image, "JPEG", quality=95)
    np.testing.assert_array_equal(
        image_files.decode(content, 3), rgb_of(Image.open(io.BytesIO(content)))
    )
    assert np.abs(image_files.decode(content, 3).astype(int) - SMOOTH).max() <= 8


def test_palettes_as_pillow_converts_them():
    image = Image.fromarray(RGB).quantize(16)
    for form in ("PNG", "GIF", "BMP"):
        found = image_files.decode(encoded(image, form), 3)
        np.testing.assert_array_equal(found, rgb_of(image), form)


def test_transparent_pixels_are_composited_on_white():
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    found = image_files.decode(encoded(image, "PNG"), 3)
    white = Image.new("RGBA", image.size, "white")
    np.testing.assert_array_equal(found, rgb_of(Image.alpha_composite(white, image)))
    opacity = ALPHA[..., np.newaxis] / 255
    np.testing.assert_allclose(found, RGB * opacity + 255 * (1 - opacity), atol=1)
    assert (found[0] == 255).all()


def test_transparent_grey_and_palette_are_composited_on_white():
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    opacity = ALPHA / 255
    found = image_files.decode(encoded(grey, "PNG"), 1)[..., 0]
    np.testing.assert_allclose(found, GREY * opacity + 255 * (1 - opacity), atol=1)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    content = encoded(palette, "PNG", transparency=1)
    np.testing.assert_array_equal(image_files.decode(content, 3), [[[10, 20, 30], [255] * 3]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_images_are_upright(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(SMOOTH[:20]), form, exif=exif)
    found = image_files.decode(content, 3)
    upright = rgb_of(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(found, upright)
    assert found.shape == ((20, 32, 3) if orientation < 5 else (32, 20, 3))
    if form == "PNG":
        turned = {
            1: SMOOTH[:20], 2: SMOOTH[:20, ::-1], 3: SMOOTH[:20][::-1, ::-1], 4: SMOOTH[:20][::-1],
            5: SMOOTH[:20].swapaxes(0, 1), 6: np.rot90(SMOOTH[:20], -1),
            7: np.rot90(SMOOTH[:20], 2).swapaxes(0, 1), 8: np.rot90(SMOOTH[:20]),
        }  # fmt: skip
        np.testing.assert_array_equal(found, turned[orientation])


PHOTO = encoded(Image.fromarray(RGB).resize((64, 64)), "JPEG")
DRAWING = encoded(Image.fromarray(RGB), "PNG")
FAULTS = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "is not an image in one of the formats BMP, GIF, JPEG, PNG, TIFF, WEBP"),
    "half of a JPEG": (PHOTO[: len(PHOTO) // 2], "image file is truncated"),
    "JPEG without its end": (PHOTO[:-1], "image file is truncated"),
    "PNG without its end": (DRAWING[:-14], ""),
    "PNG of wrong checksum": (DRAWING[:60] + bytes([DRAWING[60] ^ 1]) + DRAWING[61:], ""),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
} | {
    f"half of a {form}": (content[: len(content) // 2], "")
    for form in ("PNG", "WEBP", "BMP", "GIF", "TIFF")
    for content in [encoded(Image.fromarray(RGB).resize((64, 64)), form)]
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_files_are_found(fault, tmp_path):
    content, reason = FAULTS[fault]
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    size, found = image_files.check(str(file))
    assert size is None and reason in found


def test_a_mended_file_is_checked_again(tmp_path):
    file = tmp_path / "a.png"
    assert image_files.check(str(file)).reason == "cannot be read (No such file or directory)"
    file.write_bytes(DRAWING[:40])
    assert image_files.check(str(file)).reason
    file.write_bytes(DRAWING)
    assert image_files.check(str(file)) == ((6, 9), None)


def test_headers_tell_grey_from_colour(tmp_path):
    images = {
        "grey.png": (Image.fromarray(GREY), 1),
        "deep.png": (Image.fromarray(GREY.astype(np.uint16)), 1),
        "bits.png": (Image.fromarray(GREY > 99), 1),
        "photo.jpg": (Image.fromarray(GREY), 1),
        "colour.png": (Image.fromarray(RGB), 3),
        "palette.gif": (Image.fromarray(RGB).quantize(4), 3),
    }
    for name, (image, channels) in images.items():
        image.save(tmp_path / name)
        assert image_files.stored_channels(str(tmp_path / name)) == channels, name
    assert image_files.stored_channels(str(tmp_path / "none.png")) is None
