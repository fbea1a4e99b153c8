"""Folders of images: their layouts, splits and slices."""

import collections
import os
import pathlib
import re

import numpy as np
import pytest
from absl import logging
from PIL import Image

from l2rkd_tf import data
from l2rkd_tf.data import folder_layout, folders, loading
from tests.data.helpers import arrays, levels, write_images


def load(root, split, **arguments):
    return data.load(root, split, **{"batch_size": 4, "shuffle": False, **arguments})


def classes_of(root, names=("cat", "dog"), number=20):
    """Images `root/class/*.png`, of which each has a level of its own."""
    found = {f"{n}/{i}": 2 * i + k for i in range(number) for k, n in enumerate(names)}
    write_images(root, found)
    return found


# Splits.


@pytest.mark.parametrize("as_path", [False, True])
def test_folders_of_splits(tmp_path, as_path):
    images = {
        f"{split}/{label}/{i}": 40 * i + 20 * (label == "dog")
        for split in ("train", "test")
        for label in ("cat", "dog")
        for i in range(4 if split == "train" else 2)
    }
    write_images(tmp_path, images)
    name = tmp_path if as_path else str(tmp_path)
    dataset = load(name, "train", batch_size=3)
    assert dataset.class_names == ["cat", "dog"]
    assert (dataset.num_examples, dataset.skipped, dataset.cursor) == (8, {}, None)
    assert dataset.element_spec[0].shape == (None, 2, 3, 3)
    _, labels = arrays(dataset)
    assert sorted(levels(dataset)) == [0, 20, 40, 60, 80, 100, 120, 140]
    np.testing.assert_array_equal(labels, np.array(levels(dataset)) // 20 % 2)
    subset = data.load(name, "train", batch_size=3, fraction=0.5)
    np.testing.assert_array_equal(np.bincount(arrays(subset)[1]), [2, 2])


def test_folders_of_classes_are_divided(tmp_path):
    images = classes_of(tmp_path, number=20)
    parts = {split: load(tmp_path, split) for split in ("train", "validation", "test")}
    assert [part.num_examples for part in parts.values()] == [32, 4, 4]
    for part in parts.values():
        labels = arrays(part)[1]
        np.testing.assert_array_equal(labels, np.array(levels(part)) % 2)
        assert np.ptp(np.bincount(labels)) == 0
    everything = [level for part in parts.values() for level in levels(part)]
    assert sorted(everything) == sorted(images.values())
    assert sorted(levels(load(tmp_path, "all"))) == sorted(images.values())


def test_the_split_seed_decides_and_the_seed_does_not(tmp_path):
    classes_of(tmp_path)
    first = levels(load(tmp_path, "test"))
    assert levels(load(tmp_path, "test", seed=3)) == first
    assert levels(load(tmp_path, "test", split_seed=1)) != first


def test_splits_never_change_between_releases(tmp_path):
    classes_of(tmp_path, number=10)
    assert levels(load(tmp_path, "test")) == [15, 14]
    assert levels(load(tmp_path, "train[:4]")) == [3, 4, 0, 13]


@pytest.mark.parametrize(("number", "sizes"), [(1, [1]), (2, [1, 0, 1]), (3, [1, 1, 1]),
                                               (15, [11, 2, 2]), (100, [80, 10, 10])])  # fmt: skip
def test_sizes_of_drawn_splits(tmp_path, number, sizes):
    for i in range(number):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / f"cat/{i}.png").touch()
    splits = folder_layout.read_layout(str(tmp_path), 0).splits
    found = {name: len(classes["cat"]) for name, classes in splits.items()}
    names = ("train", "validation", "test")
    expected = {name: size for name, size in zip(names, sizes, strict=False) if size}
    assert found == {**expected, "all": number}


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    classes_of(tmp_path)
    expected = levels(load(tmp_path, "all"))
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])
    assert levels(load(tmp_path, "all")) == expected


def test_a_new_file_leaves_the_others_in_order(tmp_path):
    classes_of(tmp_path)
    before = levels(load(tmp_path, "all"))
    write_images(tmp_path, {"cat/new": 255})
    after = [level for level in levels(load(tmp_path, "all")) if level % 2 == 0]
    assert after == [level for level in before if level % 2 == 0]


