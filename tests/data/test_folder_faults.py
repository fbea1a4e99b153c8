"""Broken files in folders of images: each file is either loaded or named."""

import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from l2rkd_tf import data
from l2rkd_tf.data import image_files
from tests.data.helpers import arrays, levels, write_images

FORMATS = {
    "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif", "WEBP": ".webp", "JPEG": ".jpg",
}  # fmt: skip


@pytest.fixture
def faulty(tmp_path):
    """Six good images and twelve broken files in two classes."""
    write_images(tmp_path, {f"{name}/{i}": 10 * i for name in ("cat", "dog") for i in range(3)})
    content = (tmp_path / "cat/2.png").read_bytes()
    broken = {"cat/empty.png": b"", "dog/text.JPG": b"hello", "dog/cut.jpeg": content[:-30]}
    broken |= {f"cat/more {i}.webp": b"RIFF" for i in range(8)} | {"cat/phone.HEIC": content}
    for name, bad in broken.items():
        (tmp_path / name).write_bytes(bad)
    return tmp_path, {str(tmp_path / name) for name in broken}


def load(root, split="all", **arguments):
    return data.load(root, split, batch_size=4, shuffle=False, **arguments)


def test_all_broken_files_are_counted_and_ten_named_before_training(faulty):
    root, broken = faulty
    with pytest.raises(ValueError, match=r"`name` must .* 12 of 18 files are broken") as error:
        load(root)
    lines = str(error.value).splitlines()[1:]
    assert [line.split(".")[0].strip() for line in lines[:10]] == [
        path.split(".")[0] for path in sorted(broken)[:10]
    ]
    assert f"{root}/cat/empty.png is empty;" in lines[0]
    assert lines[10:] == ["  and 2 more"]
    assert "set `on_error` to 'skip'" in str(error.value)


def test_broken_files_are_skipped_on_request(faulty):
    root, broken = faulty
    with pytest.warns(UserWarning, match="12 of 18 files are broken") as caught:
        dataset = load(root, on_error="skip")
    assert len(caught) == 1 and caught[0].filename == __file__
    assert set(dataset.skipped) == broken
    assert dataset.skipped[f"{root}/cat/empty.png"] == "is empty"
    assert dataset.skipped[f"{root}/dog/text.JPG"].startswith("is not an image")
    assert dataset.skipped[f"{root}/cat/phone.HEIC"].startswith("has the unsupported format .HEIC")
    assert dataset.num_examples == 6
    found = sorted(zip(arrays(dataset)[1], levels(dataset), strict=True))
    assert found == [(label, level) for label in (0, 1) for level in (0, 10, 20)]


def test_only_what_is_loaded_is_checked(tmp_path):
    write_images(tmp_path, {"train/cat/a": 0, "test/cat/a": 0})
    (tmp_path / "test/cat/b.png").write_bytes(b"")
    assert load(tmp_path, "train").skipped == {}
    with pytest.raises(ValueError, match="test/cat/b.png is empty"):
        load(tmp_path, "test")


def test_an_error_lists_the_broken_files_of_all_splits(tmp_path):
    write_images(tmp_path, {"train/cat/a": 0, "test/cat/a": 0})
    for split in ("train", "test"):
        (tmp_path / split / "cat/b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 of 4 files(.*\n)+.*test/cat/b\..*\n.*train/cat/b\."):
        load(tmp_path, "train")


def test_splits_do_not_depend_on_which_files_are_broken(tmp_path):
    write_images(tmp_path, {f"cat/{i}": i for i in range(20)})
    before = {split: levels(load(tmp_path, split)) for split in ("train", "validation", "test")}
    (tmp_path / f"cat/{before['train'][3]}.png").write_bytes(b"")
    del before["train"][3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        after = {split: levels(load(tmp_path, split, on_error="skip")) for split in before}
    assert after == before


def test_nothing_left(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="1 of 1 files are broken:\n  .*a.png is empty$"):
        load(tmp_path, on_error="skip")


@pytest.mark.filterwarnings("ignore:.*no images of 1 of 2 classes")
def test_a_class_of_broken_files_keeps_its_number(tmp_path):
    write_images(tmp_path, {"dog/a": 7})
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="broken"):
        dataset = load(tmp_path, on_error="skip")
    assert dataset.class_names == ["cat", "dog"] and arrays(dataset)[1].tolist() == [1]


def write_random_folder(root, seed):
    """Writes good and faulty images.

    Returns:
        Pixels by path, None if the format is lossy; paths of good and of broken files. Files whose
        damage may leave an image readable are neither.
    """
    random = np.random.RandomState(seed)
    contents, good, broken = {}, set(), set()
    forms = list(FORMATS)
    for index in range(random.randint(4, 16)):
        form = forms[random.randint(len(forms))]
        image = random.randint(0, 256, (*random.randint(3, 20, size=2), 3)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(image).save(file, form, **{"lossless": True} if form == "WEBP" else {})
        content = file.getvalue()
        suffix = FORMATS[forms[random.randint(len(forms))] if random.rand() < 0.2 else form]
        path = root / f"{'ab'[random.randint(2)]}/{index}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        fault = random.choice(["none", "none", "empty", "cut", "flip", "noise", "text", "link"])
        position = random.randint(len(content))
        if fault in ("empty", "text"):
            content = b"" if fault == "empty" else b"no image " * random.randint(1, 200)
        elif fault == "cut":
            content = content[: len(content) // 2]
        elif fault == "noise":
            content = random.bytes(random.randint(1, 2000))
        elif fault == "flip":
            content = (
                content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]
            )
        path.symlink_to(root / "gone") if fault == "link" else path.write_bytes(content)
        (good if fault == "none" else set() if fault == "flip" else broken).add(str(path))
        contents[str(path)] = image if form not in ("JPEG", "GIF") else None
    return contents, good, broken


def check_random_folder(root, seed):
    contents, good, broken = write_random_folder(root, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = load(root, on_error="skip", image_size=(5, 7))
        except ValueError as error:
            assert "files are broken" in str(error) and not good
            return
        images, _ = arrays(dataset)
    assert len(images) == dataset.num_examples
    assert dataset.num_examples + len(dataset.skipped) == len(contents)
    assert broken <= set(dataset.skipped) and good.isdisjoint(dataset.skipped)
    for path in good:
        if contents[path] is not None:
            np.testing.assert_array_equal(image_files.read(path, 3), contents[path])
    if broken:
        with pytest.raises(ValueError, match=f"{len(dataset.skipped)} of {len(contents)} files"):
            load(root, image_size=(5, 7))


@pytest.mark.parametrize("seed", range(5))
def test_each_file_is_loaded_or_named(tmp_path, seed):
    check_random_folder(tmp_path, seed)


@pytest.mark.stress
def test_each_file_of_200_folders_is_loaded_or_named(tmp_path):
    for seed in range(5, 205):
        root = tmp_path / str(seed)
        os.mkdir(root)
        check_random_folder(root, seed)
