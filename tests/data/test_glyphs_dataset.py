"""The glyphs as a dataset."""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from l2rkd_tf import data
from l2rkd_tf.data import glyphs, glyphs_fonts, sources
from tests.data.glyphs_helpers import CONFIGS, examples

COUNTS = {"train": 124, "validation": 62, "test": 70}


@pytest.fixture
def few(masks, monkeypatch):
    """Has each split consist of its first examples only, and its fonts read already."""
    _shorten(masks, monkeypatch)


@pytest.fixture(scope="module")
def glyphs_dir(masks, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        _shorten(masks, patch)
        for name in CONFIGS:
            sources.find_dataset(f"glyphs/{name}", directory)
    return directory


def _shorten(masks, patch):
    patch.setattr(glyphs_fonts, "read_masks", lambda: masks)
    for config in CONFIGS.values():
        patch.setattr(config, "num_examples", COUNTS)


def arrays(dataset):
    inputs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


@pytest.mark.parametrize(("name", "shape"), [("gray16", (16, 16, 1)), ("rgb32", (32, 32, 3))])
def test_loaded_examples_are_those_rendered(masks, glyphs_dir, name, shape):
    for split, count in COUNTS.items():
        dataset = data.load(
            f"glyphs/{name}", split, batch_size=50, shuffle=False, data_dir=glyphs_dir
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


def test_class_names(glyphs_dir):
    dataset = data.load("glyphs/gray16", "test", batch_size=8, data_dir=glyphs_dir)
    names = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert dataset.class_names == list(names)


def test_options_of_load(glyphs_dir):
    few = data.load(
        "glyphs/gray16", "train", batch_size=31, fraction=0.5, shuffle=False, data_dir=glyphs_dir
    )
    np.testing.assert_array_equal(np.bincount(arrays(few)[1]), [1] * 62)
    part = data.load("glyphs/gray16", "train[:75%]", batch_size=31, data_dir=glyphs_dir)
    assert part.num_examples == 93
    moved = data.load("glyphs/rgb32", "test", batch_size=70, augment="crop", data_dir=glyphs_dir)
    assert arrays(moved)[0].shape == (70, 32, 32, 3)


def test_builder_is_known_to_tfds(glyphs_dir):
    builder = tfds.builder("glyphs/rgb32", data_dir=glyphs_dir)
    assert isinstance(builder, glyphs.Glyphs)
    assert builder.info.full_name == "glyphs/rgb32/1.0.0"
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.features["image"].shape == (32, 32, 3)
    assert builder.info.features["image"].np_dtype == np.uint8
    assert tfds.builder("glyphs", data_dir=glyphs_dir).info.full_name == "glyphs/gray16/1.0.0"
    assert {path.name for path in glyphs_dir.iterdir()} == {"glyphs"}


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
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[data\]"):
        data.load("glyphs/gray16", "train", batch_size=8, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepared_glyphs_do_not_need_matplotlib(glyphs_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    loaded = data.load("glyphs/gray16", "test", batch_size=8, data_dir=glyphs_dir)
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


def test_progress_is_shown_only_on_a_terminal(few, tmp_path, monkeypatch, capsys):
    sources.find_dataset("glyphs/gray16", tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    sources.find_dataset("glyphs/gray16", tmp_path / "shown")
    assert "Generating test examples" in terminal.getvalue()
    assert capsys.readouterr().out == ""
