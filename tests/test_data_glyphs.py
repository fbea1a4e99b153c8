import dataclasses
import hashlib
import io
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from l2rkd_tf import data
from l2rkd_tf.data import glyphs, glyphs_draws, glyphs_fonts, glyphs_images, sources

CONFIGS = {config.name: config for config in glyphs.Glyphs.BUILDER_CONFIGS}
SPLITS = ("train", "validation", "test")
COUNTS = {"train": 124, "validation": 62, "test": 70}

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


@pytest.fixture(scope="module")
def masks():
    return glyphs_fonts.read_masks()


@pytest.fixture
def few(masks, monkeypatch):
    """Has each split consist of its first examples alone, and its fonts read already."""
    _shorten(masks, monkeypatch)


@pytest.fixture(scope="module")
def data_dir(masks, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        _shorten(masks, patch)
        for name in CONFIGS:
            sources.find_builder(f"glyphs/{name}", directory)
    return directory


def _shorten(masks, patch):
    patch.setattr(glyphs_fonts, "read_masks", lambda: masks)
    for config in CONFIGS.values():
        patch.setattr(config, "num_examples", COUNTS)


def stream(name, split):
    return f"glyphs/{name}/1.0.0/{split}"


def examples(masks, name, split, start, stop):
    style, of = CONFIGS[name].style, stream(name, split)
    labels = glyphs_draws.draw_labels(of, start, stop)
    draws = glyphs_draws.draw(style, of, start, stop)
    return glyphs_images.render(style, masks, labels, draws), labels


def sha256(chunks):
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.tobytes())
    return digest.hexdigest()


def arrays(dataset):
    inputs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


# What never changes.


FIRST_IMAGES = {
    ("gray16", "train"): "9d1d99403aad40717756cd81885bcf3abf10e71cb0e43f34bc7a87fa522459c8",
    ("gray16", "validation"): "65b66c21ed59072f3aaa348c73684043dfa96366381630096e3bcaa3fc2f2cff",
    ("gray16", "test"): "edf5f9617dd8858fadaa1c4db4b5dfb0aec86202887e2bb6bf0883dae2c74e14",
    ("rgb32", "train"): "d710de8df53ae1edf558cebbdeb4114322d9294ea72b7e64a5a8a93ffd127c35",
    ("rgb32", "validation"): "d1e485ba2e27acc52cd5744300bb316b72693dfe43b63fce2e15c7b6517d4bbb",
    ("rgb32", "test"): "3780d7337619ff0053f61f74bdfbcd577a56af9a58fa868d72ea51b54028b0ab",
}


@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_first_images_never_change(masks, name, split):
    images, _ = examples(masks, name, split, 0, 62)
    assert sha256([images]) == FIRST_IMAGES[name, split]


LABELS = {
    ("gray16", "train"): "cbfed99d1df2e00f5ab90baff2fada9a88c86f5a34224d00e5ad8743045f650f",
    ("gray16", "validation"): "c27f833d115cd41e60fc72c55ff49368b5891db473bb15f47b403485e83d79f3",
    ("gray16", "test"): "540b48e95949f03b342deac2a52533e1f0a1716f1082465e0333a04d57f22dd3",
    ("rgb32", "train"): "28907fa4c5c555a1508292b2fe4af5b9b1b63fcd767af79daf9605297df8b5f1",
    ("rgb32", "validation"): "613f85275f74972dc0442b029c1acd00d615640a5c2152bc6d57936f0c859bb1",
    ("rgb32", "test"): "324f75aabad27c2c8fba3e83ff77af7175aa696cbe57f5e57733eb4220f35462",
}


@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_labels_never_change_and_are_balanced(name, split):
    count = CONFIGS[name].num_examples[split]
    labels = glyphs_draws.draw_labels(stream(name, split), 0, count)
    assert labels.shape == (count,)
    assert sha256([labels.astype("<i8")]) == LABELS[name, split]
    sizes = np.bincount(labels, minlength=62)
    assert len(sizes) == 62
    assert (sizes.min(), sizes.max()) == (count // 62, -(-count // 62))


ALL_IMAGES = {
    ("gray16", "train"): "74b3e8180176944a115f697f78e52c878437fefa09cf32240e8d0456b8fe8f19",
    ("gray16", "validation"): "2834f5f2e81cd6eac53b717e82319bbab498cae31c1fe331ec62da8c27403885",
    ("gray16", "test"): "24b6644799f9c38c01bfc4dd238b614841b3325c95b7673f7b17611abbc836e8",
    ("rgb32", "train"): "1b37b33f8035f4d7a29a04662d95d395345e6e12ee81ddf700f03cd8f9bd70f0",
    ("rgb32", "validation"): "bd97926cdbfafbf3d1de86e2375eb9ece14928b812c77e12f0da82494d255560",
    ("rgb32", "test"): "6354279a9ef33429ee98cbcfaadb1a28a07e75db075a6be34bf9d63970c0e24c",
}


@pytest.mark.stress
@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_all_images_never_change(masks, name, split):
    count = CONFIGS[name].num_examples[split]
    spans = ((start, min(start + 62, count)) for start in range(0, count, 62))
    assert (
        sha256(examples(masks, name, split, *span)[0] for span in spans) == ALL_IMAGES[name, split]
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_depends_on_its_number_alone(masks, name):
    images, labels = examples(masks, name, "train", 0, 130)
    for start, stop in [(0, 1), (61, 62), (62, 63), (129, 130), (40, 100)]:
        some_images, some_labels = examples(masks, name, "train", start, stop)
        np.testing.assert_array_equal(some_images, images[start:stop])
        np.testing.assert_array_equal(some_labels, labels[start:stop])


def test_no_two_examples_are_alike(masks):
    images = [examples(masks, "gray16", split, 0, 620)[0] for split in SPLITS]
    assert len({image.tobytes() for image in np.concatenate(images)}) == 3 * 620


def test_each_62_labels_hold_every_class_in_an_order_of_their_own():
    orders = glyphs_draws.draw_labels("any", 0, 62 * 50).reshape(50, 62)
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(62), (50, 1)))
    assert len({order.tobytes() for order in orders}) == 50


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


