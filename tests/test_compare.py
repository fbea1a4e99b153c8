"""Comparisons of methods: equal compute, choice by validation, statistics, and that they go on."""

import dataclasses
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

import l2rkd_tf

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the examples by name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


@pytest.fixture
def studies(module):
    return module("studies")


@pytest.fixture
def small(studies):
    """A study of two methods and two seeds."""
    network = studies.Network(widths=(4,))
    return studies.Study(
        title="small",
        dataset="digits",
        pairs={"pair": studies.Pair(teacher=network, student=network)},
        methods={
            "KD": studies.Method(kind="kd", choose={"learning_rate": (0.1, 0.2)}),
            "L2RKD": studies.Method(kind="l2rkd", options={"replace_fraction": 0.5}),
        },
        fractions=(0.5, 1.0),
        seeds=(0, 1, 2),
        steps=8,
        contrasts=((("L2RKD", 0.5, 1.0), ("KD", 1.0, 1.0)),),
    )


class Counter(keras.layers.Layer):
    """Counts the rows that pass, step by step, in a list outside of Keras."""

    def __init__(self, rows):
        super().__init__()
        self._add = rows.append  # Keras would copy the list

    def call(self, inputs):
        if hasattr(inputs, "numpy"):
            self._add(inputs.shape[0])
        return inputs


def network_that_counts(rows):
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            Counter(rows),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize("batch_size", [7, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"region_weight": 0.0, "region": None},
        {"replace_fraction": 0.5},
        {"num_region_points": 2},
        {"num_region_points": 2, "region": "segment", "region_targets": "interpolated"},
        {"replace_fraction": 0.5, "region": "segment", "region_targets": "interpolated"},
        {"kd_weight": 0.0},
        l2rkd_tf.methods.funmatch() | {"replace_fraction": 0.9},
        l2rkd_tf.methods.pe_bkd(),
    ],
)
def test_points_of_a_step_are_those_that_pass(options, batch_size, studies):
    teacher_rows, student_rows = [], []
    given = dict(options)
    if given.get("region", "patch") == "segment":
        given["region"] = l2rkd_tf.regions.Segment()
    distiller = l2rkd_tf.L2RKDDistiller(
        network_that_counts(teacher_rows), network_that_counts(student_rows), **given
    )
    distiller.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True
    )
    inputs = np.random.RandomState(0).rand(batch_size, 4, 4, 1).astype("float32")
    distiller.train_on_batch(inputs, np.arange(batch_size) % 3)  # builds
    teacher_rows.clear(), student_rows.clear()
    distiller.train_on_batch(inputs, np.arange(batch_size) % 3)
    counted = sum(student_rows), sum(teacher_rows)
    assert counted == studies.points_of_step(batch_size, options)


def test_no_method_of_a_study_asks_more_than_plain_distillation(studies, module):
    run = module("compare_run")
    for study in studies.STUDIES.values():
        for name, method in study.methods.items():
            for settings in method.settings():
                options = run.options_of(method, settings)
                steps = studies.steps_of(study, method, options, 1.0)
                points = np.array(studies.points_of_step(study.batch_size, options)) * steps
                budget = study.steps * study.batch_size * method.compute
                assert max(points) <= budget, name
                assert max(points) > 0.98 * budget, name


def test_points_of_a_run_count_smaller_batches(module):
    counts = module("compare_run").count_points(20, 5, 8, {"num_region_points": 1})
    # Two full passes would have six batches: 8, 8, 4, 8, 8.
    assert counts == {"steps": 5, "student_points": 72, "teacher_points": 72}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.Method(kind="magic"), "`kind` must be one of .* Received: kind='magic'"),
        (lambda s: s.Method(kind="kd", batch_norm="x"), "`batch_norm` must be one of"),
        (lambda s: s.get("nothing"), "`study` must be one of .* Received: 'nothing'"),
        (
            lambda s: dataclasses.replace(s.get("ablation"), tuning_seeds=(1,)),
            "`tuning_seeds` must be others than `seeds`",
        ),
        (
            lambda s: dataclasses.replace(s.get("ablation"), fractions=(0.0,)),
            r"`fractions` must be in \(0, 1\]. Received: \(0.0,\)",
        ),
        (
            lambda s: dataclasses.replace(s.get("ablation"), methods={"a": s.Method(kind="kd")}),
            "`against` of 'a' must be a method of the study with as much compute. Received: 'KD'",
        ),
    ],
)
def test_bad_studies_are_refused(change, message, studies):
    with pytest.raises(ValueError, match=message):
        change(studies)


