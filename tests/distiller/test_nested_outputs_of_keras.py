"""Which outputs the distillers of Keras and of this library take: a table of `from_keras.md`."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller
from tests.helpers import ROOT

VERSION = "3.15.1"  # of Keras, for which the page says it
STRUCTURES = {
    "dict": lambda a, b: {"a": a, "b": b},
    "list": lambda a, b: [a, b],
    "nested": lambda a, b: {"a": {"x": a}, "b": b},
    "fewer": lambda a, b: {"a": a},
    "one": lambda a, b: a,
}
# Teacher, student, whether Keras takes them, whether this library does.
ROWS = {
    "a dict each": ("dict", "dict", False, True),
    "a list each": ("list", "list", False, True),
    "a dict and a list with the same names": ("dict", "list", False, True),
    "a teacher with more outputs than the student": ("dict", "fewer", False, True),
    "a dict with several outputs, and a single output with the same name as one of them": (
        "dict",
        "one",
        False,
        True,
    ),
    "dicts of dicts": ("nested", "nested", False, False),
}


def model(kind, seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    outputs = [layers.Dense(3, name=name)(inputs) for name in ("a", "b")]
    return keras.Model(inputs, STRUCTURES[kind](*outputs))


def loss_of(kind):
    """A loss of Keras's for each output."""
    return STRUCTURES[kind](*(keras.losses.KLDivergence() for _ in range(2)))


def is_taken(train):
    try:
        train()
    except Exception:  # whatever Keras raises
        return False
    return True


def by_keras(teacher, student):
    distiller = keras.distillation.Distiller(
        model(teacher, 0),
        model(student, 1),
        keras.distillation.LogitsDistillation(loss=loss_of(student)),
    )
    distiller.compile("sgd", loss_of(student))
    y = STRUCTURES[student](*(np.full((4, 3), 1 / 3, "float32") for _ in range(2)))
    distiller.fit(np.ones((4, 4), "float32"), y, verbose=0)


def by_this_library(teacher, student):
    distiller = L2RKDDistiller(model(teacher, 0), model(student, 1), hard_weight=0.0)
    distiller.compile("sgd")
    distiller.fit(np.ones((4, 4), "float32"), verbose=0)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_table(row):
    teacher, student, of_keras, of_library = ROWS[row]
    if keras.__version__ == VERSION:
        assert is_taken(lambda: by_keras(teacher, student)) == of_keras
    assert is_taken(lambda: by_this_library(teacher, student)) == of_library
    words = {True: "yes", False: "no"}
    lines = (ROOT / "docs/from_keras.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {row} |")]
    cells = [re.match(r"\w+", cell.strip())[0] for cell in line.split("|")[2:4]]
    assert cells == [words[of_keras], words[of_library]]


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_losses_of_keras_for_several_outputs_are_terms(kind):
    teacher, student = model(kind, 0), model(kind, 1)
    loss = keras.distillation.LogitsDistillation(loss=loss_of(kind), temperature=2.0)
    distiller = L2RKDDistiller(
        teacher, student, distillation_losses=loss, hard_weight=0.0, kd_weight=0.0,
        region_weight=0.0,
    )  # fmt: skip
    distiller.compile("sgd")
    x = np.random.default_rng(0).normal(size=(4, 4)).astype("float32")
    expected = loss.compute_loss(teacher(x), student(x))
    logs = distiller.fit(x, verbose=0).history
    np.testing.assert_allclose(logs["logits_distillation_loss"][0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`divergence` must be a name, or a dict by output name"):
        L2RKDDistiller(teacher, student, divergence=["kl", None])
