"""Kinds of students that can be exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from tests.export.helpers import conv_student, listing, logits_of

# Kinds of students


def two_input_student(structure):
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    merged = layers.Concatenate()([layers.Dense(4)(left), right])
    return keras.Model(structure(left, right), layers.Dense(3)(merged))


@pytest.mark.covering
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


def test_dict_inputs_from_a_dataset(tmp_path):
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


@pytest.mark.covering
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
    with pytest.raises(ValueError, match="subclassed model in mixed or double precision"):
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
    with pytest.raises(export.ExportError, match="float32 copy of the student"):
        export.export_litert(student, tmp_path / "student.tflite", None, images)
    assert listing(tmp_path) == []
