"""Two replicas, and two workers, against one device."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import run_on_two_workers, two_replicas
from tests.programs.replica_cases import CASES, IN_STRESS, chosen_cases, train


@pytest.fixture(scope="module")
def of_one_device():
    return {name: train(name, tf.distribute.get_strategy()) for name in chosen_cases()}


@pytest.fixture(scope="module")
def of_two_workers(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers") / "results"
    run_on_two_workers("replica_cases", path)
    return [np.load(f"{path}.{worker}.npz") for worker in (0, 1)]


def assert_equal(found, expected, name):
    # Statistics of normalization are sums in another order.
    tolerance = 1e-5 if name == "batch normalization" else 1e-6
    assert set(found) == set(expected)
    for what, value in expected.items():
        np.testing.assert_allclose(found[what], value, rtol=0, atol=tolerance, err_msg=what)


SOME_IN_STRESS = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.stress] * (name in IN_STRESS)) for name in CASES]
)


@SOME_IN_STRESS
def test_two_replicas_equal_one_device(name, of_one_device):
    assert_equal(train(name, two_replicas()), of_one_device[name], name)


@SOME_IN_STRESS
@pytest.mark.parametrize("worker", [0, 1])
def test_two_workers_equal_one_device(worker, name, of_one_device, of_two_workers):
    found = {
        key.removeprefix(f"{name}/"): value
        for key, value in of_two_workers[worker].items()
        if key.startswith(f"{name}/")
    }
    assert_equal(found, of_one_device[name], name)
