"""A small study, and results of its runs that are made up."""

import pytest

from studies.harness import jobs
from studies.harness.definitions import Method, Study
from studies.harness.pairs import Network, Pair
from tests.studies.made_up import made_up_runs


@pytest.fixture
def small():
    """A study of two methods and three seeds."""
    network = Network(widths=(4,))
    return Study(
        title="small",
        dataset="digits",
        pairs={"pair": Pair(teacher=network, student=network)},
        methods={
            "KD": Method(kind="kd", choose={"learning_rate": (0.1, 0.2)}),
            "L2RKD": Method(kind="l2rkd", options={"replace_fraction": 0.5}),
        },
        fractions=(0.5, 1.0),
        seeds=(0, 1, 2),
        steps=8,
        contrasts=((("L2RKD", 0.5, 1.0), ("KD", 1.0, 1.0)),),
    )


@pytest.fixture
def runs(small):
    """All reported runs, one of which has failed."""
    settings = {("pair", "KD"): {"learning_rate": 0.2}, ("pair", "L2RKD"): {}}
    gains = {0: 1.0, 1: 2.0, 2: 6.0}

    def accuracy(job):
        base = 80.0 + 10 * job["fraction"] + 3 * job["seed"]
        return base + gains[job["seed"]] if job["method"] == "L2RKD" else base

    runs = made_up_runs(jobs.test_jobs(small, settings), accuracy)
    failed = {"fraction": 1.0, "method": "L2RKD", "seed": 1}
    return [
        {**{k: run[k] for k in run if k not in ("accuracy", "corrupted")}, "error": "a\nb: c\n"}
        if failed.items() <= run.items()
        else run
        for run in runs
    ]