@pytest.mark.parametrize(
    ("first", "second"), [("train[:75%]", "train[75%:]"), ("train[:1]", "train[1:]"),
                          ("train[:-3]", "train[-3:]"), ("train[-50%:]", "train[:-50%]")]
)  # fmt: skip
def test_slices_of_a_folder_divide_it(tmp_path, first, second):
    write_images(tmp_path, {f"train/{k}/{i}": 10 * i + k for k in (0, 1) for i in range(10)})
    parts = {split: levels(load(tmp_path, split)) for split in (first, second, "train")}
    assert len(parts[first]) == {"train[:75%]": 15, "train[:1]": 1, "train[:-3]": 17}.get(first, 10)
    order = (second, first) if first == "train[-50%:]" else (first, second)
    assert parts[order[0]] + parts[order[1]] == parts["train"]
    assert levels(load(tmp_path, f"{second} + {first}")) == parts[second] + parts[first]


def test_slices_hold_the_same_fraction_of_each_class(tmp_path):
    write_images(tmp_path, {f"all/{k}/{i}": i for k, n in ((0, 20), (1, 60)) for i in range(n)})
    for split, expected in (("all[:25%]", [5, 15]), ("all[25%:50%]", [5, 15]), ("all[:4]", [1, 3])):
        labels = arrays(load(tmp_path, split))[1]
        np.testing.assert_array_equal(np.bincount(labels), expected, split)


@pytest.mark.parametrize("split", ["test", "train[", "test[:1]", "train[a:]", "train[:1]+test"])
def test_unknown_split_of_a_folder(tmp_path, split):
    write_images(tmp_path, {"train/cat/a": 0})
    with pytest.raises(ValueError, match=r"`split` .*\['train'\].* such as 'train\[:80%\]'"):
        load(tmp_path, split)


@pytest.mark.parametrize("split", ["train[:9]", "train[-9:]", "train[:101%]"])
def test_slices_beyond_a_folder(tmp_path, split):
    write_images(tmp_path, {"train/cat/a": 0})
    with pytest.raises(ValueError, match="`split` must be a slice within the 1 examples, or 100 %"):
        load(tmp_path, split)


@pytest.mark.parametrize("split", ["train[1:]", "train[:0%]"])
def test_empty_slices_of_a_folder(tmp_path, split):
    write_images(tmp_path, {"train/cat/a": 0})
    with pytest.raises(ValueError, match="`split` must hold at least one example"):
        load(tmp_path, split)


# Layouts.


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train/cat/a", "test/cat/a"], {"train": ["cat"], "test": ["cat"]}),
        (["TRAIN/cat/a", "Val/cat/deep/er/a"], {"TRAIN": ["cat"], "Val": ["cat"]}),
        (["all/cat/a", "all/dog/a"], {"all": ["cat", "dog"]}),
        (["set 1/cat/a", "set+2/cat/a"], {"set 1": ["cat"], "set+2": ["cat"]}),
        # Overviews, which are not examples.
        (["train/cat/a", "train/cat/b", "train/overview", "test/cat/a", "test/cat/b"],
         {"train": ["cat"], "test": ["cat"]}),
        # As downloaded from a competition: the images of the test split have no labels.
        (["train/cat/a", "test/a", "test/b"], {"train": ["cat"]}),
        (["cat/a", "dog/a", "dog/b"], None),
        (["cat/a", "dog/day 1/a", "dog/day 2/a"], None),
        # A means of transport.
        (["train/a", "car/a", "bus/a"], None),
        (["train/a", "train/b", "train/old/a", "car/old/a"], None),
    ],
)  # fmt: skip
def test_splits_are_told_from_classes(tmp_path, names, splits):
    write_images(tmp_path, dict.fromkeys(names, 0))
    layout = folder_layout.read_layout(str(tmp_path), 0)
    assert layout.has_splits == (splits is not None)
    if splits:
        assert {split: sorted(found) for split, found in layout.splits.items()} == splits
        assert load(tmp_path, next(iter(splits))).num_examples
    else:
        assert layout.class_names == sorted({name.split("/")[0] for name in names})
        assert load(tmp_path, "all").num_examples == len(names)


def test_images_in_folders_of_a_class_belong_to_it(tmp_path):
    write_images(
        tmp_path,
        {"train/cat/a": 0, "train/cat/2024/b": 2, "train/cat/x/y/z/c": 4, "train/dog/x/d": 1},
    )
    dataset = load(tmp_path, "train")
    assert dataset.class_names == ["cat", "dog"]
    assert sorted(zip(levels(dataset), arrays(dataset)[1], strict=True)) == [
        (0, 0), (1, 1), (2, 0), (4, 0),
    ]  # fmt: skip


