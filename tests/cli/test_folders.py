"""Commands that read a folder of images."""

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.cli import commands


@pytest.fixture
def photos(tmp_path):
    """`photos/class/*.jpg`: ten pictures of each of two classes, and a broken one."""
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(10):
            image = np.full((9, 8, 3), 60 + 130 * label + 5 * index, np.uint8)
            Image.fromarray(image).save(tmp_path / f"photos/{name}/{index}.jpg")
    (tmp_path / "photos/cat/broken.jpg").write_bytes(b"")
    return tmp_path / "photos"


def test_paths_with_spaces_and_folders_that_later_commands_find(photos, tmp_path, monkeypatch):
    folder = tmp_path / "two words"
    photos.rename(folder)
    (folder / "cat/broken.jpg").unlink()
    monkeypatch.chdir(tmp_path)
    words = ["--dataset=two words", "--widths=2", "--epochs=1", "--image_size=8"]
    printed = commands.succeed("train-teacher", *words, "--output=of mine")
    (last,) = (line for line in printed.splitlines() if line.startswith("Next: l2rkd distill"))
    assert shlex.split(last)[3:] == [
        "--teacher=of mine/seed0/model.keras",
        "--dataset=two words",
        "--image_size=8",
    ]
    monkeypatch.chdir(folder)
    student = tmp_path / "of mine/seed0/model.keras"
    plan = commands.succeed("export", f"--student={student}", "--dry_run", "--output=new")
    assert str(folder) in plan


def test_a_folder_of_one_class(photos, tmp_path):
    shutil.rmtree(photos / "cat")
    (only,) = photos.iterdir()
    line = commands.fail("train-teacher", f"--dataset={photos}", f"--output={tmp_path}/new")
    assert f"--dataset must have at least two classes. Received: name={photos}" in line
    assert f"with ['{only.name}']" in line


@pytest.mark.filterwarnings("ignore:.*'test' of .* has no images of 1 of 2 classes. cat")
def test_classes_are_divided_and_broken_files_skipped_as_the_run_records(photos, tmp_path):
    data = [f"--dataset={photos}", "--split_seed=3", "--image_size=8"]
    words = ["train-teacher", *data, "--widths=2", "--epochs=1", f"--output={tmp_path}/teacher"]
    line = commands.fail(*words)
    assert "--dataset must be a folder of images that can be decoded" in line
    assert "or set --on_error to 'skip'" in line
    assert f"1 of 21 files are broken: {photos}/cat/broken.jpg is empty" in line
    student = tmp_path / "teacher/seed0/model.keras"
    with pytest.warns(UserWarning, match="1 of 2 files are broken"):
        printed = commands.succeed(*words, "--on_error=skip")
    assert "on 17 examples" in printed
    command = ["l2rkd distill", f"--teacher={student}", *data, "--on_error=skip"]
    assert printed.splitlines()[-1] == f"Next: {' '.join(command)}"
    config = json.loads((student.parent / "config.json").read_text())
    assert (config["split_seed"], config["on_error"]) == (3, "skip")
    with pytest.warns(UserWarning, match="1 of 2 files are broken"):
        printed = commands.succeed("export", f"--student={student}", "--dry_run")
    assert "split train: 17 examples of 8x8x3, 2 classes" in printed
