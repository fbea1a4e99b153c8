"""Models and data that were not made for each other are refused before anything is done."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from l2rkd_tf.cli.common import training
from tests.cli import commands


def photos(folder, classes, size=8):
    """A folder of ten images of each class."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            image = np.full((size, size, 3), 40 * label + 5 * index, np.uint8)
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def refusal(*words):
    """What a command says that refuses after it has read models and data."""
    status, _, errors = commands.run(*words)
    assert status == 2, errors
    return errors


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the images `abc`, and a run that has learned to tell them apart."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = photos(folder / "abc", "abc")
    words = ["--widths=2", "--epochs=1", "--steps_per_epoch=1", f"--output={folder}/run"]
    commands.succeed("train-teacher", f"--dataset={dataset}", "--image_size=8", *words)
    return folder


def test_the_run_knows_its_classes(trained):
    assert json.loads((trained / "run/seed0/config.json").read_text())["class_names"] == [*"abc"]


@pytest.mark.parametrize("command", ["export", "benchmark", "inspect", "distill", "tune"])
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("ab", "--dataset must have the classes of --{}, ['a', 'b', 'c']. Received: ['a', 'b']"),
        ("abd", "of --{}, ['a', 'b', 'c']. Received: ['a', 'b', 'd']"),
        ("abcd", "of --{}, ['a', 'b', 'c']. Received: ['a', 'b', 'c', 'd']"),
    ],
)
def test_other_classes_are_refused(trained, tmp_path, command, classes, message, monkeypatch):
    monkeypatch.setattr(training, "fit", commands.refuse_work)
    model, dataset = trained / "run/seed0/model.keras", photos(tmp_path / "photos", classes)
    words = [f"--dataset={dataset}", "--image_size=8", f"--output={tmp_path}/output"]
    flag = {"inspect": "teacher", "distill": "teacher", "tune": "teacher"}.get(command, "student")
    if command in ("export", "benchmark"):
        words.append(f"--student={model}")
    if command == "inspect":
        words.append(f"--student=it={model}")
    if command != "export":
        words.append(f"--teacher={model}")
    assert message.format(flag) in refusal(command, *words)
    assert not (tmp_path / "output").exists()


def test_a_model_without_a_record_is_known_by_the_number_of_its_outputs(trained, tmp_path):
    shutil.copy(trained / "run/seed0/model.keras", tmp_path)
    dataset = photos(tmp_path / "photos", "xyzw")
    words = [f"--student={tmp_path}/model.keras", f"--dataset={dataset}", "--image_size=8"]
    line = refusal("export", *words, f"--output={tmp_path}/output")
    assert "of --student, 3 classes. Received: ['w', 'x', 'y', 'z']" in line


def test_images_of_another_size_are_refused(trained, tmp_path):
    words = [f"--student={trained}/run/seed0/model.keras", "--image_size=16"]
    line = refusal("export", *words, f"--output={tmp_path}/output")
    assert "--dataset must have the inputs that --student takes, of shape (8, 8, 3)" in line
    assert "Received: inputs of shape (16, 16, 3). --image_size resizes images." in line


def test_data_without_classes_are_refused(tmp_path):
    line = refusal("distill", "--dataset=glyph_scenes", f"--output={tmp_path}/output")
    assert "--dataset must have class labels" in line


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--splits=train,validation,tets", "--splits"), ("--dataset=tpyo", "--dataset")],
)
def test_a_plan_of_a_download_tells_other_errors(trained, flag, message):
    words = ["--method=none", "--download", "--dry_run", f"--dataset={trained}/abc", flag]
    assert message in refusal("distill", *words)


def test_two_test_images_are_inspected_without_a_map(trained, tmp_path):
    dataset, output = photos(tmp_path / "photos", "ab"), tmp_path / "output"
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    words = [f"--student=it={tmp_path}/model.keras", f"--teacher={tmp_path}/model.keras"]
    words += [f"--dataset={dataset}", "--resolution=10", f"--output={output}"]
    commands.succeed("inspect", *words, "--image_size=8")
    assert "No decision map: it needs three examples." in (output / "report.html").read_text()
    assert not (output / "decision_map.png").exists()
