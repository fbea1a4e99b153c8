"""What users report of exported students: a file that computes the same, or the way to one."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import export
from tests.export.helpers import dense_student, logits_of

EXPORTERS = {"litert": export.export_litert, "saved_model": export.export_saved_model}
SEQUENCES = np.random.default_rng(0).normal(size=(24, 6, 4)).astype("float32")
VECTORS = SEQUENCES[:, 0]


def artifact(folder, kind):
    return folder / ("student.tflite" if kind == "litert" else "student")


def sequence_student(layer, **inputs):
    return keras.Sequential([keras.Input(**inputs), layer, layers.Dense(3)])


@pytest.mark.parametrize("kind", EXPORTERS)
@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("wrap", [lambda layer: layer, layers.Bidirectional])
def test_a_state_between_batches_is_refused(tmp_path, kind, batch_size, wrap):
    layer = wrap(layers.GRU(5, stateful=True))
    student = sequence_student(layer, batch_shape=(batch_size, 6, 4))
    with pytest.raises(ValueError, match="`student` must not be stateful.*stateful=False"):
        EXPORTERS[kind](student, artifact(tmp_path, kind), representative_data=SEQUENCES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", EXPORTERS)
def test_the_advised_student_without_a_state(tmp_path, kind):
    stateful = sequence_student(layers.GRU(5, stateful=True), batch_shape=(8, 6, 4))
    student = sequence_student(layers.GRU(5), shape=(6, 4))
    student.set_weights(stateful.get_weights())
    EXPORTERS[kind](student, artifact(tmp_path, kind), representative_data=SEQUENCES)
    np.testing.assert_allclose(stateful(SEQUENCES[:8]), student(SEQUENCES[:8]), atol=1e-6)


@pytest.mark.parametrize("kind", EXPORTERS)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_batch_size_in_the_inputs_does_not_fix_that_of_the_file(tmp_path, kind, batch_size):
    student = keras.Sequential([keras.Input(batch_shape=(batch_size, 4)), layers.Dense(3)])
    report = EXPORTERS[kind](student, artifact(tmp_path, kind), representative_data=VECTORS)
    assert [one["shape"] for one in report.inputs] == [[None, 4]]


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_quantized_layers_are_refused_by_litert(tmp_path, quantization):
    student = dense_student()
    student.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="`student` must have float weights.*before `quantize`"):
        export.export_litert(student, tmp_path / "student.tflite", quantization, VECTORS)
    assert not list(tmp_path.iterdir())


def test_quantized_layers_in_a_saved_model(tmp_path):
    student = dense_student()
    student.layers[0].quantize("int8")
    report = export.export_saved_model(student, tmp_path / "student", representative_data=VECTORS)
    assert report.max_abs_difference == 0.0


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_an_adapted_student_is_exported_with_its_adapter(tmp_path, quantization):
    student, adapted = dense_student(), dense_student()
    adapted.set_weights(student.get_weights())
    adapted.layers[0].enable_lora(2)
    adapted.layers[0].lora_kernel_b.assign(np.ones((2, 3)))
    assert np.abs(logits_of(adapted, VECTORS) - logits_of(student, VECTORS)).max() > 0.1
    report = export.export_litert(adapted, tmp_path / "student.tflite", quantization, VECTORS)
    assert report.max_abs_difference < (1e-5 if quantization is None else 0.2)


def student_in(dtype):
    return keras.Sequential(
        [
            keras.Input((4,), dtype=dtype),
            layers.Dense(5, "relu", dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.Dense(3, dtype=dtype),
        ]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_inputs_in_half_precision_are_float32_in_a_file(tmp_path, dtype):
    inputs = keras.Input((4,), dtype=dtype)
    student = keras.Model(inputs, layers.Dense(3)(inputs))
    report = export.export_litert(student, tmp_path / "student.tflite", None, VECTORS)
    assert report.inputs[0]["dtype"] == "float32"


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_student_in_double_precision_becomes_a_file_in_float32(tmp_path, quantization):
    student = student_in("float64")
    report = export.export_litert(student, tmp_path / "student.tflite", quantization, VECTORS)
    assert report.rebuilt_in_float32 and report.rebuild_max_abs_difference < 1e-5
    assert report.inputs[0]["dtype"] == report.outputs[0]["dtype"] == "float32"


def test_a_saved_model_of_a_student_in_double_precision(tmp_path):
    data = VECTORS.astype("float64")
    report = export.export_saved_model(
        student_in("float64"), tmp_path / "student", representative_data=data
    )
    assert report.rebuilt_in_float32 and report.max_abs_difference < 1e-5


class Double(keras.Model):
    def __init__(self):
        super().__init__(dtype="float64")
        self.dense = layers.Dense(3, dtype="float64")

    def call(self, inputs):
        return self.dense(inputs)


def test_a_subclassed_student_in_double_precision_is_refused(tmp_path):
    student = Double()
    student(VECTORS)
    with pytest.raises(ValueError, match="in mixed or double precision.*get_weights"):
        export.export_litert(student, tmp_path / "student.tflite", representative_data=VECTORS)
