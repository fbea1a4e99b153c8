"""Methods in graphs, under XLA, after a second compile and in half precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distiller.methods_by_hand import (
    BATCH,
    METHODS,
    all_methods,
    compiled,
    data,
    distiller_of,
    fit,
    network,
)
from tests.helpers import assert_equal_weights


@pytest.fixture(scope="module")
def eager_run():
    keras.utils.set_random_seed(0)
    x, y = data(2 * BATCH)
    distiller = all_methods(run_eagerly=True)
    return fit(distiller, x, y, epochs=2), distiller.get_weights()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"jit_compile": False, "steps_per_execution": 2},
            marks=pytest.mark.stress,  # each method by itself: `test_methods_steps.py`
        ),
        {"jit_compile": True},
    ],
    ids=["graph of several steps", "xla"],
)
@pytest.mark.stress
def test_graphs_and_xla_train_as_eager_mode(options, eager_run):
    x, y = data(2 * BATCH)
    distiller = all_methods(run_eagerly=False, **options)
    logs = fit(distiller, x, y, epochs=2)
    for name, values in eager_run[0].items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    for one, other in zip(distiller.get_weights(), eager_run[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-5)


def test_a_second_compile_keeps_trainable_methods_and_memory():
    x, y = data()
    distillers = [all_methods(), all_methods()]
    for distiller in distillers:
        fit(distiller, x, y)
    # A new optimizer counts its steps, which key the draws, from 0 again.
    compiled(distillers[0])
    distillers[1].optimizer.iterations.assign(0)
    logs = [fit(distiller, x, y) for distiller in distillers]
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-6, err_msg=name)
    assert logs[0]["crd_loss"][0] > 0.0
    assert_equal_weights(distillers[0].student, distillers[1].student, atol=1e-6)


# A float16 feature is off by up to 2^-11 of itself; relations take differences of close features.
HALF_PRECISION = {"rtol": 0.05, "atol": 5e-3}


@pytest.mark.parametrize("policy", ["mixed_float16"])
def test_half_precision_student_of_a_float32_teacher(policy):
    x, y = data()
    logs = []
    for name in ("float32", policy):
        student = network(20, 4, policy=name)
        distiller = compiled(
            distiller_of(METHODS, "both", (network(10, 5), student)), auto_scale_loss=False
        )
        logs.append(fit(distiller, x, y, epochs=2))
    assert {tf.as_dtype(v.dtype) for v in distiller.trainable_variables} == {tf.float32}
    for term, values in logs[0].items():
        np.testing.assert_allclose(logs[1][term], values, err_msg=term, **HALF_PRECISION)
    for value in distiller.get_weights():
        assert np.isfinite(value).all()


def test_methods_stay_float32_under_a_half_precision_global_policy():
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    distiller = all_methods()
    logs = fit(distiller, x, y, epochs=2)
    assert {v.dtype for v in distiller.trainable_variables} == {"float32"}
    assert np.isfinite(list(logs.values())).all()