# As a data set.


@pytest.mark.parametrize(("name", "shape"), [("gray16", (16, 16, 1)), ("rgb32", (32, 32, 3))])
def test_loaded_examples_are_those_rendered(masks, data_dir, name, shape):
    for split, count in COUNTS.items():
        dataset = data.load(
            f"glyphs/{name}", split, batch_size=50, shuffle=False, data_dir=data_dir
        )
        assert dataset.element_spec == (
            tf.TensorSpec((None, *shape), tf.float32),
            tf.TensorSpec((None,), tf.int64),
        )
        assert dataset.num_examples == count
        images, labels = arrays(dataset)
        expected_images, expected_labels = examples(masks, name, split, 0, count)
        np.testing.assert_array_equal(np.rint(images * 255), expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def test_class_names(data_dir):
    dataset = data.load("glyphs/gray16", "test", batch_size=8, data_dir=data_dir)
    names = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert dataset.class_names == list(names)


def test_options_of_load(data_dir):
    few = data.load(
        "glyphs/gray16", "train", batch_size=31, fraction=0.5, shuffle=False, data_dir=data_dir
    )
    np.testing.assert_array_equal(np.bincount(arrays(few)[1]), [1] * 62)
    part = data.load("glyphs/gray16", "train[:75%]", batch_size=31, data_dir=data_dir)
    assert part.num_examples == 93
    moved = data.load("glyphs/rgb32", "test", batch_size=70, augment="crop", data_dir=data_dir)
    assert arrays(moved)[0].shape == (70, 32, 32, 3)


def test_builder_is_known_to_tfds(data_dir):
    builder = tfds.builder("glyphs/rgb32", data_dir=data_dir)
    assert isinstance(builder, glyphs.Glyphs)
    assert builder.info.full_name == "glyphs/rgb32/1.0.0"
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.features["image"].shape == (32, 32, 3)
    assert builder.info.features["image"].np_dtype == np.uint8
    assert tfds.builder("glyphs", data_dir=data_dir).info.full_name == "glyphs/gray16/1.0.0"
    assert {path.name for path in data_dir.iterdir()} == {"glyphs"}


def test_sizes_of_splits():
    assert {name: config.num_examples for name, config in CONFIGS.items()} == {
        "gray16": {"train": 10_000, "validation": 2_000, "test": 5_000},
        "rgb32": {"train": 50_000, "validation": 5_000, "test": 10_000},
    }


@pytest.mark.parametrize("name", ["glyphs/gray17", "glyphs/"])
def test_unknown_configuration(tmp_path, name):
    with pytest.raises(ValueError, match=r"glyphs.*\['gray16', 'rgb32'\]"):
        data.load(name, "train", batch_size=8, data_dir=tmp_path)


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[examples\]"):
        data.load("glyphs/gray16", "train", batch_size=8, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepared_glyphs_do_not_need_matplotlib(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    loaded = data.load("glyphs/gray16", "test", batch_size=8, data_dir=data_dir)
    assert loaded.num_examples == COUNTS["test"]


@pytest.mark.parametrize("names", [["cmr10.ttf"], ["cmr10.ttf", "absent.ttf"]])
def test_other_fonts_than_those_of_the_version(monkeypatch, names):
    folder = glyphs_fonts._font_paths()[0].parent
    monkeypatch.setattr(glyphs_fonts, "_font_paths", lambda: [folder / name for name in names])
    with pytest.raises(RuntimeError, match="fonts of matplotlib 3.8 to 3.11.* differ"):
        glyphs_fonts.read_masks()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_alone(few, tmp_path, monkeypatch, capsys):
    sources.find_builder("glyphs/gray16", tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    sources.find_builder("glyphs/gray16", tmp_path / "shown")
    assert "Generating test examples" in terminal.getvalue()
    assert capsys.readouterr().out == ""
