"""Committed results of `compare.py`: they are those of their runs, and show what the docs say."""

import functools
import importlib
import json
import pathlib

import keras
import numpy as np
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
NAMES = (
    "fewshot_digits",
    "fewshot_glyphs",
    "patience",
    "equal_steps",
    "ablation",
    "ablation_glyphs",
    "ablation_again",
    "ablation_again_glyphs",
    "capacity",
)


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the examples by name."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


def read(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_plot_are_those_of_the_runs(name, module):
    study, results = module("studies").get(name), read(name)
    table = module("compare_table")
    summary = json.loads(json.dumps(table.summarize(study, results["runs"])))
    assert len(results["summary"]) == len(summary)
    for committed, computed in zip(results["summary"], summary, strict=True):
        # SciPy's versions differ in the last digits.
        assert committed.keys() == computed.keys()
        for own, other in zip(*map(keras.tree.flatten, (committed, computed)), strict=True):
            assert own == (pytest.approx(other, nan_ok=True) if isinstance(other, float) else other)
    assert (RESULTS / f"{name}.md").read_text() == module("compare_page").markdown(study, results)
    assert (RESULTS / f"{name}.csv").read_text() == table.as_csv(results["summary"])
    with PIL.Image.open(RESULTS / f"{name}.png") as image:
        assert image.text["Summary"] == table.digest_of(results["summary"])


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_the_study_is_there_once_and_succeeded(name, module):
    study, results = module("studies").get(name), read(name)
    jobs = module("compare_jobs")
    expected = jobs.tuning_jobs(study)
    expected += jobs.test_jobs(study, jobs.choose(study, results["runs"]))
    assert len(expected) == len(results["runs"])
    for job in expected:
        (run,) = [run for run in results["runs"] if job.items() <= run.items()]
        assert "accuracy" in run


@pytest.mark.parametrize("name", NAMES)
def test_the_results_are_of_the_study_as_it_is_defined(name, module):
    module("compare").begin(str(RESULTS / f"{name}.json"), module("studies").get(name))  # or raises


@pytest.mark.parametrize("name", NAMES)
def test_no_method_was_asked_more_than_plain_distillation(name, module):
    study = module("studies").get(name)
    for row in read(name)["summary"]:
        budget = study.steps * study.batch_size * row["length"]
        budget *= study.methods[row["method"]].compute
        assert max(row["student_points"], row["teacher_points"]) <= budget


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


@pytest.mark.stress
def test_a_committed_cell_trained_again_is_as_accurate(module, tmp_path):
    # As compare.py trains it: on one core, which fixes the order of sums.
    few, run, results = (
        module("studies").get("fewshot_digits"), module("compare_run"), read("fewshot_digits")
    )  # fmt: skip
    run_all, folder = module("study").run_all, str(tmp_path)

    def trained(function, jobs):
        found = {"runs": []}
        function = functools.partial(function, study=few, folder=folder)
        run_all(function, jobs, found, f"{folder}/runs.json", 1)
        return found["runs"]

    (teacher,) = trained(run.train_teacher, [{"pair": "digits"}])
    assert teacher["accuracy"] == pytest.approx(results["teachers"]["digits"]["accuracy"], abs=0.5)
    cells = [
        cell
        for cell in results["runs"]
        if (cell["phase"], cell["fraction"], cell["seed"]) == ("test", 0.1, 0)
        and cell["method"] in ("KD", "L2RKD, patches")
    ]
    measured = ("accuracy", "corrupted", "steps", "student_points", "teacher_points")
    jobs = [{k: v for k, v in cell.items() if k not in measured} for cell in cells]
    for cell, again in zip(cells, trained(run.train_student, jobs), strict=True):
        assert again["accuracy"] == pytest.approx(cell["accuracy"], abs=0.5)


@pytest.mark.parametrize(("fraction", "points"), [(0.05, 9.0), (0.1, 3.0)])
def test_few_digits_l2rkd_beats_kd_at_equal_compute(fraction, points):
    mean, half = gain(
        accuracies("fewshot_digits", "L2RKD, patches", fraction),
        accuracies("fewshot_digits", "KD", fraction),
    )
    assert mean >= points
    assert mean - half > 0


def test_few_digits_l2rkd_needs_a_fifth_of_the_data():
    mean, half = gain(
        accuracies("fewshot_digits", "L2RKD, patches", 0.1),
        accuracies("fewshot_digits", "KD", 0.5),
    )
    assert abs(mean) < 0.1
    assert half < 1


def test_few_digits_l2rkd_is_nearly_as_good_as_kd_with_four_times_the_data_at_equal_steps():
    # With a region point beside each example and as many steps: twice the compute of KD.
    mean, half = gain(
        accuracies("fewshot_digits", "L2RKD, twice the compute", 0.05),
        accuracies("fewshot_digits", "KD", 0.2),
    )
    assert -0.2 < mean < 0  # a tie, in favour of KD
    assert half > abs(mean)
    steps = {
        row["method"]: row["steps"]
        for row in read("fewshot_digits")["summary"]
        if row["fraction"] == 0.05
    }
    assert steps["L2RKD, twice the compute"] == steps["KD"]


@pytest.mark.parametrize(
    ("name", "other", "fraction", "points"),
    [
        ("fewshot_digits", "PE-BKD", 0.1, 0.7),
        ("fewshot_digits", "FunMatch", 0.05, 1.5),
        ("fewshot_digits", "FunMatch", 0.1, 1.5),
        ("fewshot_digits", "NoiseKD", 0.05, 0.7),
        ("fewshot_digits", "NoiseKD", 0.1, 1.3),
        ("fewshot_digits", "L2RKD, segments", 0.05, 1.9),
        ("fewshot_digits", "L2RKD, segments", 0.1, 1.2),
        ("fewshot_glyphs", "KD", 0.05, 16.1),
        ("fewshot_glyphs", "KD", 0.1, 5.0),
        ("fewshot_glyphs", "FunMatch", 0.05, 3.5),
        ("fewshot_glyphs", "FunMatch", 0.1, 1.8),
        ("fewshot_glyphs", "NoiseKD", 0.05, 8.7),
        ("fewshot_glyphs", "NoiseKD", 0.1, 6.4),
        ("fewshot_glyphs", "L2RKD, segments", 0.05, 4.5),
        ("fewshot_glyphs", "L2RKD, segments", 0.1, 1.6),
        ("fewshot_glyphs", "PE-BKD", 0.5, 0.4),
    ],
)
def test_few_data_l2rkd_beats(name, other, fraction, points):
    mean, half = gain(
        accuracies(name, "L2RKD, patches", fraction), accuracies(name, other, fraction)
    )
    assert abs(mean - points) < 0.06
    assert mean - half > 0


@pytest.mark.parametrize(
    ("name", "other", "fractions"),
    [
        ("fewshot_digits", "PE-BKD", (0.05, 0.25, 0.5, 1.0)),
        ("fewshot_glyphs", "PE-BKD", (0.05, 0.1, 0.25)),
        ("fewshot_glyphs", "KD", (0.25, 0.5, 1.0)),
    ],
)
def test_few_data_l2rkd_does_not_win(name, other, fractions):
    for fraction in fractions:
        mean, half = gain(
            accuracies(name, "L2RKD, patches", fraction), accuracies(name, other, fraction)
        )
        assert mean < half


def test_few_digits_the_learning_rate_matters_most_to_kd():
    best = {}
    for run in read("fewshot_digits")["runs"]:
        if run["phase"] == "validation":
            cell = best.setdefault((run["method"], run["learning_rate"]), {})
            cell.setdefault(run.get("temperature", run.get("stddev")), []).append(run["accuracy"])
    accuracy = {key: max(np.mean(runs) for runs in cell.values()) for key, cell in best.items()}
    gains = {name: accuracy[name, 0.09] - accuracy[name, 0.01] for name in ("KD", "L2RKD, patches")}
    assert gains["KD"] > 5
    assert gains["L2RKD, patches"] < 1


@pytest.mark.parametrize("kd", ["KD", "KD, four times the compute"])
def test_50_digits_are_as_good_as_200_with_kd_at_equal_steps(kd):
    own = accuracies("equal_steps", "L2RKD, 3 points beside each", 0.05)
    mean, half = gain(own, accuracies("equal_steps", kd, 0.2))
    assert abs(mean) < 0.05 and half < 0.75
    (row, plain) = (
        next(row for row in read("equal_steps")["summary"] if row["method"] == name)
        for name in ("L2RKD, 3 points beside each", "KD")
    )
    assert row["steps"] == plain["steps"]


def test_cells_that_two_studies_trained_are_the_same_to_the_last_digit():
    for method in ("KD", "L2RKD, patches"):
        assert accuracies("patience", method, 0.05) == accuracies("fewshot_digits", method, 0.05)


@pytest.mark.parametrize(
    ("method", "below"), [("L2RKD, patches", 1.3), ("L2RKD, 1 point beside each", 0.84)]
)
def test_patience_brings_50_digits_near_the_teacher(method, below):
    teacher = read("patience")["teachers"]["digits"]["accuracy"]
    lengths = (1.0, 2.0, 4.0, 8.0)
    kd, mixup, own = (
        [np.mean(list(accuracies("patience", name, 0.05, length).values())) for length in lengths]
        for name in ("KD", "KD + mixup", method)
    )
    assert own == sorted(own)
    assert abs(teacher - own[-1] - below) < 0.05
    assert 6 < own[0] - kd[-1] < 6.5
    assert all(0.9 < own[i] - mixup[i] < 2.2 for i in range(4))


@pytest.mark.parametrize(
    ("method", "fraction", "expected"),
    [
        ("L2RKD, patches", 0.2, -0.1),
        ("L2RKD, patches", 0.5, -0.6),
        ("L2RKD, 1 point beside each", 0.2, 0.4),
        ("L2RKD, 1 point beside each", 0.5, -0.2),
    ],
)
def test_patience_makes_50_digits_level_with_kd_of_more(method, fraction, expected):
    mean, half = gain(
        accuracies("patience", method, 0.05, 8.0), accuracies("fewshot_digits", "KD", fraction)
    )
    assert abs(mean - expected) < 0.05
    assert half > abs(mean)


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
    worse += ("partner: same class", "targets: interpolated", "points: 1 more each")
    assert max(differences[method] for method in worse) < -0.2 + 1e-3
    assert min(differences, key=differences.get) == "KD"


def test_a_greater_region_weight_helps_where_glyphs_are_few_alone():
    (digits,) = (row for row in read("ablation_again")["summary"] if row["method"] != "default")
    assert digits["seeds"] == 10
    assert digits["difference"] < 0 and digits["p_value"] > 0.05
    few, whole = (
        row for row in read("ablation_again_glyphs")["summary"] if row["method"] != "default"
    )
    assert (few["seeds"], few["fraction"], whole["fraction"]) == (10, 0.05, 1.0)
    assert few["difference"] - few["difference_interval"] > 0.5
    assert whole["difference"] + whole["difference_interval"] < -0.5


def test_students_of_every_size_gain():
    rows = [row for row in read("capacity")["summary"] if row["method"] != "KD"]
    assert len(rows) == 6
    assert all(2 < row["difference"] < 4.5 for row in rows)
    assert all(row["difference"] > row["difference_interval"] for row in rows)


def test_the_smallest_student_is_as_good_as_the_largest_of_kd():
    accuracy = {
        (row["pair"], row["method"]): row["accuracy"] for row in read("capacity")["summary"]
    }
    for teacher, points in (("small", 0.8), ("large", 0.6)):
        own = accuracy[f"8x16 of a {teacher} teacher", "L2RKD, patches"]
        assert abs(own - accuracy[f"16x32x64 of a {teacher} teacher", "KD"] - points) < 0.06
