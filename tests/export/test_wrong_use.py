"""Wrong use of the exporters."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from tests.export.helpers import dense_student, listing


class FakeDistiller(keras.Model):
    def __init__(self):
        super().__init__()
        self.student = dense_student()


def same_names():
    inputs, head = keras.Input((4,)), layers.Dense(2, name="head")
    return keras.Model(inputs, [head(inputs), head(-inputs)])


def one_number():
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"a": layers.Dense(2)(inputs), "b": inputs[:, 0]})


def of_no_batch():
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"a": layers.Dense(2)(inputs), "b": keras.ops.sum(inputs, 0, True)})


def unknown_size():
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(inputs)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "student.bin"}, "`path` must be a file name ending in '.tflite'"),
        ({"path": "gs://bucket/student.tflite"}, "`path` must be a local path"),
        ({"path": 3}, "`path` must be a local path"),
        ({"quantization": "int4"}, "`quantization` must be one of .*quantization='int4'"),
        ({"quantization": "int8"}, "`representative_data` is required for quantization='int8'"),
        ({"tolerance": float("nan")}, "`tolerance` must be a finite number"),
        ({"tolerance": float("inf")}, "`tolerance` must be a finite number"),
        ({"tolerance": -0.1}, "`tolerance` must be a finite number"),
        ({"tolerance": "1e-3"}, "`tolerance` must be a finite number"),
        ({"min_top1_agreement": 1.5}, "`min_top1_agreement` must be a number from 0 to 1"),
        ({"min_top1_agreement": "98 %"}, "`min_top1_agreement` must be a number from 0 to 1"),
        ({"student": layers.Dense(3)}, "`student` must be a `keras.Model`"),
        ({"student": keras.Sequential([layers.Dense(3)])}, "`student` must be built"),
        ({"student": FakeDistiller()}, "Pass `distiller.student`"),
        (
            {"student": same_names()},
            r"`student` must give several outputs different names.*'head', 'head'.*Return a dict",
        ),
        (
            {"student": one_number()},
            r"of shape \(batch, ...\).*32 are float32 \(32, 2\), float32 \(32",
        ),
        ({"student": of_no_batch()}, r"`student` must have outputs of numbers"),
        ({"student": unknown_size()}, "`representative_data` is required for the input"),
        ({"representative_data": np.zeros((3, 5))}, "must hold examples of the student's inputs"),
        ({"representative_data": np.zeros((0, 4))}, "must hold examples of the student's inputs"),
        ({"representative_data": [np.zeros((3, 4))] * 2}, "must hold examples of"),
        ({"representative_data": iter(())}, "must be a batched `tf.data.Dataset`, a"),
        ({"representative_data": tf.data.Dataset.range(3)}, "must be batched"),
        (
            {"representative_data": tf.data.Dataset.range(0).batch(2)},
            "must hold at least one batch",
        ),
    ],
)
def test_wrong_uses_of_export_litert(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = {"student": dense_student(), "path": "student.tflite", **arguments}
    with pytest.raises(ValueError, match=message):
        export.export_litert(**arguments)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["notes.txt", "variables.bak"])
def test_a_folder_that_is_not_an_export_is_never_replaced(tmp_path, name):
    path = tmp_path / "saved_model"
    export.export_saved_model(dense_student(), path)
    (path / name).write_text("precious")
    with pytest.raises(ValueError, match=f"also holds \\['{name}'\\]"):
        export.export_saved_model(dense_student(), path)
    assert (path / name).read_text() == "precious"


def test_a_saved_model_does_not_replace_a_file(tmp_path):
    path = tmp_path / "saved_model"
    path.write_text("precious")
    with pytest.raises(ValueError, match="`path` must be a folder"):
        export.export_saved_model(dense_student(), path)
    assert path.read_text() == "precious"
