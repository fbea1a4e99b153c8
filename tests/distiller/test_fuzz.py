"""Random configurations train one step to what NumPy derives, or are refused before it."""

import collections
import os
import warnings

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.distiller.fuzz_configurations import (
    RATE,
    configurations,
    linear,
    make_distiller,
    make_inputs,
    make_labels,
    make_sample_weight,
    make_weights,
    reasons_to_refuse,
    train,
)
from tests.helpers import few
from tests.references.steps import Expected

# How steps run, and how many configurations do so: 2000 with L2RKD_STRESS, else 36. Compiled ones
# are few, since each takes a second, and TensorFlow keeps megabytes of it.
COUNTS = {"eager": (30, 1900), "graph": (4, 70), "XLA": (2, 30)}
STRESS = "L2RKD_STRESS" in os.environ


def assert_refused_before_training(configuration, error, optimizer, student, weights):
    message = str(error)
    reasons = reasons_to_refuse(configuration)
    assert any(f"`{reason}`" in message for reason in reasons), (message, reasons)
    assert "Received: " in message
    assert int(optimizer.iterations) == 0
    for actual, given_ in zip(student.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(actual, given_)


def outcome_of(configuration):
    """Runs a configuration and checks what comes of it: `"trained"` or `"refused"`."""
    rng = np.random.default_rng(configuration.data_seed)
    x, y = make_inputs(configuration, rng), make_labels(configuration, rng)
    sample_weight = make_sample_weight(configuration, rng)
    weights = [make_weights(configuration, rng) for _ in range(2)]
    teacher, student = (linear(configuration, weight) for weight in weights)
    optimizer = keras.optimizers.SGD(RATE)
    try:
        distiller = make_distiller(configuration, teacher, student)
        logs = train(configuration, distiller, optimizer, (x, y, sample_weight))
    except ValueError as error:
        assert_refused_before_training(configuration, error, optimizer, student, weights[1])
        return "refused"
    assert not reasons_to_refuse(configuration)
    expected = Expected(configuration, distiller.region, x, y, sample_weight, *weights)
    of_logs, of_weights = expected.tolerances()
    assert set(logs) == set(expected.logs)
    for name, value in expected.logs.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, atol=of_logs, err_msg=name)
    for actual, value in zip(student.get_weights(), expected.weights, strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-6, atol=of_weights)
    for actual, value in zip(teacher.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(actual, value)
    assert int(optimizer.iterations) == 1
    return "trained"


@pytest.mark.parametrize("how", few(["eager"], COUNTS))
def test_random_configurations_train_as_derived_or_are_refused_before_training(how):
    count = COUNTS[how][STRESS]
    outcomes = collections.Counter()

    @seed(count)  # another one for each, since all are the same function
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(configurations(how))
    def train_or_refuse(configuration):
        if outcomes.total() % 50 == 0:
            keras.backend.clear_session()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            outcomes[outcome_of(configuration)] += 1

    train_or_refuse()
    print(f"{how}: of {outcomes.total()} configurations {dict(outcomes)}")
    assert outcomes.total() >= count
    assert outcomes["trained"] >= count / 3
