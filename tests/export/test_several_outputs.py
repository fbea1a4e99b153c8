"""Students with several outputs, dense or not: the artifact returns all by name, each compared."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from l2rkd_tf.export.parity import Comparison, worst
from l2rkd_tf.export.precision import check_copy
from tests.export.helpers import OnlyInKeras, listing, run_litert, spread

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


def heads_student(as_dict=True, policy="float32"):
    """Two classifiers of the same shape, whose order cannot be told, a map and one number."""
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((8, 8, 1), name="image")
    hidden = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    flat = layers.Flatten()(hidden)
    outputs = {
        "species": layers.Dense(5, name="species")(flat),
        "colour": layers.Dense(5, name="colour")(flat),
        "mask": layers.Conv2D(3, 1, name="mask")(hidden),
        "age": layers.Dense(1, name="age")(flat),
    }
    keras.config.set_dtype_policy("float32")
    return keras.Model(inputs, outputs if as_dict else list(outputs.values()))


def predicted(student, inputs):
    outputs = student(inputs, training=False)
    if not isinstance(outputs, dict):
        outputs = dict(zip(("species", "colour", "mask", "age"), outputs, strict=True))
    return {name: np.asarray(output, "float32") for name, output in outputs.items()}


@pytest.mark.parametrize(
    ("kind", "as_dict"),
    [
        ("saved_model", True),
        ("saved_model", False),
        (None, True),
        ("float16", False),
        ("dynamic", True),
        ("int8", False),
    ],
)
def test_artifacts_return_all_outputs_by_name(tmp_path, images, kind, as_dict):
    student, path = heads_student(as_dict), tmp_path / "student.tflite"
    if kind == "saved_model":
        report = export.export_saved_model(student, tmp_path / "s", representative_data=images)
        serve = tf.saved_model.load(str(tmp_path / "s")).signatures["serving_default"]
        actual = {name: output.numpy() for name, output in serve(image=images).items()}
    else:
        report = export.export_litert(student, path, kind, images)
        actual = run_litert(path, image=images)
    expected = predicted(student, images)
    assert set(actual) == set(expected)
    rows = {row["name"]: row for row in report.outputs}
    assert list(rows) == ["species", "colour", "mask", "age"]
    for name, output in expected.items():
        size = spread(output)
        assert np.abs(actual[name] - output).max() <= 0.2 * report.tolerance * size
        assert rows[name]["output_spread"] == pytest.approx(size, rel=1e-5)
        assert rows[name]["shape"] == [None, *output.shape[1:]]
        # The report is of another batch size, and of kernels that may round otherwise.
        difference = np.abs(actual[name] - output)
        assert rows[name]["max_abs_difference"] == pytest.approx(
            difference.max(), abs=0.01 * float(size)
        )
        agreement = np.mean(actual[name].argmax(-1) == output.argmax(-1))
        if name == "age":
            assert rows[name]["top1_agreement"] is None
        else:
            assert rows[name]["top1_agreement"] == pytest.approx(agreement, abs=0.01)
    ratios = [row["max_abs_difference"] / row["output_spread"] for row in rows.values()]
    assert report.max_abs_difference / report.output_spread == max(ratios)


def test_a_subclassed_student_names_its_outputs_in_a_dict(tmp_path):
    class Heads(keras.Model):
        def __init__(self, as_dict):
            super().__init__()
            self.heads = {"b": layers.Dense(2), "a": layers.Dense(3)}
            self.as_dict = as_dict

        def call(self, inputs):
            outputs = {name: head(inputs) for name, head in self.heads.items()}
            return outputs if self.as_dict else list(outputs.values())

    data, (good, bad) = np.random.default_rng(0).random((10, 4)), (Heads(True), Heads(False))
    for student in (good, bad):
        student(data)
    report = export.export_saved_model(good, tmp_path / "s", representative_data=data)
    assert [row["name"] for row in report.outputs] == ["b", "a"]
    with pytest.raises(ValueError, match=r"`student` must give several.*\[\(10, 2\), \(10, 3\)\]"):
        export.export_saved_model(bad, tmp_path / "t", representative_data=data)
    assert listing(tmp_path) == ["s", "s.json"]


# The verdict


def unfaithful_student(factors):
    """Outputs that a trace multiplies by these factors."""
    inputs = keras.Input((4,))
    heads = {name: layers.Dense(3)(inputs) for name in factors}
    outputs = {name: OnlyInKeras(factor)(heads[name]) for name, factor in factors.items()}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("factors", "failed"),
    [
        ({"a": 1.0, "b": 1.5, "c": 1.0}, ["b"]),
        ({"a": -1.0, "b": 1.0, "c": 0.5}, ["a", "c"]),
    ],
)
def test_outputs_that_fail_are_named(tmp_path, factors, failed):
    data = np.random.default_rng(0).random((10, 4), dtype="float32")
    student = unfaithful_student(factors)
    expected = {name: output.numpy() for name, output in student(data).items()}
    with pytest.raises(export.ExportError) as error:
        export.export_saved_model(student, tmp_path / "s", representative_data=data)
    message = str(error.value)
    for name, output in expected.items():
        largest = np.abs((factors[name] - 1) * output).max()
        words = f"differs from the Keras student in the output '{name}' by {largest:.3g} "
        assert (words in message) == (name in failed)
        assert (f"spread {spread(output):.3g}" in message) == (name in failed)
    assert message.count("Compared on 10 inputs") == 1
    assert listing(tmp_path) == []


def test_one_output_that_agrees_too_rarely_is_enough(tmp_path):
    data = np.random.default_rng(0).random((10, 4), dtype="float32")
    student = unfaithful_student({"a": -1.0, "b": 1.0})
    arguments = {"representative_data": data, "tolerance": 10.0}
    with pytest.raises(export.ExportError, match="in the output 'a' .*Top-1 agreement: 0;"):
        export.export_saved_model(student, tmp_path / "s", **arguments)
    report = export.export_saved_model(student, tmp_path / "s", **arguments, min_top1_agreement=0)
    assert [row["top1_agreement"] for row in report.outputs] == [0.0, 1.0]
    assert report.top1_agreement == 0.0


def test_an_output_that_is_not_finite_is_named(tmp_path):
    with pytest.raises(export.ExportError, match="exported artifact .* in the output 'b'"):
        export.export_saved_model(unfaithful_student({"a": 1.0, "b": np.inf}), tmp_path / "s")
    assert listing(tmp_path) == []


def test_the_report_of_several_is_that_of_the_worst_in_closed_form():
    outputs = [
        Comparison(2.0, 1.0, 100.0, None),
        Comparison(0.5, 0.25, 1.0, 0.9),
        Comparison(0.1, 0.05, 1.0, 0.8),
    ]
    assert worst(outputs) == Comparison(0.5, 0.25, 1.0, 0.8)
    assert worst(outputs[:1]).top1_agreement is None


# Mixed precision


def test_a_mixed_precision_student_keeps_its_outputs(tmp_path, images):
    student = heads_student(policy="mixed_bfloat16")
    report = export.export_saved_model(student, tmp_path / "s", representative_data=images)
    assert report.rebuilt_in_float32
    full = heads_student()
    full.set_weights(student.get_weights())
    serve = tf.saved_model.load(str(tmp_path / "s")).signatures["serving_default"]
    actual, expected = serve(image=images), predicted(full, images)
    for name, output in expected.items():
        np.testing.assert_allclose(actual[name], output, atol=1e-5)
    rounded = predicted(student, images)
    largest = max(np.abs(rounded[name] - expected[name]).max() for name in expected)
    assert report.rebuild_max_abs_difference == pytest.approx(largest, rel=0.01)


def test_an_output_that_the_float32_copy_does_not_have_is_named():
    outputs = {name: np.random.default_rng(0).normal(size=(10, 3)) for name in "ab"}
    assert check_copy(outputs, outputs) == 0.0
    with pytest.raises(export.ExportError, match="differs from it in the output 'b' by"):
        check_copy(outputs, outputs | {"b": -outputs["b"]})


# One dense output


def segmenter():
    return [keras.Input((6, 6, 2), name="x"), layers.Conv2D(4, 3, padding="same"), layers.ReLU(),
            layers.Conv2D(3, 1)]  # fmt: skip


def labeller():
    return [keras.Input((9, 2), name="x"), layers.Conv1D(4, 3, padding="same"), layers.ReLU(),
            layers.Conv1D(3, 1)]  # fmt: skip


@pytest.mark.covering
@pytest.mark.parametrize("kind", ["saved_model", None, "float16", "dynamic", "int8"])
@pytest.mark.parametrize("make", [segmenter, labeller])
def test_students_with_a_class_for_each_position(tmp_path, make, kind):
    student, path = keras.Sequential(make()), tmp_path / "student.tflite"
    data = np.random.default_rng(0).normal(size=(20, *student.input_shape[1:])).astype("float32")
    expected = student(data).numpy()
    if kind == "saved_model":
        report = export.export_saved_model(student, tmp_path / "s", representative_data=data)
        serve = tf.saved_model.load(str(tmp_path / "s")).signatures["serving_default"]
        actual = serve(x=data)["output_0"].numpy()
    else:
        report = export.export_litert(student, path, kind, data)
        actual = run_litert(path, x=data)["output_0"]
    name = {"name": "output_0", "shape": [None, *expected.shape[1:]], "dtype": "float32"}
    assert report.outputs == [name]
    assert np.abs(actual - expected).max() <= 0.2 * report.tolerance * spread(expected)
    agreement = np.mean(actual.argmax(-1) == expected.argmax(-1))
    assert report.top1_agreement == pytest.approx(agreement, abs=0.005)
    assert report.output_spread == pytest.approx(spread(expected), rel=1e-5)