def fake_runs(small, jobs, accuracy):
    """Results of all jobs; `accuracy` of a job gives its accuracy."""
    return [
        job
        | {"accuracy": accuracy(job), "corrupted": {"noise 0.1": accuracy(job) - 10}}
        | {"steps": 8, "student_points": 400, "teacher_points": 400}
        for job in jobs
    ]


def test_validation_alone_chooses(small, module):
    jobs = module("compare_jobs")
    runs = fake_runs(
        small, jobs.tuning_jobs(small), lambda job: 90.0 if job["learning_rate"] == 0.2 else 80.0
    )
    wrong = {("pair", "KD"): {"learning_rate": 0.1}, ("pair", "L2RKD"): {}}
    runs += fake_runs(small, jobs.test_jobs(small, wrong), lambda job: 99.0)
    assert jobs.choose(small, runs) == {
        ("pair", "KD"): {"learning_rate": 0.2},
        ("pair", "L2RKD"): {},
    }
    assert {run["fraction"] for run in runs if run["phase"] == "validation"} == {0.1}


@pytest.fixture
def runs(small, module):
    """All reported runs, one of which has failed."""
    settings = {("pair", "KD"): {"learning_rate": 0.2}, ("pair", "L2RKD"): {}}
    gains = {0: 1.0, 1: 2.0, 2: 6.0}

    def accuracy(job):
        base = 80.0 + 10 * job["fraction"] + 3 * job["seed"]
        return base + gains[job["seed"]] if job["method"] == "L2RKD" else base

    runs = fake_runs(small, module("compare_jobs").test_jobs(small, settings), accuracy)
    failed = {"fraction": 1.0, "method": "L2RKD", "seed": 1}
    return [
        {**{k: run[k] for k in run if k not in ("accuracy", "corrupted")}, "error": "a\nb: c\n"}
        if failed.items() <= run.items()
        else run
        for run in runs
    ]


def test_the_summary_is_paired_over_seeds(small, runs, module):
    summary = module("compare_table").summarize(small, runs)
    rows = {(row["method"], row["fraction"]): row for row in summary}
    row = rows["L2RKD", 0.5]
    own, other = np.array([86.0, 90.0, 97.0]), np.array([85.0, 88.0, 91.0])
    assert row["accuracy"] == pytest.approx(own.mean())
    assert row["difference"] == pytest.approx(3.0)
    test = scipy.stats.ttest_rel(own, other)
    assert row["p_value"] == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(0.95)
    assert row["difference_interval"] == pytest.approx((high - low) / 2)
    assert row["corrupted"]["noise 0.1"][0] == pytest.approx(own.mean() - 10)
    failed = rows["L2RKD", 1.0]
    assert (failed["seeds"], failed["failed"]) == (2, 1)
    assert failed["difference"] == pytest.approx(3.5)  # of the seeds that both have


def test_the_report_shows_what_failed_and_what_was_named(small, runs, module, tmp_path):
    table, page = module("compare_table"), module("compare_page")
    teacher = {"accuracy": 99.0, "corrupted": {"noise 0.1": 98.0}}
    results = {
        "command": "python compare.py",
        "date": "2026-01-01",
        "machine": "m",
        "versions": {"keras": "3"},
        "teachers": {"pair": teacher},
        "runs": runs,
        "summary": table.summarize(small, runs),
    }
    text = page.write(str(tmp_path / "out"), small, results)
    assert (tmp_path / "out.md").read_text() == text
    assert "| L2RKD | 91.0 ± 13.8 | 96.5 ± 69.9 (1 failed) |" in text
    assert "| L2RKD at 50% − KD at 100% | -2.0 ± 6.6 (0.321) |" in text
    assert "method L2RKD, fraction 1.0, length 1.0, seed 1 | b: c |" in text
    assert "| the teacher | 99.0 | 98.0 |" in text
    html = (tmp_path / "out.html").read_text()
    assert html.count("data:image/png;base64,") == 1
    assert "<td>failed</td>" in html
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert lines[0].startswith("pair,fraction,length,method,seeds,failed,accuracy")
    assert not list(tmp_path.glob("*.partial"))


