"""Committed results: tables and plots are those of their runs, which show what the docs say."""

import dataclasses
import json

import keras
import matplotlib.text
import numpy as np
import PIL.Image
import pytest

from studies.harness import jobs, page, plots, registry, reproduce, run_study, summary

RESULTS = reproduce.RESULTS
#: Studies that have been run: others are defined only.
NAMES = [name for name in registry.all_studies() if (RESULTS / f"{name}.json").exists()]


def read(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_every_committed_result_is_of_a_study():
    assert {path.stem for path in RESULTS.glob("*.json")} <= set(registry.all_studies())


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_plot_are_those_of_the_runs(name):
    study, results = registry.get(name), read(name)
    computed = summary.summarize(study, results["runs"])
    assert len(results["summary"]) == len(computed)
    for committed, row in zip(results["summary"], computed, strict=True):
        # SciPy's versions differ in the last digits.
        assert committed.keys() == row.keys()
        for own, other in zip(*map(keras.tree.flatten, (committed, row)), strict=True):
            assert own == (pytest.approx(other) if isinstance(other, float) else other)
    assert (RESULTS / f"{name}.md").read_text() == page.markdown(study, results)
    assert (RESULTS / f"{name}.csv").read_text() == summary.as_csv(results["summary"])
    with PIL.Image.open(RESULTS / f"{name}.png") as image:
        assert image.text["Summary"] == summary.digest_of(results["summary"])


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_a_plot_is_cut_off(name):
    figure = plots.figure_of(registry.get(name), read(name))
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_visible() and text.get_text():
            box = text.get_window_extent()
            inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
            # Labels of ticks beyond the limits of their axis are not drawn.
            assert inside or text in _ticks(figure), text.get_text()


def _ticks(figure):
    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    return [label for axis in axes for label in axis.get_ticklabels(which="both")]


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_the_study_is_there_once_and_succeeded(name):
    study, results = registry.get(name), read(name)
    expected = jobs.tuning_jobs(study)
    expected += jobs.test_jobs(study, jobs.choose(study, results["runs"]))
    expected += jobs.ranking_jobs(study)
    assert len(expected) == len(results["runs"])
    for job in expected:
        (run,) = [run for run in results["runs"] if job.items() <= run.items()]
        assert ("order" if run["phase"] == "ranking" else "accuracy") in run
        assert reproduce.job_of(run) == job


@pytest.mark.parametrize("name", NAMES)
def test_the_results_are_of_the_study_as_it_is_defined(name):
    results = run_study.begin(str(RESULTS / f"{name}.json"), registry.get(name))  # or raises
    assert results["command"] == f"python -m studies {name} --output=studies/results/{name}"


@pytest.mark.parametrize("name", NAMES)
def test_no_method_cost_more_than_plain_distillation(name):
    study = registry.get(name)
    for row in read(name)["summary"]:
        budget = study.steps * study.batch_size * row["length"]
        method = study.methods[row["method"]]
        counts = ["student_points", "teacher_points"]
        if method.kind == "asked_once":
            counts.remove("teacher_points")  # The teacher runs before training.
        assert max(row[count] for count in counts) <= budget


def test_results_of_a_changed_study_are_refused():
    changed = dataclasses.replace(registry.get("ablation"), steps=7)
    with pytest.raises(ValueError, match="--output must be new"):
        run_study.begin(str(RESULTS / "ablation.json"), changed)


def accuracies(name, method, fraction, length=1.0):
    """Test accuracies of a cell of a study with one pair, by seed."""
    found = {
        run["seed"]: run["accuracy"]
        for run in read(name)["runs"]
        if run["phase"] == "test"
        and (run["method"], run["fraction"], run["length"]) == (method, fraction, length)
    }
    assert len(found) >= 5
    return found


def gain(own, other):
    """Mean paired difference and half its 95 % interval (Student's t, 5 seeds)."""
    differences = np.array([own[seed] - other[seed] for seed in own])
    assert len(differences) == 5
    return differences.mean(), 2.7764 * differences.std(ddof=1) / 5**0.5


def test_on_digits_l2rkd_is_level_with_augmented_kd_and_far_above_kd():
    for fraction, points in ((0.05, 8), (0.1, 2)):
        own = accuracies("fewshot_digits", "L2RKD", fraction)
        mean, half = gain(own, accuracies("fewshot_digits", "KD", fraction))
        assert mean - half > 0 and mean > points
    for row in read("fewshot_digits")["summary"]:
        if row["method"] == "L2RKD":
            assert 0.4 <= round(row["difference"], 1) <= 1.1
        if row["method"] in ("PE-BKD, augmented", "FunMatch, augmented"):
            assert row["difference"] < 0


def test_the_learning_rate_matters_most_to_kd_without_augmentation():
    found = {}
    for run in read("fewshot_digits")["runs"]:
        if run["phase"] == "validation":
            found.setdefault((run["method"], run["learning_rate"]), []).append(run["accuracy"])
    means = {key: np.mean(runs) for key, runs in found.items()}
    for name, low, high in (("KD", 5, 7), ("L2RKD", 0, 1), ("KD, augmented", 0, 1)):
        assert low <= means[name, 0.09] - means[name, 0.01] < high
    assert means["KD, augmented", 0.09] - means["KD, augmented", 0.18] > 1
    chosen = {row["method"]: row["settings"] for row in read("fewshot_digits")["summary"]}
    rates = {method: settings["learning_rate"] for method, settings in chosen.items()}
    assert (rates["L2RKD"], rates["KD, augmented"]) == (0.03, 0.03)
    edges = {method for method, rate in rates.items() if rate in (0.01, 0.18)}
    assert edges == {"KD", "PE-BKD, augmented", "L2RKD, augmented"}


@pytest.mark.parametrize(
    ("images", "kd", "l2rkd", "shorter_wins"), [(100, 1, 2, True), (600, 2, 3, False)]
)
def test_l2rkd_gains_more_from_longer_training_than_kd(images, kd, l2rkd, shorter_wins):
    """Of the student of 6,000 weights, in percentage points."""
    found = {}
    for name, length in (("f1_fashion", 1.0), ("f1_longer", 4.0)):
        for run in read(name)["runs"]:
            few = round(run["fraction"] * 55_000) == images
            if run["phase"] == "test" and run["pair"] == "6,000 weights" and few:
                assert run["length"] == length
                found.setdefault((run["method"], length), {})[run["seed"]] = run["accuracy"]
    for method, points in (("KD, augmented", kd), ("L2RKD, augmented", l2rkd)):
        mean, half = gain(found[method, 4.0], found[method, 1.0])
        assert round(mean) == points and mean > half
    mean, half = gain(found["L2RKD, augmented", 1.0], found["KD, augmented", 4.0])
    assert (mean > half) == shorter_wins


@pytest.mark.parametrize(("name", "better"), [("", []), ("_glyphs", ["region weight 3"])])
def test_the_ablations_support_the_defaults(name, better):
    variants = [row for row in read(f"ablation{name}")["summary"] if row["method"] != "default"]
    found = [
        row["method"]
        for row in variants
        if row["difference"] > 0 and row["p_value"] * len(variants) < 0.05  # Bonferroni
    ]
    assert found == better
    differences = {row["method"]: row["difference"] for row in variants}
    worse = ("KD", "region: segment", "region: simplex of 3", "radius 0.25", "radius 0.5")
    worse += ("region: ball, gaussian 0.1", "region: ball, gaussian 0.3", "partner: nearest")
    worse += ("partner: same class", "targets: interpolated", "points: 1 added each")
    assert max(differences[method] for method in worse) < -0.2 + 1e-3
    assert min(differences, key=differences.get) == "KD"


def test_a_greater_region_weight_helps_where_glyphs_are_few_alone():
    (digits,) = (row for row in read("ablation_again")["summary"] if row["method"] != "default")
    assert digits["seeds"] == 10
    assert -0.25 < digits["difference"] < 0 and digits["p_value"] < 0.05
    few, whole = (
        row for row in read("ablation_again_glyphs")["summary"] if row["method"] != "default"
    )
    assert (few["seeds"], few["fraction"], whole["fraction"]) == (5, 0.05, 1.0)
    assert few["difference"] - few["difference_interval"] > 0.4
    assert whole["difference"] + whole["difference_interval"] < 0 and whole["p_value"] < 0.05


def test_no_published_method_adds_to_l2rkd_and_most_gain_by_it():
    study, results = registry.get("f5_methods"), read("f5_methods")
    found = summary.grid_differences(study, results["runs"])
    with_kd, without_x = study.grid.differences
    for fraction in study.fractions:
        place = ("digits", fraction, 1.0)
        for row in study.grid.rows:
            if study.grid.compared(row, without_x):
                own = found[place, row, without_x]
                assert own["difference"] < own["difference_interval"], row
    gains = {
        row: found[("digits", 0.05, 1.0), row, with_kd]["difference"]
        for row in study.grid.rows
        if study.grid.compared(row, with_kd)
    }
    assert {row for row, gain in gains.items() if gain < 7} == {"augmentation", "jacobian_matching"}
    ((_, primary),) = summary.contrasts(study, results["runs"])
    assert primary["difference"] > primary["difference_interval"] and primary["p_value"] < 0.05


def test_l2rkd_is_closest_to_the_teacher_in_the_region():
    shape = {row["method"]: row["shape"] for row in read("shape_digits")["summary"]}
    for measure in ("kl_at_data", "kl_at_mid_region", "jacobian_distance"):
        (l2rkd, half), (kd, other) = (shape[m][measure] for m in ("L2RKD, patch", "KD"))
        assert l2rkd + half < kd - other
        assert l2rkd < shape["KD, augmented"][measure][0]


def test_results_stay_small():
    """A clone holds all of their history."""
    assert sum(path.stat().st_size for path in RESULTS.iterdir()) < 3 * 2**20
