"""What the pages say of the default regions, from the runs of the studies."""

import json

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from l2rkd_tf import regions
from tests.helpers import ROOT


def gains(study, method, fraction):
    """Differences from KD by seed, a mean over the sets of data."""
    runs = json.loads((ROOT / f"studies/results/{study}.json").read_text())["runs"]
    accuracy = {
        (run["method"], run["pair"], run["seed"]): run["accuracy"]
        for run in runs
        if run["phase"] == "test" and run["fraction"] == fraction
    }
    pairs = sorted({pair for _, pair, _ in accuracy})
    return np.array(
        [
            np.mean([accuracy[method, p, seed] - accuracy["KD", p, seed] for p in pairs])
            for seed in range(5)
        ]
    )


def interval(values):
    return scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)


@pytest.mark.parametrize(
    ("study", "method", "inputs", "region", "expected"),
    [
        ("tables", "swap", tf.zeros((4, 13)), regions.Swap(), {0.05: 5.3, 0.1: 2.6}),
        ("series", "patch", tf.zeros((4, 24, 1)), regions.Patch((4,)), {0.05: 4.7, 0.1: 5.4}),
        ("texts", "swap", tf.zeros((4, 48), tf.int32), regions.Swap(), {0.05: 16.7, 0.1: 9.5}),
    ],
)
def test_the_default_region_is_above_kd_at_equal_compute(study, method, inputs, region, expected):
    assert regions.default_region(inputs).get_config() == region.get_config()
    for fraction, mean in expected.items():
        found = gains(study, method, fraction)
        assert found.mean() == pytest.approx(mean, abs=0.05)
        assert found.mean() > interval(found)
