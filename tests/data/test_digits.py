"""The digits dataset."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from l2rkd_tf import data
from l2rkd_tf.data import digits, offline
from tests.data.helpers import arrays

SPLITS = ("train", "validation", "test")


def grey_levels():
    return np.rint(load_digits().images * 255 / 16).astype(np.uint8)


def test_public_names():
    assert data.__all__ == ["affine", "class_balanced_subset", "crop", "crop_flip", "load"]


def test_digits_hold_every_image_of_sklearn_once(digits_dir):
    loaded = {
        split: arrays(
            data.load("digits", split, batch_size=256, shuffle=False, data_dir=digits_dir)
        )
        for split in SPLITS
    }
    found = [
        ((image * 255).round().astype(np.uint8).tobytes(), label)
        for images, labels in loaded.values()
        for image, label in zip(images, labels, strict=True)
    ]
    expected = [
        (image.tobytes(), label)
        for image, label in zip(grey_levels(), load_digits().target, strict=True)
    ]
    assert len(set(expected)) == 1797
    assert sorted(found) == sorted(expected)


def test_digits_splits_are_stratified(digits_dir):
    counts = {}
    for split in SPLITS:
        dataset = data.load("digits", split, batch_size=100, data_dir=digits_dir)
        counts[split] = np.bincount(arrays(dataset)[1])
        assert dataset.num_examples == counts[split].sum()
    np.testing.assert_array_equal(counts["train"], [100] * 10)
    np.testing.assert_array_equal(counts["validation"], [20] * 10)
    np.testing.assert_array_equal(counts["test"], np.bincount(load_digits().target) - 120)
    assert counts["test"].sum() == 597


def test_digits_order_never_changes(digits_dir):
    heads = {
        split: next(
            data.load(
                "digits", split, batch_size=12, shuffle=False, data_dir=digits_dir
            ).as_numpy_iterator()
        )[1].tolist()
        for split in SPLITS
    }
    assert heads == {
        "train": [9, 2, 3, 4, 2, 2, 5, 6, 7, 5, 2, 7],
        "validation": [9, 7, 5, 6, 9, 5, 1, 2, 0, 4, 5, 9],
        "test": [9, 5, 1, 2, 9, 0, 9, 6, 3, 1, 0, 7],
    }


def test_digits_scale_and_types(digits_dir):
    dataset = data.load("digits", "train", batch_size=64, data_dir=digits_dir)
    assert dataset.element_spec == (
        tf.TensorSpec((None, 8, 8, 1), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    images, _ = arrays(dataset)
    # The grey levels 0..16, of which 8 is 127.5, rounded to 128.
    levels = np.array([round(v * 255 / 16) for v in range(17)], np.float32) / np.float32(255)
    np.testing.assert_array_equal(np.unique(images), levels)
    assert levels[8] == np.float32(128 / 255)


def test_digits_builder_is_known_to_tfds(digits_dir):
    builder = tfds.builder("digits", data_dir=digits_dir)
    assert isinstance(builder, digits.Digits)
    assert isinstance(builder, tfds.core.GeneratorBasedBuilder)
    assert builder.info.full_name == "digits/1.0.0"
    assert "1.0.0" in builder.info.release_notes
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.features["image"].shape == (8, 8, 1)
    assert "Alpaydin" in builder.info.citation


def test_digits_without_sklearn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[data\]"):
        data.load("digits", "train", batch_size=8, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepared_digits_do_not_need_sklearn(digits_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert data.load("digits", "test", batch_size=8, data_dir=digits_dir).num_examples == 597


def test_a_dataset_that_another_process_prepared_first_is_used(tmp_path):
    early, late = (digits.Digits(data_dir=tmp_path) for _ in range(2))
    offline.prepare_offline(early)
    # As if `late` had looked before `early` was done.
    made = digits.Digits(data_dir=tmp_path / "scratch")
    made.download_and_prepare()
    offline._move_into_place(made, late)
    assert offline.prepare_offline(late).info.splits["train"].num_examples == 1000


def test_directory_that_cannot_be_replaced(tmp_path):
    (tmp_path / "digits" / "1.0.0" / "half").mkdir(parents=True)
    with pytest.raises(OSError, match="digits"):
        data.load("digits", "train", batch_size=8, data_dir=tmp_path)


@pytest.mark.stress
def test_two_processes_prepare_at_once(tmp_path):
    program = (
        "import random, sys, tensorflow, sklearn.datasets\n"
        "from l2rkd_tf import data\n"
        "import l2rkd_tf.data.sources\n"
        "random.seed(0)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(data.load('digits', 'test', batch_size=8, data_dir=sys.argv[1]).num_examples)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["597\n"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
