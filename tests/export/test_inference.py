"""What is exported is the student at inference, the same each time."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from tests.export.helpers import listing, logits_of


class DropsByDefault(layers.Layer):
    """Its default is training, and so is that of the layer inside."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dropout(0.5)

    def call(self, inputs, training=True):
        return self.inner(inputs, training=training)


class AlwaysTrains(layers.Layer):
    """Does not listen to `training`."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs, training=True)


class Noise(layers.Layer):
    """Noise of TensorFlow's, which keeps no state that Keras knows."""

    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


def student_with(layer, nested=False):
    if nested:
        layer = keras.Sequential([keras.Input((8, 8, 1)), layer], name="augmentation")
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layer, layers.Flatten(), layers.Dense(4, name="logits")]
    )


@pytest.mark.covering
@pytest.mark.parametrize("nested", [False, True], ids=["", "nested"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.RandomFlip("horizontal"),
        lambda: layers.RandomContrast(0.5),
        lambda: layers.RandomTranslation(0.3, 0.3),
        lambda: layers.GaussianNoise(1.0),
        lambda: layers.Dropout(0.5),
        DropsByDefault,
    ],
)
def test_a_layer_that_is_random_in_training_is_exported_as_at_inference(
    tmp_path, images, make, nested
):
    student = student_with(make(), nested)
    report = export.export_saved_model(student, tmp_path / "a", representative_data=images)
    assert report.max_abs_difference == 0.0
    serve = tf.saved_model.load(str(tmp_path / "a")).signatures["serving_default"]
    np.testing.assert_allclose(
        serve(input_0=images)["output_0"], logits_of(student, images), atol=1e-6
    )


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_augmentation_in_the_student_converts_to_litert(tmp_path, images, quantization):
    student = student_with(layers.RandomFlip("horizontal"))
    report = export.export_litert(student, tmp_path / "a.tflite", quantization, images)
    assert report.max_abs_difference < {None: 1e-5, "int8": 0.05}[quantization]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AlwaysTrains(layers.Dropout(0.5, name="mc")), r"'mc' \(Dropout\) draws? random"),
        (lambda: AlwaysTrains(layers.GaussianNoise(0.01, name="mc")), "'mc'.*random"),
        (lambda: Noise(name="hiss"), r"'hiss' \(Noise\) draws? random"),
        (
            lambda: AlwaysTrains(layers.BatchNormalization(name="batch_norm")),
            r"'batch_norm' \(BatchNormalization\) changes? a state",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["saved_model", "litert"])
def test_a_layer_that_ignores_training_is_named(tmp_path, images, make, message, kind):
    student = student_with(make())
    before = [weight.numpy() for weight in student.variables]
    with pytest.raises(export.ExportError, match=message) as error:
        if kind == "litert":
            export.export_litert(student, tmp_path / "a.tflite", None, images)
        else:
            export.export_saved_model(student, tmp_path / "a", representative_data=images)
    assert "tolerance" not in str(error.value)
    assert listing(tmp_path) == []
    for weight, weight_before in zip(student.variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), weight_before)


def test_a_layer_that_depends_on_eager_mode_is_named(tmp_path, images):
    class OnlyInKeras(layers.Layer):
        def call(self, inputs):
            return inputs if tf.executing_eagerly() else 2.0 * inputs

    student = student_with(OnlyInKeras(name="fickle"))
    with pytest.raises(export.ExportError, match=r"'fickle' \(OnlyInKeras\) computes something"):
        export.export_saved_model(student, tmp_path / "a", representative_data=images)


def test_an_output_in_a_dict_is_exported_as_the_only_one(tmp_path):
    inputs = keras.Input((4,))
    student = keras.Model(inputs, {"logits": keras.layers.Dense(3)(inputs)})
    for report in (
        export.export_saved_model(student, tmp_path / "s"),
        export.export_litert(student, tmp_path / "s.tflite"),
    ):
        assert [output["name"] for output in report.outputs] == ["output_0"]
        assert report.top1_agreement == 1.0
