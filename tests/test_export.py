import dataclasses
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

QUANTIZATIONS = [None, "float16", "dynamic", "int8"]


@pytest.fixture(autouse=True)
def _fresh_state():
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((40, 8, 8, 1), dtype="float32")


def conv_student(policy=None):
    """A convnet whose batch normalization has statistics that are not the initial ones."""
    student = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, dtype=policy, use_bias=False),
            layers.BatchNormalization(dtype=policy),
            layers.ReLU(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(5, dtype=policy),
        ]
    )
    student.layers[1].moving_mean.assign(np.linspace(-0.2, 0.2, 8))
    student.layers[1].moving_variance.assign(np.linspace(0.5, 2.0, 8))
    return student


def dense_student():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def logits_of(student, inputs):
    return np.asarray(student(inputs, training=False), "float32")


def run_litert(path, **inputs):
    """Runs a file with TensorFlow's own interpreter, independently of the module under test."""
    interpreter = tf.lite.Interpreter(model_path=str(path))
    return interpreter.get_signature_runner()(**inputs)["output_0"]


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


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
    assert report.output_spread == pytest.approx(np.ptp(expected), rel=1e-5)
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
    np.testing.assert_allclose(run_litert(path, image=batch), logits_of(student, batch), atol=1e-5)


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


def test_quantization_shrinks_the_file_as_its_weights_shrink(tmp_path):
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


def test_json_beside_the_artifact_equals_the_report(tmp_path, images):
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


# Kinds of students


def two_input_student(structure):
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    merged = layers.Concatenate()([layers.Dense(4)(left), right])
    return keras.Model(structure(left, right), layers.Dense(3)(merged))


@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize(
    "structure",
    [lambda a, b: {"left": a, "right": b}, lambda a, b: [b, a]],
    ids=["dict", "list"],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_students_with_two_inputs(tmp_path, structure, quantization, policy):
    keras.config.set_dtype_policy(policy)
    student = two_input_student(structure)
    keras.config.set_dtype_policy("float32")
    generator = np.random.default_rng(0)
    left, right = 5 * generator.random((20, 4)), generator.random((20, 3))
    report = export.export_litert(
        student, tmp_path / "student.tflite", quantization, structure(left, right)
    )
    assert {entry["name"]: entry["shape"] for entry in report.inputs} == {
        "left": [None, 4],
        "right": [None, 3],
    }
    assert report.input_range["left"] == pytest.approx([left.min(), left.max()])
    assert report.top1_agreement >= 0.95


def test_dict_inputs_from_a_data_set(tmp_path):
    student = two_input_student(lambda a, b: {"left": a, "right": b})
    inputs = {"left": np.ones((20, 4), "float32"), "right": np.zeros((20, 3), "float32")}
    data = tf.data.Dataset.from_tensor_slices((inputs, np.zeros(20))).batch(8)
    report = export.export_saved_model(student, tmp_path / "saved_model", representative_data=data)
    assert report.input_range == {"left": [1.0, 1.0], "right": [0.0, 0.0]}
    assert report.num_examples == 20


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs, training=False):
        return self.dense(inputs)


def test_subclassed_student(tmp_path):
    data = np.random.default_rng(0).random((10, 4))
    student = Subclassed()
    student(data[:1])
    report = export.export_litert(student, tmp_path / "student.tflite", "int8", data)
    assert report.inputs == [{"name": "input_0", "shape": [None, 4], "dtype": "float32"}]
    with pytest.raises(ValueError, match="`representative_data` is required for a subclassed"):
        export.export_litert(student, tmp_path / "other.tflite")


def test_recurrent_student_takes_one_example_at_a_time(tmp_path):
    student = keras.Sequential([keras.Input((6, 4)), layers.LSTM(4), layers.Dense(3)])
    report = export.export_litert(student, tmp_path / "student.tflite")
    assert report.inputs == [{"name": "input_0", "shape": [1, 6, 4], "dtype": "float32"}]
    assert report.top1_agreement == 1.0


# Mixed precision