def test_hidden_files_are_ignored_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "warning", pytest.fail)
    classes_of(tmp_path, number=3)
    for name in (
        ".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "cat/._0.png",
        "__MACOSX/cat/._0.png", "__MACOSX/cat/9.png", ".git/cat/1.png", "dog/.thumbnails/1.png",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    dataset = load(tmp_path, "all")
    assert (dataset.num_examples, dataset.class_names) == (6, ["cat", "dog"])


def test_other_files_are_listed_once(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda form, *words: lines.append(form % words))
    write_images(tmp_path, {"train/cat/a": 1, "train/overview": 9, "test/cat/a": 1})
    for name in ("readme.md", "train/cat/a.txt", "train/labels.csv"):
        (tmp_path / name).touch()
    for split in ("train", "test"):
        assert load(tmp_path, split).num_examples == 1
    (line,) = lines
    assert line.endswith(
        "ignored: 4 files (readme.md, train/cat/a.txt, train/labels.csv, train/overview.png)"
    )


def test_empty_folders_are_listed(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(logging, "warning", lambda form, *words: lines.append(form % words))
    write_images(tmp_path, {"train/cat/a": 1})
    (tmp_path / "train/bird").mkdir()
    assert load(tmp_path, "train").class_names == ["cat"]
    assert lines[0].endswith("these folders hold no images, and are ignored: train/bird")


def test_a_class_that_only_the_training_split_has(tmp_path):
    write_images(tmp_path, {"train/cat/a": 0, "train/dog/a": 0, "test/dog/a": 0})
    with pytest.warns(UserWarning, match="'test' of .* no images of 1 of 2 classes: cat$"):
        dataset = load(tmp_path, "test")
    assert dataset.class_names == ["cat", "dog"]
    assert arrays(dataset)[1].tolist() == [1]


def test_a_class_that_the_training_split_lacks(tmp_path):
    # As Tiny ImageNet is downloaded.
    write_images(tmp_path, {"train/n1/images/a": 0, "train/n2/images/a": 0, "val/images/a": 0})
    assert load(tmp_path, "train").class_names == ["n1", "n2"]
    with pytest.raises(ValueError, match=r"`split` .*lacks.* split='val' .* \['images'\]"):
        load(tmp_path, "val")


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_images(tmp_path / "elsewhere", {"dog/a": 3, "dog/b": 5})
    write_images(tmp_path / "images", {"cat/a": 2})
    try:
        (tmp_path / "images/dog").symlink_to(tmp_path / "elsewhere/dog")
        (tmp_path / "images/cat/b.png").symlink_to(tmp_path / "images/cat/a.png")
        (tmp_path / "images/cat/circle").symlink_to(tmp_path / "images")
    except OSError:
        pytest.skip("this file system has no links")
    dataset = load(tmp_path / "images", "all")
    assert sorted(zip(levels(dataset), arrays(dataset)[1], strict=True)) == [
        (2, 0), (2, 0), (3, 1), (5, 1),
    ]  # fmt: skip


def test_names_of_any_letters(tmp_path):
    names = {"train set/café au lait/première 1": 0, "train set/猫 (x)/b+[c]": 1}
    write_images(tmp_path / "mes photos é", names)
    dataset = load(tmp_path / "mes photos é", "train set")
    assert dataset.class_names == ["café au lait", "猫 (x)"]
    assert sorted(zip(arrays(dataset)[1], levels(dataset), strict=True)) == [(0, 0), (1, 1)]
    assert load(tmp_path / "mes photos é", "train set[:1]").num_examples == 1


def test_composed_and_decomposed_names_are_drawn_alike():
    composed, decomposed = "caf\u00e9/a.png", "cafe\u0301/a.png"
    assert folder_layout.drawn(composed, 0) == folder_layout.drawn(decomposed, 0)


@pytest.mark.parametrize("files", [{}, {"readme.md": b""}, {"a.png": b"", "b.png": b""}])
def test_folders_without_examples(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape("`root/split/class/*.jpg` or `root/class/")):
        load(tmp_path, "train")


def test_classes_taken_for_splits_are_explained(tmp_path):
    write_images(tmp_path, {"cat/day 1/a": 0, "dog/day 1/a": 0})
    with pytest.raises(ValueError, match="if they are classes, move the images into them"):
        load(tmp_path, "train")


def test_folder_whose_name_tfds_knows(tmp_path, monkeypatch, digits_dir):
    write_images(tmp_path / "digits", {"train/one/a": 0})
    monkeypatch.chdir(tmp_path)
    assert load("digits", "train", data_dir=digits_dir).num_examples == 1000
    assert load("./digits", "train").class_names == ["one"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(pathlib.Path("~/digits"), "train").class_names == ["one"]


# Images.


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_folder_of_varying_sizes(tmp_path, suffix):
    sizes = [(4, 6), (300, 5)]
    images = {f"train/cat/{i}": np.full((*size, 3), 128, np.uint8) for i, size in enumerate(sizes)}
    write_images(tmp_path, images, suffix)
    message = r"`image_size` must be given.* \(4, 6\) and \(300, 5\)"
    with pytest.raises(ValueError, match=message):
        load(tmp_path, "train")
    resized, _ = arrays(load(tmp_path, "train", image_size=7))
    np.testing.assert_allclose(resized, np.full((2, 7, 7, 3), 128 / 255), atol=1e-7)


def test_suffixes_of_any_case_and_of_another_format(tmp_path):
    classes_of(tmp_path, number=3)
    for index, name in enumerate(("a.PNG", "b.JpEg", "c.webp", "d.BMP", "e.Tiff", "f.GIF")):
        (tmp_path / f"cat/{index}.png").replace(tmp_path / f"cat/{name}") if index < 3 else (
            tmp_path / f"dog/{index - 3}.png"
        ).replace(tmp_path / f"dog/{name}")
    assert sorted(levels(load(tmp_path, "all"))) == [0, 1, 2, 3, 4, 5]


def test_grey_images_only_have_one_channel(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_images(tmp_path, {"train/cat/a": grey, "test/cat/a": grey})
    images, _ = arrays(load(tmp_path, "train"))
    np.testing.assert_allclose(images[0, :, :, 0], grey / 255, atol=1e-7)
    assert images.shape == (1, 2, 3, 1)


def test_one_colour_image_in_any_split_makes_all_rgb(tmp_path):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    write_images(tmp_path, {"train/cat/a": grey, "test/cat/a": 5})
    images, _ = arrays(load(tmp_path, "train"))
    np.testing.assert_allclose(images[0], np.repeat(grey[..., None], 3, axis=-1) / 255, atol=1e-7)


@pytest.mark.parametrize("kept", ["in memory", "large"])
def test_a_folder_resumes_at_any_batch(tmp_path, monkeypatch, kept):
    if kept == "large":
        monkeypatch.setattr(loading, "_CACHE_BYTES", 0)
    classes_of(tmp_path, number=7)
    arguments = {"shuffle": True, "seed": 3, "augment": "crop_flip"}
    dataset = load(tmp_path, "all", **arguments)
    expected = [x.tobytes() for _ in range(3) for x, _ in dataset.as_numpy_iterator()]
    assert len(set(expected)) == len(expected) == 12
    again = load(tmp_path, "all", **arguments)
    again.cursor.set_batch(5)
    assert [x.tobytes() for x, _ in again.repeat().take(7).as_numpy_iterator()] == expected[5:]


def test_each_pass_over_large_data_holds_every_example_once(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_CACHE_BYTES", 0)
    images = classes_of(tmp_path, number=7)
    dataset = load(tmp_path, "all", shuffle=True)
    passes = [levels(dataset) for _ in range(2)]
    assert passes[0] != passes[1]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(images.values())


def test_a_file_that_breaks_after_loading_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_CACHE_BYTES", 0)
    write_images(tmp_path, {"train/cat/a": 0})
    dataset = load(tmp_path, "train")
    (tmp_path / "train/cat/a.png").unlink()
    with pytest.raises(Exception, match=r"train/cat/a\.png cannot be read"):
        levels(dataset)


def test_numbers_of_files_in_messages():
    assert folders._counted(["a"]) == "1 file (a)"
    many = collections.Counter(map(str, range(12)))
    assert folders._counted(list(many)) == "12 files (0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more)"


def test_images_are_resized_as_pillow_does_with_bilinear(tmp_path):
    """So that an app can prepare images in the same way."""
    random = np.random.default_rng(0)
    for name, size in (("cat", (90, 60)), ("dog", (20, 31))):
        smooth = Image.fromarray(random.integers(0, 256, (9, 9, 3), "uint8")).resize(size)
        (tmp_path / "train" / name).mkdir(parents=True)
        smooth.save(tmp_path / "train" / name / "1.png")
    images, labels = arrays(load(tmp_path, "train", image_size=32, shuffle=False))
    for image, label in zip(images, labels, strict=True):
        stored = Image.open(tmp_path / "train" / ("cat", "dog")[label] / "1.png").convert("RGB")
        expected = np.asarray(stored.resize((32, 32), Image.BILINEAR), "float32") / 255
        np.testing.assert_allclose(image, expected, atol=1.5 / 255)
