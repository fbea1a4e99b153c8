"""Differences are measured by a spread that outliers do not change, and decisions count."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import export
from l2rkd_tf.export.parity import compare
from tests.export.helpers import dense_student, listing

RNG = np.random.default_rng(0)


def trained_student(inputs):
    """A dense network that has learned a linear rule."""
    student = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, activation="relu", name="hidden"), layers.Dense(4)]
    )
    labels = (inputs @ np.random.default_rng(1).normal(size=(8, 4))).argmax(axis=-1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.02), loss)
    student.fit(inputs, labels, epochs=5, verbose=0)
    return student


def test_a_glitch_in_calibration_data_is_named_and_refused(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(400, 8)).astype("float32")
    student, path = trained_student(inputs), tmp_path / "student.tflite"
    clean = export.export_litert(student, path, "int8", inputs)
    assert clean.top1_agreement >= 0.95
    before = path.read_bytes()
    inputs[7, 2] = 1000.0
    # 256 of the 400 examples are used: the glitch must be among them, under its own number.
    chosen = np.linspace(0, 399, 256).astype(int)
    inputs[chosen[7], 2], inputs[7, 2] = 1000.0, 0.0
    glitch = rf"1000 in example {chosen[7]} at \[2\]"
    with pytest.warns(UserWarning, match=glitch):
        with pytest.raises(export.ExportError, match=glitch) as error:
            export.export_litert(student, path, "int8", inputs)
    message = str(error.value)
    assert float(re.search(r"Top-1 agreement: ([\d.]+);", message).group(1)) < 0.9
    assert "'hidden' (Dense)" in message.partition("share the fewest")[2]
    assert message.index("outliers") < message.index("raise `tolerance`")
    assert path.read_bytes() == before
    # In float32, all examples are as they were.
    assert export.export_litert(student, path, None, inputs).top1_agreement == 1.0


def test_usual_data_have_no_outliers(tmp_path, recwarn):
    """Mostly zeros, one-hot, columns of other sizes, heavy tails."""
    for inputs in (
        np.eye(40, 4, dtype="float32"),
        RNG.random((40, 4)) * [1, 1, 1, 5000],
        RNG.standard_t(4, (40, 4)),
        np.where(RNG.random((40, 4)) < 0.02, 1.0, 0.0),
        np.zeros((40, 4)),
    ):
        export.export_litert(dense_student(), tmp_path / "a.tflite", "int8", inputs)
    assert [str(one.message) for one in recwarn if "outliers" in str(one.message)] == []


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_an_outlier_does_not_change_the_spread(scale):
    outputs = RNG.normal(size=(40, 5))
    usual = compare(outputs, outputs).output_spread
    outputs[3] *= scale
    assert compare(outputs, outputs).output_spread == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize(
    ("outputs", "spread"),
    [
        (np.full((20, 3), 5.0), 5.0),  # constant: their size
        (np.zeros((20, 3)), 1.0),
        (np.full((1, 3), -2.0), 2.0),  # one example
        (1000 + np.tile([-1.0, 1.0], (20, 1)), 0.01 * 1001),  # hardly differ
        (np.tile([-3.0, 0.0, 3.0], (20, 1)), 6.0),  # differ between classes only
        (np.eye(20, 1000), 2.0),  # probabilities of many classes: mostly 0
    ],
)
def test_the_spread_in_closed_form(outputs, spread):
    assert compare(outputs, outputs).output_spread == pytest.approx(spread)


@pytest.mark.parametrize(
    ("expected", "actual", "agreement"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [1.0, 2.0]], 0.5),
        ([[0.0, 0.0], [0.0, 0.0]], [[0.0, 1e-9], [1e-9, 0.0]], 1.0),  # a tie has no winner
        ([[1.0, 1.0 + 1e-8]], [[1.0 + 1e-8, 1.0]], 1.0),
        ([[1.0], [2.0]], [[5.0], [3.0]], None),
    ],
)
def test_top1_agreement_in_closed_form(expected, actual, agreement):
    assert compare(np.array(expected), np.array(actual)).top1_agreement == agreement


class Nudge(layers.Layer):
    """Exchanges two nearly equal outputs of half of the examples when it is traced."""

    def call(self, inputs):
        if keras.ops.is_tensor(inputs) and not hasattr(inputs, "numpy"):
            change = keras.ops.where(inputs[:, :1] > 0.5, 2e-3, 0.0)
            return inputs + change * np.array([0.0, 0.0, 1.0], "float32")
        return inputs


def test_decisions_that_change_are_refused_although_outputs_hardly_differ(tmp_path):
    inputs = np.random.default_rng(0).random((40, 3), dtype="float32")
    inputs[:, 1], inputs[:, 2] = 2.001, 2.0
    changed = np.mean(inputs[:, 0] > 0.5)
    student = keras.Sequential([keras.Input((3,)), Nudge(name="nudge")])
    student(inputs)
    path, arguments = tmp_path / "a", {"representative_data": inputs, "tolerance": 0.1}
    with pytest.raises(export.ExportError, match=f"Top-1 agreement: {1 - changed:.3g}; min_top1"):
        export.export_saved_model(student, path, **arguments)
    assert listing(tmp_path) == []
    report = export.export_saved_model(student, path, **arguments, min_top1_agreement=0.1)
    assert report.top1_agreement == pytest.approx(1 - changed)
    assert report.min_top1_agreement == 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_named_before_anything_runs(tmp_path, monkeypatch, value):
    inputs = np.zeros((40, 4))
    inputs[[5, 31], 2] = value
    student = dense_student()
    monkeypatch.setattr(student, "call", None)
    for write in (
        lambda: export.export_litert(student, tmp_path / "a.tflite", "int8", inputs),
        lambda: export.export_saved_model(student, tmp_path / "a", representative_data=inputs),
    ):
        with pytest.raises(ValueError, match=r"must hold finite.*'input_0' of examples \[5, 31\]"):
            write()
    assert listing(tmp_path) == []
