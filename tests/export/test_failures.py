"""Failed exports leave what was there."""

import json
import os
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from l2rkd_tf.export.child import __main__ as child
from tests.export.helpers import (
    OnlyInKeras,
    conv_student,
    dense_student,
    listing,
    logits_of,
    spread,
)


def unfaithful_student(factor=2.0):
    student = keras.Sequential([keras.Input((4,)), layers.Dense(3), OnlyInKeras(factor)])
    student(np.zeros((1, 4)))
    return student


def write_export(kind, student, folder, **kwargs):
    if kind == "saved_model":
        return export.export_saved_model(student, folder / "artifact", **kwargs)
    return export.export_litert(student, folder / "artifact.tflite", **kwargs)


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("kind", ["saved_model", "litert"])
def test_a_disagreement_is_an_error_with_the_numbers_and_leaves_nothing(tmp_path, kind):
    data = np.random.default_rng(0).random((10, 4), dtype="float32")
    student = unfaithful_student()
    expected = logits_of(student, data)
    with pytest.raises(export.ExportError) as error:
        write_export(kind, student, tmp_path, representative_data=data)
    largest = np.abs(expected).max()
    assert f"differs from the Keras student by {largest:.3g}" in str(error.value)
    assert f"spread {spread(expected):.3g}" in str(error.value)
    assert "Top-1 agreement: 1; min_top1_agreement=0.98. Compared on 10 inputs" in str(error.value)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("kind", ["saved_model", "litert"])
def test_a_failed_export_leaves_the_older_one_intact(tmp_path, kind):
    write_export(kind, dense_student(), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(export.ExportError):
        write_export(kind, unfaithful_student(), tmp_path)
    assert contents(tmp_path) == before
    assert len(listing(tmp_path)) == 2


@pytest.mark.parametrize("kind", ["saved_model", "litert"])
def test_an_export_replaces_the_older_one(tmp_path, kind):
    write_export(kind, dense_student(), tmp_path)
    wider = keras.Sequential([keras.Input((6,)), layers.Dense(9)])
    report = write_export(kind, wider, tmp_path)
    assert report.parameters == 63
    artifact, report_file = sorted(tmp_path.iterdir())
    assert json.loads(report_file.read_text())["parameters"] == 63
    files = [artifact] if artifact.is_file() else filter(pathlib.Path.is_file, artifact.rglob("*"))
    assert sum(file.stat().st_size for file in files) == report.bytes


def test_the_older_saved_model_returns_when_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    path = tmp_path / "saved_model"
    export.export_saved_model(dense_student(), path)
    before = contents(tmp_path)
    replace = os.replace

    def refuse_the_new_one(source, destination):
        if pathlib.Path(source).name == "saved_model" and source != path:
            raise OSError("no space left")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refuse_the_new_one)
    with pytest.raises(OSError, match="no space left"):
        export.export_saved_model(conv_student(), path)
    assert contents(tmp_path) == before


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tensorflow_runs_the_file_where_litert_is_not_installed(tmp_path, monkeypatch):
    student, data = dense_student(), np.random.default_rng(0).random((3, 4), dtype="float32")
    export.export_litert(student, tmp_path / "student.tflite", None, data)
    np.savez(tmp_path / "examples.npz", data, names=["input_0"])
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    names = ("student.tflite", "examples.npz", "outputs.npz")
    report = child.run(*(str(tmp_path / name) for name in names))
    assert report["versions"] == {"tf.lite": tf.__version__}
    with np.load(tmp_path / "outputs.npz") as outputs:
        np.testing.assert_allclose(outputs["arr_0"], logits_of(student, data), atol=1e-5)


@pytest.mark.parametrize("tolerance", [5.0, 0.01])
def test_tolerance_is_relative_to_the_spread_and_can_be_given(tmp_path, tolerance):
    data = np.random.default_rng(0).random((10, 4), dtype="float32")
    student = unfaithful_student(factor=1.1)
    relative = 0.1 * np.abs(logits_of(student, data)).max() / spread(logits_of(student, data))
    assert 0.01 < relative < 5.0
    path = tmp_path / "student.tflite"
    if tolerance < relative:
        with pytest.raises(export.ExportError, match="tolerance=0.01"):
            export.export_litert(student, path, representative_data=data, tolerance=tolerance)
    else:
        report = export.export_litert(student, path, None, data, tolerance=tolerance)
        assert report.tolerance == tolerance
        measured = report.max_abs_difference / report.output_spread
        assert measured == pytest.approx(relative, rel=1e-4)


@pytest.mark.parametrize("owner", ["Keras student", "exported artifact"])
def test_outputs_that_are_not_finite_are_an_error(tmp_path, owner):
    student = unfaithful_student(factor=np.inf)
    if owner == "Keras student":
        student.layers[0].bias.assign([np.nan, 0.0, 0.0])
    with pytest.raises(export.ExportError, match=f"outputs of the {owner} are NaN or Inf"):
        export.export_saved_model(student, tmp_path / "saved_model")
    assert listing(tmp_path) == []


def test_what_litert_cannot_express_is_an_error(tmp_path):
    inputs = keras.Input((4, 4))
    outputs = layers.Flatten()(keras.ops.cholesky(inputs + 9 * np.eye(4, dtype="float32")))
    with pytest.raises(export.ExportError, match="LiteRT cannot express this student"):
        export.export_litert(keras.Model(inputs, outputs), tmp_path / "student.tflite")
    assert listing(tmp_path) == []
