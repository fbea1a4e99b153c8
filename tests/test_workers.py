"""Two replicas, and two workers, against one device."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.replica_cases import CASES, train
from tests.strategies import two_replicas

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def of_one_device():
    return {name: train(name, tf.distribute.get_strategy()) for name in CASES}


@pytest.fixture(scope="module")
def of_two_workers(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers") / "results"
    command = [sys.executable, "examples/launch_workers.py", "--num_workers=2"]
    program = [sys.executable, "tests/replica_cases.py", str(path)]
    finished = subprocess.run(
        [*command, "--timeout_seconds=400", "--", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
    return [np.load(f"{path}.{worker}.npz") for worker in (0, 1)]


def assert_equal(found, expected, name):
    # Statistics of normalization are sums in another order.
    tolerance = 1e-5 if name == "batch normalization" else 1e-6
    assert set(found) == set(expected)
    for what, value in expected.items():
        np.testing.assert_allclose(found[what], value, rtol=0, atol=tolerance, err_msg=what)


IN_STRESS = {"mse", "binary_kl"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.stress] * (name in IN_STRESS)) for name in CASES],
)
def test_two_replicas_equal_one_device(name, of_one_device):
    assert_equal(train(name, two_replicas()), of_one_device[name], name)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("worker", [0, 1])
def test_two_workers_equal_one_device(worker, name, of_one_device, of_two_workers):
    found = {
        key.removeprefix(f"{name}/"): value
        for key, value in of_two_workers[worker].items()
        if key.startswith(f"{name}/")
    }
    assert_equal(found, of_one_device[name], name)
