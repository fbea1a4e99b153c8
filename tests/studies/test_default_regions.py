"""What the pages say of the default regions, from the runs of the studies."""

import json

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from l2rkd_tf import regions
from studies.harness import registry, summary
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
    seeds = sorted({seed for _, _, seed in accuracy})
    return np.array(
        [
            np.mean([accuracy[method, p, seed] - accuracy["KD", p, seed] for p in pairs])
            for seed in seeds
        ]
    )


ON_BENCH = "swap, then noise of 2"
NOISE = regions.Ball(2.0, norm="gaussian", scale="std")
VECTORS = regions.Compose([regions.Swap(), NOISE])


def interval(values):
    return scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)


@pytest.mark.parametrize(
    ("study", "method", "inputs", "region", "expected"),
    [
        ("bench_tables", ON_BENCH, tf.zeros((4, 13)), VECTORS, {0.05: 6.9}),
        (
            "bench_permuted",
            ON_BENCH,
            tf.zeros((4, 784)),
            VECTORS,
            {100 / 55_000: 16.7, 1000 / 55_000: 3.9},
        ),
        ("series", "patch", tf.zeros((4, 24, 1)), regions.Patch((4,)), {0.05: 5.5, 0.1: 5.2}),
        ("texts", "swap", tf.zeros((4, 48), tf.int32), regions.Swap(), {0.05: 17.0, 0.1: 9.3}),
    ],
)
def test_the_default_region_is_above_kd_at_equal_compute(study, method, inputs, region, expected):
    assert repr(regions.default_region(inputs)) == repr(region)
    for fraction, mean in expected.items():
        found = gains(study, method, fraction)
        assert found.mean() == pytest.approx(mean, abs=0.05)
        assert found.mean() > interval(found)


@pytest.mark.parametrize(
    ("study", "method"), [("tables", "swap"), ("series", "patch"), ("texts", "swap")]
)
@pytest.mark.parametrize("fraction", [0.05, 0.1])
def test_the_five_seeds_that_chose_no_default_show_the_gains_again(study, method, fraction):
    found = gains(study, method, fraction)[5:]
    assert len(found) == 5
    assert found.mean() > interval(found)


@pytest.mark.parametrize(
    ("study", "expected"),
    [("bench_digits", 0.68), ("bench_permuted", 0.84), ("bench_glyphs", 0.06)],
)
def test_how_well_short_trainings_rank_eight_regions(study, expected):
    results = json.loads((ROOT / f"studies/results/{study}.json").read_text())
    rankings = [run for run in results["runs"] if run["phase"] == "ranking"]
    definition = registry.get(study)
    for run in rankings:
        assert len(run["order"]) == 8
        first = min(run["steps"])
        spent = 8 * first + sum(steps for steps in run["steps"] if steps > first)
        assert spent <= 0.15 * 8 * definition.steps
    assert results["rank_correlation"][0] == pytest.approx(expected, abs=0.005)
    correlation = summary.rank_correlation(definition, results["runs"])
    assert correlation == pytest.approx(results["rank_correlation"])


@pytest.mark.parametrize(
    ("again", "before", "names"),
    [
        ("bench_tables_small", "bench_tables", {"L2RKD": "swap, then noise of 2", "swap": "swap"}),
        ("bench_series_small", "bench_series", {"L2RKD": "patch", "segment": "segment"}),
    ],
)
def test_short_runs_of_small_students_are_those_of_earlier_studies(again, before, names):
    names |= {"KD": "KD"}
    found, earlier = (
        {
            (run["pair"], run["seed"], run["method"]): run["accuracy"]
            for run in json.loads((ROOT / f"studies/results/{study}.json").read_text())["runs"]
            if run["phase"] == "test" and run["length"] == 1.0
        }
        for study in (again, before)
    )
    repeated = [cell for cell in found if cell[2] in names]
    assert len(repeated) == 3 * len({cell[:2] for cell in found})
    for pair, seed, name in repeated:
        assert found[pair, seed, name] == earlier[pair, seed, names[name]]
