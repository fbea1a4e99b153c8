"""The command that exports a student, and the file that it writes."""

import json
import re

import keras
import numpy as np
import pytest

from l2rkd_tf import data, export, models
from tests.cli import commands
from tests.helpers import ROOT

DEPLOYING = ROOT / "docs/deploying.md"
SPLITS = "train[:64],validation[:20],test[:50]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def images_and_labels(folder):
    test = data.load("digits", "test[:50]", batch_size=256, data_dir=folder / "tfds")
    return next(test.as_numpy_iterator())


@pytest.fixture(scope="module")
def student(folder, images_and_labels):
    """A student of some skill, in the folder of a run and in a folder without a record."""
    keras.utils.set_random_seed(0)
    student = models.convnet((8, 8, 1), 10, (4, 6))
    student.compile(
        keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    student.fit(*images_and_labels, epochs=30, verbose=0)
    config = {"dataset": "digits", "splits": SPLITS.split(","), "data_dir": str(folder / "tfds")}
    for name in ("run", "stranger"):
        (folder / name).mkdir()
        student.save(folder / name / "model.keras")
    (folder / "run/config.json").write_text(json.dumps(config | {"fraction": 0.25}))
    return student


def rows_of(card):
    """Cells of the rows of all tables of a card."""
    lines = [line for line in card.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_both_formats_are_written_with_their_reports(folder, student):
    """The dataset is that of the student's run."""
    output = folder / "int8"
    printed = commands.succeed(
        "export",
        f"--student={folder}/run/model.keras",
        "--quantization=int8",
        f"--output={output}",
    )
    report = json.loads((output / "student.tflite.json").read_text())
    assert report["quantization"] == "int8"
    assert report["bytes"] == (output / "student.tflite").stat().st_size
    assert f"{output}/student.tflite (quantization int8) has {report['bytes']:,} bytes" in printed
    assert f"{report['top1_agreement']:.2%} of {report['num_examples']} training" in printed
    assert (output / "student_saved_model/saved_model.pb").exists()
    assert ["trained on", "train[:64] of digits, fraction 0.25"] in rows_of(
        output / "model_card.md"
    )
    assert {path.name for path in folder.iterdir()} >= {"int8", "run"}
    assert not list(folder.glob(".int8*"))  # nothing is left next to it


@pytest.fixture(scope="module")
def stranger(folder, student):
    """The export of a student without a record."""
    arguments = [
        f"--student={folder}/stranger/model.keras",
        "--dataset=digits",
        f"--splits={SPLITS}",
        f"--data_dir={folder}/tfds",
        f"--output={folder}/export",
    ]
    commands.succeed("export", *arguments, "--quantization=dynamic")
    return folder / "export", arguments


def test_the_card_says_what_is_known_and_what_is_not(stranger, student, images_and_labels):
    images, labels = images_and_labels
    output, _ = stranger
    card, rows = (output / "model_card.md").read_text(), rows_of(output / "model_card.md")
    report = json.loads((output / "student.tflite.json").read_text())
    size = f"{report['bytes']:,}"
    quantization = "weights int8, activations float32"
    assert ["student.tflite", "litert", quantization, size] in [row[:4] for row in rows]
    assert ["student_saved_model", "saved_model"] in [row[:2] for row in rows]
    correct = np.sum(student(images).numpy().argmax(-1) == labels)
    measured = ["Keras student", "test accuracy", f"{2 * correct:.2f} %"]
    assert measured in [row[:3] for row in rows]
    assert ["trained on", "not known"] in rows
    assert "Recorded by the training: not known." in card
    assert "that Metrics does not name has not been measured" in card


def test_the_page_about_deploying_runs_the_file(stranger, student, images_and_labels, monkeypatch):
    images, _ = images_and_labels
    page = DEPLOYING.read_text()
    (code,) = re.findall(r"```python\n(from ai_edge_litert.+?)```", page, re.DOTALL)
    monkeypatch.chdir(stranger[0])
    names = {"images": images}
    exec(code, names)
    expected = student(images[:1]).numpy()
    np.testing.assert_allclose(names["logits"], expected, atol=0.05 * np.ptp(expected))


def test_an_export_that_fails_changes_nothing(stranger, monkeypatch):
    """No card of earlier files is ever next to new ones."""
    output, arguments = stranger

    def contents():
        return {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    def export_litert(*args, **kwargs):
        raise export.ExportError("not as the student")

    before = contents()
    monkeypatch.setattr(export, "export_litert", export_litert)
    monkeypatch.setattr(export, "export_saved_model", lambda *args, **kwargs: None)
    status, _, error = commands.run("export", *arguments, "--overwrite", "--quantization=int8")
    assert status == 2
    assert error == "l2rkd export: --quantization=int8 cannot be used: not as the student\n"
    assert contents() == before


def test_a_dry_run_only_says_what_would_be_exported(folder, student):
    printed = commands.succeed(
        "export",
        f"--student={folder}/run/model.keras",
        "--dry_run",
        f"--output={folder}/planned",
    )
    assert f"{student.count_params():,} parameters" in printed
    assert "digits, split train[:64]: 64 examples of 8x8x1, 10 classes" in printed
    assert f"{folder}/planned/student.tflite" in printed
    assert not (folder / "planned").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--student must be given"),
        (["--student=missing.keras"], "--student must be an existing .keras file"),
        (["--student=stranger/model.keras"], "--dataset must be given"),
        (["--student=run/model.keras", "--output=run"], "--output must be a new folder"),
        (["--student=run/model.keras", "--quantization=int4"], "--quantization"),
        (["--student=run/model.keras", "int8"], "'int8' is not a flag"),
    ],
)
def test_wrong_flags_fail_before_any_work(folder, student, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(keras.models, "load_model", commands.refuse_work)
    assert message in commands.fail("export", *arguments)