def test_corruptions(module):
    corruptions = module("corruptions")
    images = np.random.RandomState(1).rand(5, 6, 6, 1).astype("float32")
    noisy = corruptions.noise(np.full((200, 8, 8, 1), 0.5, "float32"), 0.1)
    assert np.std(noisy - 0.5) == pytest.approx(0.1, rel=0.03)
    np.testing.assert_array_equal(corruptions.noise(images, 0.1), corruptions.noise(images, 0.1))
    shifted = corruptions.shift(images, 1, -2)
    np.testing.assert_array_equal(shifted[:, 1:, :-2], images[:, :-1, 2:])
    np.testing.assert_array_equal(shifted[:, 0, :-2], images[:, 0, 2:])
    expected = [
        scipy.ndimage.gaussian_filter(image[..., 0], 1.0, mode="nearest") for image in images
    ]
    np.testing.assert_allclose(corruptions.blur(images, 1.0)[..., 0], expected, atol=1e-6)
    assert [len(make(images)) for make in corruptions.CORRUPTIONS.values()] == [1, 1, 1, 1, 4, 4]


def test_one_run_gives_the_same_twice_and_counts(small, module, tmp_path):
    run, jobs = module("compare_run"), module("compare_jobs")
    small = dataclasses.replace(small, steps=2, teacher_steps=2, fractions=(0.05,))
    (job,) = jobs.teacher_jobs(small)
    teacher = run.train_teacher(job, small, str(tmp_path))
    assert run.train_teacher(job, small, str(tmp_path)) == teacher
    *_, job = jobs.test_jobs(
        small, {("pair", name): {"learning_rate": 0.1} for name in ("KD", "L2RKD")}
    )
    assert job["method"] == "L2RKD"
    first, second = (run.train_student(job, small, str(tmp_path)) for _ in range(2))
    assert first == second
    assert first["steps"] == 2
    assert first["student_points"] == first["teacher_points"] == 100
    assert set(first["corrupted"]) == set(teacher["corrupted"])


def test_recalibration_takes_statistics_from_the_data(module):
    import tensorflow as tf

    student = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    images = np.random.RandomState(0).normal((3.0, -1.0), (0.5, 2.0), (64, 2)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.zeros(64))).batch(64)
    module("compare_run").recalibrate(student, data)
    (layer,) = student.layers
    np.testing.assert_allclose(layer.moving_mean, images.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, images.var(axis=0), rtol=1e-3)


@pytest.mark.parametrize("frozen", [False, True])
def test_two_passes_normalize_each_half_by_itself(frozen, module):
    student = keras.Sequential(
        [keras.Input((1,)), keras.layers.BatchNormalization(epsilon=1e-6, momentum=0.5)]
    )
    halves = np.array([[0.0], [2.0]]), np.array([[10.0], [20.0]])
    outputs = module("compare_run").TwoPasses(student, frozen)(
        np.concatenate(halves).astype("float32"), training=True
    )
    np.testing.assert_allclose(outputs[:2], [[-1.0], [1.0]], rtol=1e-5)
    if frozen:  # after the first half: mean 0.5, variance 1
        np.testing.assert_allclose(outputs[2:], [[9.5], [19.5]], rtol=1e-5)
    else:
        np.testing.assert_allclose(outputs[2:], [[-1.0], [1.0]], rtol=1e-5)


def start(folder, *arguments):
    command = [
        sys.executable, str(EXAMPLES / "compare.py"), "--study=ablation", "--output=runs/c",
        "--methods=KD", "--seeds=0,1", "--steps=20", "--teacher_steps=20", *arguments,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(folder):
    """Runs the comparison to its end; returns its results and the seconds it took."""
    begun = time.monotonic()
    process = start(folder)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-2000:]
    return json.loads((folder / "runs/c.json").read_text()), time.monotonic() - begun


@pytest.mark.stress
def test_killed_at_random_and_started_again_it_ends_with_the_same_results(tmp_path):
    whole, seconds = finish(tmp_path)
    table = (tmp_path / "runs/c.csv").read_text()
    for part in np.random.RandomState(0).uniform(0.3, 0.9, 3):
        folder = tmp_path / f"{part}"
        folder.mkdir()
        process = start(folder)
        time.sleep(part * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        again, _ = finish(folder)
        assert {**again, "date": whole["date"]} == whole
        assert (folder / "runs/c.csv").read_text() == table
    assert len(whole["runs"]) == 4


@pytest.mark.stress
def test_a_run_that_fails_is_reported_and_tried_again(tmp_path):
    results, _ = finish(tmp_path)
    path = tmp_path / "runs/c.json"
    whole = results["runs"]
    failed = {k: v for k, v in whole[0].items() if k not in ("accuracy", "corrupted")}
    path.write_text(json.dumps(results | {"runs": [failed | {"error": "x"}, *whole[1:]]}))
    output, _ = start(tmp_path, "--methods=nothing").communicate(timeout=600)
    assert "`methods` must be among" in output
    again, _ = finish(tmp_path)
    assert again["runs"] == whole
