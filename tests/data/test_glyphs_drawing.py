"""Outlines, masks and the rendering of glyphs."""

import dataclasses

import numpy as np
import pytest

from l2rkd_tf.data import glyphs_draws, glyphs_fonts, glyphs_images

# No variation at all: a capital is 8 of 16 pixels high, white on black or black on white.
PLAIN = glyphs_draws.Style(
    size=16,
    channels=1,
    cap_height=(8.0, 8.0),
    stretch=0.0,
    turn=0.0,
    shear=0.0,
    shift=0.0,
    footprint=(1.0, 1.0),
    contrast=(1.0, 1.0),
    tint=0.0,
    shade=0.0,
    noise=0.0,
    neighbours=0.0,
    gap=(0.0, 0.0),
)


# Outlines and masks.


def rectangle(left, top, right, bottom):
    """Edges clockwise, as seen with rows downward."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)


def test_outlines_are_filled_by_their_winding():
    outer, hole = rectangle(10, 20, 40, 60), rectangle(20.5, 30.5, 30.5, 50.5)
    expected = np.zeros((192, 192), bool)
    expected[20:60, 10:40] = True
    np.testing.assert_array_equal(glyphs_fonts._fill(outer), expected)
    overlapping = np.concatenate([outer, hole])
    np.testing.assert_array_equal(glyphs_fonts._fill(overlapping), expected)
    with_hole = np.concatenate([outer, hole[:, ::-1]])
    # Pixels whose centres lie on the left and upper edge of the hole belong to it.
    expected[30:50, 20:30] = False
    np.testing.assert_array_equal(glyphs_fonts._fill(with_hole), expected)


def test_curves_are_those_of_bezier():
    points = glyphs_fonts._flatten(np.array([(0.0, 0.0), (1.0, 2.0), (4.0, 0.0)]))
    t = np.arange(9)[:, np.newaxis] / 8
    expected = 2 * t * (1 - t) * [1, 2] + t**2 * [4, 0]
    np.testing.assert_allclose(points, expected, rtol=1e-15)


@pytest.mark.parametrize("character", ["8", "Q", "g", "i"])
@pytest.mark.parametrize("font", ["DejaVuSerif", "cmb10"])
def test_masks_agree_with_matplotlib(masks, font, character):
    from matplotlib import font_manager, textpath
    from matplotlib.path import Path

    (path,) = [path for path in glyphs_fonts._font_paths() if path.stem == font]
    prop = font_manager.FontProperties(fname=path)
    capital, outline = (
        # So large that matplotlib makes the straight pieces of its curves short.
        textpath.TextPath((0, 0), text, size=5000, prop=prop)
        for text in ("H", character)
    )
    unit = capital.get_extents().ymax / 96
    extents = outline.get_extents()
    x = (np.arange(192) + 0.5 - 96) * unit + (extents.xmin + extents.xmax) / 2
    y = (144 - (np.arange(192) + 0.5)) * unit
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    contours = [Path(contour).contains_points(points) for contour in outline.to_polygons()]
    # Inside an odd number of contours: those of one character do not overlap here.
    expected = np.logical_xor.reduce(contours).reshape(192, 192)
    mask = masks[glyphs_fonts.FONTS.index(font), glyphs_fonts.CHARACTERS.index(character)]
    assert expected.sum() > 900
    assert (mask != expected).sum() <= 25


def test_masks_fit_and_stand_on_one_line(masks):
    assert masks.shape == (len(glyphs_fonts.FONTS), 62, 192, 192)
    assert not masks[:, :, [0, -1]].any() and not masks[:, :, :, [0, -1]].any()
    rows = masks[:, glyphs_fonts.CHARACTERS.index("H")].any(axis=-1)
    np.testing.assert_array_equal(rows, np.tile(np.arange(192) // 48 % 3 > 0, (len(masks), 1)))


def test_small_letters_are_smaller_than_capitals(masks):
    heights = {
        character: masks[:, glyphs_fonts.CHARACTERS.index(character)].any(axis=-1).sum(axis=1)
        for character in "OoXxZz"
    }
    for capital in "OXZ":
        ratio = heights[capital.lower()] / heights[capital]
        assert 0.62 < ratio.min() < ratio.max() < 0.83


# Drawing and rendering.


def plain_draws(count=1, **numbers):
    """Nothing shifted, turned, sheared, shaded or stretched; the first font, white ink."""
    middle = {name: np.full(count, 0.5) for name in glyphs_draws._NAMES}
    middle |= {"font": np.zeros(count), "polarity": np.zeros(count)}
    return glyphs_draws.Draws(
        numbers=middle | {name: np.full(count, value) for name, value in numbers.items()},
        tints=np.full((count, 2, 3), 0.5),
        noise=np.ones((count, 16, 16, 1), np.float32),
    )


def corner_mask():
    """An L: rows 48 to 144, as a capital, whose foot is 48 of 96 columns wide."""
    mask = np.zeros((1, 1, 192, 192), bool)
    mask[0, 0, 48:144, 72:96] = True
    mask[0, 0, 120:144, 72:120] = True
    return mask


def corner_image():
    image = np.zeros((16, 16), np.uint8)
    image[4:12, 6:8] = 255
    image[10:12, 6:10] = 255
    return image


def render_corner(style=PLAIN, **numbers):
    return glyphs_images.render(style, corner_mask(), np.zeros(1, int), plain_draws(**numbers))[0]


def test_plain_image():
    np.testing.assert_array_equal(render_corner()[..., 0], corner_image())


def test_ink_may_be_darker():
    np.testing.assert_array_equal(render_corner(polarity=0.5)[..., 0], 255 - corner_image())


def test_shift_moves_right_and_down():
    style = dataclasses.replace(PLAIN, shift=2.0)
    image = render_corner(style, shift_x=1.0, shift_y=0.75)[..., 0]
    np.testing.assert_array_equal(image, np.roll(corner_image(), (1, 2), axis=(0, 1)))


@pytest.mark.parametrize(("draw", "quarters"), [(1.0, -1), (0.0, 1)])
def test_turn_by_a_right_angle(draw, quarters):
    image = render_corner(dataclasses.replace(PLAIN, turn=1.0), turn=draw)[..., 0]
    np.testing.assert_array_equal(image, np.rot90(corner_image(), quarters))


def test_size_and_stretch():
    style = dataclasses.replace(PLAIN, cap_height=(4.0, 8.0), stretch=1.0)
    image = render_corner(style, cap_height=0.0, stretch=1.0)[..., 0]
    # Half as high, and stretched to twice the width again.
    np.testing.assert_array_equal(image[6:10], corner_image()[4:12:2])
    assert not image[:6].any() and not image[10:].any()


def test_shear_leans_the_top():
    style = dataclasses.replace(PLAIN, shear=1.0)
    image = render_corner(style, shear=1.0)[..., 0] / 255
    # A row moves to the right by its height above the middle, give or take half a subpixel.
    for row in range(4, 12):
        centre = (image[row] * (np.arange(16) + 0.5)).sum() / image[row].sum()
        plain = 7.0 if row < 10 else 8.0
        assert centre == pytest.approx(plain + (7.5 - row), abs=0.13)


def test_footprint_blurs_by_averaging_a_square():
    mask = np.zeros((1, 1, 192, 192), bool)
    mask[0, 0, 1:191, 96:191] = True  # The right half.
    style = dataclasses.replace(PLAIN, footprint=(1.0, 4.0))
    image = glyphs_images.render(style, mask, np.zeros(1, int), plain_draws(footprint=1.0))[0]
    # Four subpixels, one pixel apart.
    expected = np.rint(255 * np.array([0, 0.25, 0.5, 0.75, 1]))
    np.testing.assert_array_equal(image[8, 5:10, 0], expected)


def test_noise_and_shade_are_added():
    style = dataclasses.replace(PLAIN, contrast=(0.0, 0.0), noise=0.2)
    np.testing.assert_array_equal(
        render_corner(style, level=0.5, noise=0.5), np.full((16, 16, 1), round(255 * 0.6))
    )
    style = dataclasses.replace(PLAIN, contrast=(0.0, 0.0), shade=0.16)
    image = render_corner(style, shade_x=1.0)[..., 0]
    ramp = np.rint(255 * (0.5 + 0.16 * (np.arange(16) - 7.5) / 8))
    np.testing.assert_allclose(image, np.tile(ramp, (16, 1)), atol=1)


def test_tints_keep_the_mean_of_the_channels():
    style = dataclasses.replace(PLAIN, channels=3, contrast=(0.2, 0.2), tint=0.3)
    draws = plain_draws(level=0.5)
    tints = np.array([[[1.0, 0.5, 0.0], [0.0, 0.0, 0.75]]])
    draws = dataclasses.replace(draws, tints=tints, noise=np.zeros((1, 16, 16, 3), np.float32))
    image = glyphs_images.render(style, corner_mask(), np.zeros(1, int), draws)[0]
    np.testing.assert_allclose(image[8, 7] / 255, [0.9, 0.6, 0.3], atol=0.003)
    np.testing.assert_allclose(image[0, 0] / 255, [0.25, 0.25, 0.7], atol=0.003)


def bars():
    """Two characters: bars of 48 and of 24 columns."""
    masks = np.zeros((1, 2, 192, 192), bool)
    masks[0, 0, 48:144, 72:120] = True
    masks[0, 1, 48:144, 84:108] = True
    return masks


def test_neighbours_stand_on_the_line_with_a_gap():
    style = dataclasses.replace(PLAIN, neighbours=1.0, gap=(0.0, 0.5))
    numbers = plain_draws(gap=0.5, left=0.75, right=0.25).numbers  # A gap of 24 columns.
    lines = glyphs_images._lines(style, bars(), np.zeros(1, int), numbers)
    expected = np.zeros((1, 192, 576), bool)
    for start, stop in [(216, 240), (264, 312), (336, 384)]:
        expected[0, 48:144, start:stop] = True
    np.testing.assert_array_equal(lines, expected)


def test_neighbours_may_be_missing():
    style = dataclasses.replace(PLAIN, neighbours=0.5, gap=(0.25, 0.25))
    numbers = plain_draws(left=0.5, right=0.499).numbers
    lines = glyphs_images._lines(style, bars(), np.ones(1, int), numbers)
    columns = np.zeros(576, bool)
    columns[276:300] = True
    columns[324:348] = True  # The second of two characters again.
    np.testing.assert_array_equal(lines[0, 100], columns)


def test_neighbours_do_not_change_the_character(masks):
    style = dataclasses.replace(PLAIN, neighbours=1.0, gap=(2.0, 2.0))
    labels, draws = np.arange(62), plain_draws(62)
    np.testing.assert_array_equal(
        glyphs_images.render(style, masks, labels, draws),
        glyphs_images.render(PLAIN, masks, labels, draws),
    )


def test_draws_are_raw_words_of_philox():
    draws = glyphs_draws.draw(PLAIN, "any", 7, 9)
    key = np.random.SeedSequence(list(b"any/images")).generate_state(2, np.uint64)
    words = np.random.Philox(key=key).random_raw(9 * 280).reshape(9, 280)[7:].tolist()
    for example, row in enumerate(words):
        assert draws.numbers["font"][example] == (row[0] >> 11) / 2**53
        assert draws.tints[example, 1, 2] == (row[22] >> 11) / 2**53
        parts = sum(row[278] >> shift & 0xFFFF for shift in (0, 16, 32, 48))
        expected = (parts - 131070) / np.sqrt((2**32 - 1) / 3)
        np.testing.assert_allclose(draws.noise[example, -1, -1, 0], expected, rtol=1e-6)


def test_noise_has_mean_0_and_variance_1():
    noise = glyphs_draws.draw(PLAIN, "any", 0, 400).noise  # 102,400 values.
    assert abs(noise.mean()) < 0.015
    assert noise.var() == pytest.approx(1, abs=0.02)
    # That of a sum of four uniform numbers: 3 - 1.2 / 4.
    assert (noise.astype(np.float64) ** 4).mean() == pytest.approx(2.7, abs=0.06)