def mixed_student(policy):
    """Nested models, a shared layer, a wrapper and an operation that is not a layer."""
    keras.config.set_dtype_policy(policy)
    block = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()])
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, layers.Conv2D(6, 3, activation="relu")(inner_input))
    inputs = keras.Input((8, 8, 1))
    hidden = keras.ops.relu(inner(block(inputs))) + 1.0
    hidden = layers.TimeDistributed(layers.Dense(6))(hidden)
    shared = layers.Dense(6)
    hidden = shared(shared(layers.GlobalAveragePooling2D()(hidden)))
    student = keras.Model(inputs, layers.Dense(5, dtype="float32")(hidden))
    keras.config.set_dtype_policy("float32")
    return student


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [conv_student, mixed_student], ids=["sequential", "nested"])
def test_mixed_precision_student_is_exported_in_float32(tmp_path, images, make, policy):
    student = make(policy)
    before = student.get_weights()
    report = export.export_litert(student, tmp_path / "student.tflite", None, images)
    assert report.rebuilt_in_float32
    assert 0 < report.rebuild_max_abs_difference < 0.03 * report.output_spread
    assert report.max_abs_difference < 1e-4 * report.output_spread
    assert report.outputs[0]["dtype"] == "float32"
    assert student.layers[1].compute_dtype == policy.removeprefix("mixed_")
    assert keras.config.dtype_policy().name == "float32"
    for weight, weight_before in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, weight_before)


def test_mixed_precision_student_as_saved_model_is_the_float32_student(tmp_path, images):
    mixed, full = conv_student("mixed_float16"), conv_student()
    full.set_weights(mixed.get_weights())
    path = tmp_path / "saved_model"
    export.export_saved_model(mixed, path, representative_data=images)
    served = tf.saved_model.load(str(path)).signatures["serving_default"](image=images)
    np.testing.assert_allclose(served["output_0"], logits_of(full, images), atol=1e-5)


def test_subclassed_mixed_precision_student_is_refused(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    student = Subclassed()
    keras.config.set_dtype_policy("float32")
    data = np.ones((4, 4), "float32")
    student(data)
    with pytest.raises(ValueError, match="subclassed model in mixed precision"):
        export.export_litert(student, tmp_path / "student.tflite", None, data)


def test_a_float32_copy_that_is_not_the_student_is_an_error(tmp_path, images):
    class Doubled(layers.Dense):
        """A layer that `get_config` does not describe in full."""

        scale = 1.0

        def call(self, inputs):
            return self.scale * super().call(inputs)

    student = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), Doubled(5, dtype="mixed_float16")]
    )
    student.layers[-1].scale = 2.0
    with pytest.raises(export.ExportError, match="float32 copy of the mixed-precision student"):
        export.export_litert(student, tmp_path / "student.tflite", None, images)
    assert listing(tmp_path) == []


# Failed exports


class OnlyInKeras(layers.Layer):
    """Computes something else when it is traced for an export."""

    def call(self, inputs):
        return inputs if tf.executing_eagerly() else inputs * self.factor

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor


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
    assert f"spread {np.ptp(expected):.3g}" in str(error.value)
    assert "Top-1 agreement: 1.0, on 10 inputs" in str(error.value)
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
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    report = export.export_litert(dense_student(), tmp_path / "student.tflite")
    assert report.versions["tf.lite"] == tf.__version__
    assert report.top1_agreement == 1.0


@pytest.mark.parametrize("tolerance", [5.0, 0.01])
def test_tolerance_is_relative_to_the_spread_and_can_be_given(tmp_path, tolerance):
    data = np.random.default_rng(0).random((10, 4), dtype="float32")
    student = unfaithful_student(factor=1.1)
    relative = 0.1 * np.abs(logits_of(student, data)).max() / np.ptp(logits_of(student, data))
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
    with pytest.raises(export.ExportError, match=f"outputs of the {owner} are not finite"):
        export.export_saved_model(student, tmp_path / "saved_model")
    assert listing(tmp_path) == []


def test_what_litert_cannot_express_is_an_error(tmp_path):
    inputs = keras.Input((4, 4))
    outputs = layers.Flatten()(keras.ops.cholesky(inputs + 9 * np.eye(4, dtype="float32")))
    with pytest.raises(export.ExportError, match="LiteRT cannot express this student"):
        export.export_litert(keras.Model(inputs, outputs), tmp_path / "student.tflite")
    assert listing(tmp_path) == []


# Wrong uses


class FakeDistiller(keras.Model):
    def __init__(self):
        super().__init__()
        self.student = dense_student()


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(3)(inputs)])


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
        ({"student": layers.Dense(3)}, "`student` must be a `keras.Model`"),
        ({"student": keras.Sequential([layers.Dense(3)])}, "`student` must be built"),
        ({"student": FakeDistiller()}, "Pass `distiller.student`"),
        ({"student": two_outputs()}, "`student` must have one output"),
        ({"student": unknown_size()}, "`representative_data` is required for the input"),
        ({"representative_data": np.zeros((3, 5))}, "must hold examples of the student's inputs"),
        ({"representative_data": np.zeros((0, 4))}, "must hold examples of the student's inputs"),
        ({"representative_data": [np.zeros((3, 4))] * 2}, "must hold examples of"),
        ({"representative_data": iter(())}, "must be a batched `tf.data.Dataset`, or arrays"),
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
