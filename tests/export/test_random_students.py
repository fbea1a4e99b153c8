"""Random students in all formats: the file agrees with the student, or the error names a layer.

`make stress` draws 200 of them; the environment variable L2RKD_RANDOM_STUDENTS sets another number.
"""

import os

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import export
from l2rkd_tf.export.layer_search import layers_of
from tests.export.helpers import listing, logits_of
from tests.export.random_students import random_student
from tests.helpers import few

FIXED = [2, 3]
NUM_RANDOM = int(os.environ.get("L2RKD_RANDOM_STUDENTS", "200"))


def check(seed, folder, quantizations=(None, "float16", "dynamic", "int8")):
    """Exports a student in all formats; returns why formats were refused."""
    student, data = random_student(seed)
    refused = {}

    def attempt(name, write):
        before = listing(folder)
        try:
            report = write()
            assert report.max_abs_difference <= report.tolerance * report.output_spread
        except export.ExportError as error:
            refused[name] = str(error)
            assert any(repr(layer.name) in str(error) for layer in layers_of(student)), error
            assert listing(folder) == before

    attempt(
        "saved_model",
        lambda: export.export_saved_model(student, folder / "s", representative_data=data),
    )
    assert "saved_model" not in refused
    serve = tf.saved_model.load(str(folder / "s")).signatures["serving_default"]
    served = serve(**{f"input_{i}": tf.constant(x) for i, x in enumerate(as_given(serve, data))})
    expected = logits_of(student, data)
    np.testing.assert_allclose(served["output_0"], expected, atol=1e-4 * np.ptp(expected))
    for name in quantizations:
        path = folder / f"{name}.tflite"
        attempt(name, lambda name=name, path=path: export.export_litert(student, path, name, data))
    return refused


def as_given(serve, data):
    specs = serve.structured_input_signature[1]
    return [x.astype(specs[f"input_{i}"].dtype.as_numpy_dtype) for i, x in enumerate(data)]


@pytest.mark.parametrize("seed", few(FIXED[1:], FIXED))
def test_fixed_students(tmp_path, seed):
    check(seed, tmp_path, quantizations=(None, "int8"))


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(100, 100 + NUM_RANDOM))
def test_random_students(tmp_path, seed):
    check(seed, tmp_path)
