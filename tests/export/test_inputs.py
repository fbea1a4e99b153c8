"""Kinds of inputs that students take, and forms in which examples of them are given."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import export
from l2rkd_tf.teacher_cache import CachedInputs
from tests.export.helpers import dense_student, listing

WORDS = np.array([["good film"], ["bad film"], ["bad"]])


@pytest.fixture(scope="module")
def text_student():
    words = layers.TextVectorization(8, output_sequence_length=3, name="words")
    words.adapt(WORDS[:, 0])
    return keras.Sequential(
        [
            keras.Input((1,), dtype="string", name="review"),
            words,
            layers.Embedding(8, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x.astype(object),
        tf.constant,
        lambda x: {"review": x},
        lambda x: tf.data.Dataset.from_tensor_slices((x, [0, 1, 1])).batch(2),
    ],
    ids=["str", "object", "tensor", "dict", "dataset"],
)
def test_a_student_of_text_is_exported_for_servers(tmp_path, text_student, form):
    report = export.export_saved_model(
        text_student, tmp_path / "a", representative_data=form(WORDS)
    )
    assert report.num_examples == 3 and report.max_abs_difference == 0.0
    assert report.inputs == [{"name": "review", "shape": [None, 1], "dtype": "string"}]
    assert report.input_range == {}
    assert json.loads((tmp_path / "a.json").read_text())["input_range"] == {}
    row = next(line for line in export.model_card_text([report]).splitlines() if "review" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["a", "input", "review", "(any, 1)", "string", "not known"]
    serve = tf.saved_model.load(str(tmp_path / "a")).signatures["serving_default"]
    np.testing.assert_allclose(
        serve(review=tf.constant(WORDS))["output_0"], text_student(tf.constant(WORDS)), atol=1e-6
    )


def test_a_student_of_text_is_refused_by_litert_before_it_runs(tmp_path, text_student, monkeypatch):
    monkeypatch.setattr(text_student, "call", None)
    with pytest.raises(export.ExportError, match="'review'.*TextVectorization.*export_saved_model"):
        export.export_litert(text_student, tmp_path / "a.tflite", None, WORDS)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "uint8"])
def test_integer_and_bool_inputs(tmp_path, dtype, quantization):
    inputs = keras.Input((4,), dtype=dtype)
    student = keras.Model(inputs, layers.Dense(3)(keras.ops.cast(inputs, "float32")))
    data = np.random.default_rng(0).integers(0, 2, (20, 4)).astype(dtype)
    report = export.export_litert(student, tmp_path / "a.tflite", quantization, data)
    assert report.inputs == [{"name": "input_0", "shape": [None, 4], "dtype": dtype}]
    assert report.input_range == {"input_0": [0.0, 1.0]}
    with pytest.raises(ValueError, match="`representative_data` is required for the input"):
        export.export_litert(student, tmp_path / "a.tflite")


class Batches(keras.utils.PyDataset):
    """Batches of five, of what `pack` makes of inputs and labels."""

    def __init__(self, x, y, pack):
        super().__init__()
        self.x, self.y, self.pack = x, y, pack

    def __len__(self):
        return len(self.x) // 5

    def __getitem__(self, index):
        rows = slice(5 * index, 5 * index + 5)
        return self.pack(self.x[rows], self.y[rows])


def batched(*elements):
    return tf.data.Dataset.from_tensor_slices(elements).batch(5)


X = np.tile(np.arange(20, dtype="float32")[:, None], 4)
Y = np.zeros((20, 3), "float32")
PAIR = {"left": X, "right": X[:, :3]}


@pytest.mark.parametrize(
    "data",
    [
        X,
        [X],
        (X,),
        (X, Y),
        (X, Y[:, 0], Y[:, 1]),
        CachedInputs(X, Y),
        (CachedInputs(X, Y), Y[:, 0]),
        batched(X),
        batched(X, Y),
        batched(X, Y, Y[:, 0]),
        batched(CachedInputs(X, Y)),
        batched(CachedInputs(X, Y), Y[:, 0]),
        Batches(X, Y, lambda x, y: x),
        Batches(X, Y, lambda x, y: (x, y)),
        Batches(X, Y, lambda x, y: (CachedInputs(x, y), y)),
    ],
)
def test_examples_of_one_input_in_each_form(tmp_path, data):
    report = export.export_saved_model(dense_student(), tmp_path / "a", representative_data=data)
    assert report.num_examples == 20
    assert report.input_range == {"input_0": [0.0, 19.0]}


@pytest.mark.parametrize(
    "data",
    [
        PAIR,
        PAIR | {"id": Y},
        (PAIR, Y),
        (CachedInputs(PAIR, Y), Y[:, 0]),
        [X, X[:, :3]],
        ([X, X[:, :3]], Y),
        (X, X[:, :3]),
        batched(PAIR, Y),
        batched(CachedInputs(PAIR, Y), Y[:, 0]),
        Batches(X, Y, lambda x, y: ({"left": x, "right": x[:, :3]}, y)),
    ],
)
def test_examples_of_two_inputs_in_each_form(tmp_path, data):
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    outputs = layers.Dense(3)(layers.Concatenate()([left, right]))
    student = keras.Model({"left": left, "right": right}, outputs)
    report = export.export_saved_model(student, tmp_path / "a", representative_data=data)
    assert report.num_examples == 20
    assert report.input_range == {"left": [0.0, 19.0], "right": [0.0, 19.0]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([X, Y], "pass only x"),
        (X[0], "single examples: add an axis"),
        (tf.data.Dataset.from_tensor_slices(X), "must be batched: add `.batch"),
        (WORDS, "must hold examples of the student's inputs"),
        ((x for x in X), "a `keras.utils.PyDataset`, or arrays"),
    ],
)
def test_examples_that_do_not_fit_get_advice(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        export.export_saved_model(dense_student(), tmp_path / "a", representative_data=data)


def two_inputs(first, second):
    inputs = [keras.Input((1,), name=first), keras.Input((1,), name=second)]
    return keras.Model(inputs, layers.Dense(1)(layers.Concatenate()(inputs)))


@pytest.mark.parametrize(
    ("first", "second"), [("b-left", "a-right"), ("b.x", "b-x"), ("file", "allow_pickle")]
)
def test_a_dict_says_by_name_which_input_is_which(tmp_path, first, second):
    """Names that are changed in the file, since it takes letters, digits and `_` only."""
    student = two_inputs(first, second)
    small, large = np.linspace(0, 1, 8)[:, None], np.linspace(50, 100, 8)[:, None]
    data = {second: large, first: small}
    report = export.export_litert(student, tmp_path / "a.tflite", "int8", representative_data=data)
    assert list(report.input_range.values()) == [[0.0, 1.0], [50.0, 100.0]]
    assert report.max_abs_difference < 0.1 * report.output_spread + 0.1


def test_a_dict_with_other_names_is_refused(tmp_path):
    student = two_inputs("left", "right")
    data = {"a": np.ones((2, 1)), "left": np.ones((2, 1))}
    message = r"must have the names .*\['left', 'right'\]. Received: a dict with \['a', 'left'\]"
    with pytest.raises(ValueError, match=message):
        export.export_saved_model(student, tmp_path / "a", representative_data=data)
