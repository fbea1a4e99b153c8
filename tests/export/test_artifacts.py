"""Exported files compute what the student computes; the report next to them."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from tests.export.helpers import (
    conv_student,
    dense_student,
    listing,
    logits_of,
    run_litert,
    spread,
)

QUANTIZATIONS = [None, "float16", "dynamic", "int8"]


# Exact artifacts


def test_saved_model_computes_what_the_student_computes(tmp_path, images):
    student = conv_student()
    path = tmp_path / "new" / "folder" / "saved_model"
    report = export.export_saved_model(student, path, representative_data=images)

    served = tf.saved_model.load(str(path)).signatures["serving_default"](image=images)
    expected = logits_of(student, images)
    np.testing.assert_allclose(served["output_0"], expected, atol=1e-5)
    assert report.top1_agreement == 1.0
    assert report.max_abs_difference <= 1e-5
    assert report.mean_abs_difference <= report.max_abs_difference
    assert report.output_spread == pytest.approx(spread(expected), rel=1e-5)
    assert report.inputs == [{"name": "image", "shape": [None, 8, 8, 1], "dtype": "float32"}]
    assert report.outputs == [{"name": "output_0", "shape": [None, 5], "dtype": "float32"}]
    assert listing(path.parent) == ["saved_model", "saved_model.json"]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize("batch_size", [1, 3])
def test_litert_computes_what_the_student_computes(tmp_path, images, batch_size):
    student = conv_student()
    path = tmp_path / "student.tflite"
    export.export_litert(student, path, representative_data=images)
    batch = images[:batch_size]
    np.testing.assert_allclose(
        run_litert(path, image=batch)["output_0"], logits_of(student, batch), atol=1e-5
    )


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_file_for_one_example_at_a_time(tmp_path, images, quantization):
    student = conv_student()
    path = tmp_path / "student.tflite"
    report = export.export_litert(student, path, quantization, images, batch_size=1)
    assert report.inputs == [{"name": "image", "shape": [1, 8, 8, 1], "dtype": "float32"}]
    assert report.outputs == [{"name": "output_0", "shape": [1, 5], "dtype": "float32"}]


@pytest.mark.parametrize("batch_size", [0, 2, -1, "1"])
def test_other_batch_sizes_of_a_file_are_refused(tmp_path, batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be None, for any batch size, or 1"):
        export.export_litert(dense_student(), tmp_path / "s.tflite", batch_size=batch_size)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_quantized_litert_follows_the_student(tmp_path, images, quantization):
    report = export.export_litert(conv_student(), tmp_path / "s.tflite", quantization, images)
    assert report.quantization == quantization
    assert report.tolerance == export.DEFAULT_TOLERANCE[quantization]
    # Well inside the default tolerance, which leaves room for larger networks.
    assert report.max_abs_difference <= 0.2 * report.tolerance * report.output_spread
    assert report.top1_agreement >= 0.95
    assert report.inputs == [{"name": "image", "shape": [None, 8, 8, 1], "dtype": "float32"}]
    assert report.outputs == [{"name": "output_0", "shape": [None, 5], "dtype": "float32"}]


def test_quantization_shrinks_the_file_with_its_weights(tmp_path):
    student = keras.Sequential([keras.Input((64,)), layers.Dense(256), layers.Dense(10)])
    data = np.random.default_rng(0).random((32, 64), dtype="float32")
    size = {
        quantization: export.export_litert(
            student, tmp_path / "s.tflite", quantization, data, tolerance=1.0
        ).bytes
        for quantization in QUANTIZATIONS
    }
    kernels = 64 * 256 + 256 * 10
    assert size[None] - size["float16"] == pytest.approx(2 * kernels, rel=0.1)
    assert size[None] - size["dynamic"] == pytest.approx(3 * kernels, rel=0.1)
    assert size[None] - size["int8"] == pytest.approx(3 * kernels, rel=0.1)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_int8_is_integer_between_its_float_inputs_and_outputs(tmp_path, images):
    path = tmp_path / "student.tflite"
    export.export_litert(conv_student(), path, "int8", images)
    interpreter = tf.lite.Interpreter(model_path=str(path))
    floats = [
        detail["index"]
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.float32
    ]
    ends = interpreter.get_input_details() + interpreter.get_output_details()
    assert sorted(floats) == sorted(detail["index"] for detail in ends)


# The report


def test_json_next_to_the_artifact_equals_the_report(tmp_path, images):
    student = conv_student()
    report = export.export_litert(student, str(tmp_path / "student.tflite"), "int8", images)
    written = json.loads((tmp_path / "student.tflite.json").read_text())
    assert written == dataclasses.asdict(report)
    assert report.artifact == "student.tflite"
    assert report.format == "litert"
    assert report.bytes == (tmp_path / "student.tflite").stat().st_size
    assert report.parameters == student.count_params() == 72 + 32 + 36 * 8 * 5 + 5
    assert report.num_examples == 40
    assert report.example_source == "representative_data"
    assert report.input_range == {"image": [float(images.min()), float(images.max())]}
    assert report.versions["keras"] == keras.__version__
    assert report.versions["tensorflow"] == tf.__version__
    assert not report.rebuilt_in_float32 and report.rebuild_max_abs_difference is None


def test_size_of_a_saved_model_is_that_of_all_its_files(tmp_path):
    report = export.export_saved_model(dense_student(), tmp_path / "saved_model")
    files = [file for file in (tmp_path / "saved_model").rglob("*") if file.is_file()]
    assert report.bytes == sum(file.stat().st_size for file in files) == sum(report.files.values())
    assert len(report.files) == len(files)


def test_inputs_are_uniform_when_none_are_given(tmp_path):
    report = export.export_litert(dense_student(), tmp_path / "student.tflite")
    assert report.example_source == "uniform [0, 1]"
    assert report.num_examples == 32
    low, high = report.input_range["input_0"]
    assert 0 <= low < 0.1 and 0.9 < high <= 1
    assert report.top1_agreement == 1.0


@pytest.mark.parametrize(
    ("make_data", "num_examples", "largest"),
    [
        (lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7), 30, 29.0),
        (lambda x: tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(7), 30, 29.0),
        (lambda x: tf.data.Dataset.from_tensor_slices((x, x[:, 0], x[:, 1])).batch(7), 30, 29.0),
        (lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7).repeat(), 256, 29.0),
        (lambda x: x, 30, 29.0),
        (lambda x: tf.constant(x), 30, 29.0),
        (lambda x: [x], 30, 29.0),
        (lambda x: np.tile(np.arange(1000.0)[:, None], 4), 256, 999.0),
    ],
    ids=["x", "(x, y)", "(x, y, w)", "endless", "array", "tensor", "list", "evenly spaced"],
)
def test_representative_data_in_each_form(tmp_path, make_data, num_examples, largest):
    data = make_data(np.tile(np.arange(30, dtype="float32")[:, None], 4))
    report = export.export_saved_model(
        dense_student(), tmp_path / "saved_model", representative_data=data
    )
    assert report.num_examples == num_examples
    assert report.input_range == {"input_0": [0.0, largest]}


def test_a_single_output_has_no_top1_agreement(tmp_path):
    student = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    report = export.export_saved_model(student, tmp_path / "saved_model")
    assert report.top1_agreement is None
