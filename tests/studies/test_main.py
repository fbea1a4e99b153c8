"""`python -m studies` from end to end."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats

from studies.harness import jobs, processes, registry, reproduce, run_study, runs
from tests.helpers import ROOT

TINY = ("--steps=20", "--teacher_steps=20", "--processes=1")
ONE_METHOD = ("ablation", "--output=runs/c", "--methods=KD", "--seeds=0,1", *TINY)


def start(folder, *arguments):
    """Starts the program in a folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", "studies", *arguments], cwd=folder, env=environment,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(folder, *arguments):
    """Runs the program to its end; returns what it printed and the seconds it took."""
    begun = time.monotonic()
    process = start(folder, *arguments)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-2000:]
    return output, time.monotonic() - begun


@pytest.fixture
def program(monkeypatch):
    """The program, whose flags end with the test: others have the same names."""
    monkeypatch.delitem(sys.modules, "studies.__main__", raising=False)
    return importlib.import_module("studies.__main__")


def call(program, *arguments):
    program.main(program.FLAGS(["studies", *arguments]))


def one_after_another(run_one, jobs, processes):
    """In place of processes of their own, which all import TensorFlow."""
    return ((job, run_one(job)) for job in jobs)


def test_a_small_study_runs_and_writes_its_files(program, tmp_path, monkeypatch, capsys):
    arguments = ("ablation", "--output=runs/c", "--methods=KD", "--seeds=0", *TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["studies", *arguments])
    monkeypatch.setattr(processes, "_run", one_after_another)
    call(program, *arguments)
    output = capsys.readouterr().out
    results = json.loads((tmp_path / "runs/c.json").read_text())
    assert results["command"] == f"python -m studies {' '.join(arguments)}"
    assert [(run["method"], run["seed"]) for run in results["runs"]] == [("default", 0), ("KD", 0)]
    assert all(run["student_points"] == 1000 for run in results["runs"])
    assert (tmp_path / "runs/c.md").read_text() in output
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "c.csv", "c.html", "c.json", "c.md", "c.png", "teachers",
    ]  # fmt: skip


def test_studies_are_listed(program, capsys):
    call(program)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["ablation"] and "100 digits" in line for line in lines)


def test_a_study_is_planned_without_running(program, capsys):
    arguments = ["--dry_run", "--methods=rkd + L2RKD", "--seeds=0,1", "--fractions=0.1"]
    call(program, "f5_methods", *arguments)
    # Three rates and three weights for it and for rkd + KD, two seeds.
    assert "Runs that choose settings: 36\nReported runs: 4\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "The study must be one of ablation, "),
        (["ablation", "f5_methods"], "One study at a time. Received: ablation f5_methods"),
        (["ablation", "--methods=magic"], "--methods must be among: default; KD; "),
        (["ablation", "--seeds=1,1"], "--seeds must be different numbers from 0. Received: 1,1"),
        (["ablation", "--seeds=x"], "--seeds must be different numbers from 0. Received: x"),
        (["ablation", "--fractions=2"], "`fractions` must be in (0, 1]"),
        (["ablation", "--tables_only", "--output=/none/x"], "There is no /none/x.json"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(program, arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        call(program, *arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("studies: ") and message in line


@pytest.mark.parametrize(
    "name", ["f5_methods", pytest.param("shape_digits", marks=pytest.mark.stress)]
)
@pytest.mark.stress
def test_published_methods_and_local_shape_run_in_the_harness(name, tmp_path):
    study = dataclasses.replace(
        registry.get(name), steps=2, teacher_steps=2, fractions=(0.05,), seeds=(0,)
    )
    (job,) = jobs.teacher_jobs(study)
    runs.train_teacher(job, study, str(tmp_path))
    method = {"f5_methods": "rkd + L2RKD", "shape_digits": "L2RKD, segment"}[name]
    settings = jobs.choose(study, [])
    (job,) = [job for job in jobs.test_jobs(study, settings) if job["method"] == method]
    found = runs.train_student(job, study, str(tmp_path))
    assert (found["steps"], found["student_points"], found["teacher_points"]) == (2, 100, 100)
    assert ("kl" in found) == (name == "shape_digits")


def test_regions_are_ranked_in_the_harness(tmp_path):
    study = registry.get("bench_digits")
    study = dataclasses.replace(
        study, steps=20, teacher_steps=2, seeds=(0,), ranked=study.ranked[:2]
    )
    (teacher,) = jobs.teacher_jobs(study)
    runs.train_teacher(teacher, study, str(tmp_path))
    (job,) = jobs.ranking_jobs(study)
    found = runs.rank_regions(job, study, str(tmp_path))
    assert set(found["order"]) == set(study.ranked)
    assert found["steps"] == [4, 2] and len(found["divergences"]) == 2


def test_a_run_that_fails_is_kept_with_its_error_and_tried_again(tmp_path):
    results = {"runs": [{"number": 1, "error": "x"}]}
    path = tmp_path / "runs.json"
    processes.run_all(fails_for_two, [{"number": n} for n in (1, 2)], results, str(path), 1)
    assert results["runs"][0] == {"number": 1, "square": 1}
    assert results["runs"][1]["error"].endswith("ValueError: two\n")
    assert json.loads(path.read_text()) == results
    with pytest.raises(RuntimeError, match="(?s)^Runs failed: 1. The first:\n.*ValueError: two"):
        processes.check_succeeded(results["runs"])


def test_errors_of_another_phase_are_kept(tmp_path):
    results = {"runs": [{"phase": "ranking", "number": 1, "error": "x"}]}
    path = tmp_path / "runs.json"
    processes.run_all(fails_for_two, [{"phase": "test", "number": 3}], results, str(path), 1)
    assert [run.get("error") for run in results["runs"]] == ["x", None]


def fails_for_two(job):
    if job["number"] == 2:
        raise ValueError("two")
    return {"square": job["number"] ** 2}


@pytest.mark.stress
def test_killed_at_random_and_started_again_it_ends_with_the_same_results(tmp_path):
    _, seconds = finish(tmp_path, *ONE_METHOD)
    whole = json.loads((tmp_path / "runs/c.json").read_text())
    table = (tmp_path / "runs/c.csv").read_text()
    for fraction in np.random.RandomState(0).uniform(0.3, 0.9, 3):
        folder = tmp_path / f"{fraction}"
        folder.mkdir()
        process = start(folder, *ONE_METHOD)
        time.sleep(fraction * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        finish(folder, *ONE_METHOD)
        again = json.loads((folder / "runs/c.json").read_text())
        assert {**again, "date": whole["date"]} == whole
        assert (folder / "runs/c.csv").read_text() == table


@pytest.mark.stress
def test_a_committed_cell_trained_again_is_as_accurate(tmp_path, capsys):
    # On one core, which fixes the order of sums.
    study = dataclasses.replace(registry.get("fewshot_digits"), fractions=(0.1,), seeds=(0,))
    settings = run_study.Settings("", str(tmp_path), 1)
    reproduce.reproduce("fewshot_digits", study, ["KD", "L2RKD"], settings)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    committed = json.loads((reproduce.RESULTS / "fewshot_digits.json").read_text())
    every = dataclasses.replace(study, seeds=registry.get("fewshot_digits").seeds)
    for row in rows[2:]:
        # On another machine it is another run: within the interval for one more, 95 %.
        cells = reproduce.selected_runs(committed["runs"], every, [row[1].strip()])
        accuracies = [cell["accuracy"] for cell in cells]
        wide = stats.t.ppf(0.975, len(cells) - 1) * np.std(accuracies, ddof=1)
        wide *= (1 + 1 / len(cells)) ** 0.5
        assert float(row[-1]) == pytest.approx(np.mean(accuracies), abs=wide)


def test_only_the_teachers_of_the_cells_are_trained_again(monkeypatch):
    def stop(study, settings):
        raise KeyError(jobs.teacher_jobs(study))

    monkeypatch.setattr(run_study, "train_teachers", stop)
    study = dataclasses.replace(registry.get("fewshot_digits"), fractions=(0.05,), seeds=(3,))
    with pytest.raises(KeyError) as stopped:
        reproduce.reproduce("fewshot_digits", study, ["KD"], None)
    assert [job["seed"] for job in stopped.value.args[0]] == [3]


def test_means_of_cells_trained_again_are_compared_over_the_seeds():
    cell = {"pair": "digits", "method": "KD", "fraction": 0.1, "length": 1.0}
    committed = [cell | {"seed": seed, "accuracy": 90.0 + seed} for seed in range(3)]
    committed += [cell | {"seed": 0, "method": "L2RKD", "accuracy": 98.0}]
    again = [run | {"accuracy": run["accuracy"] + 0.5} for run in committed]
    ((*place, then, now, change),) = reproduce.means_of(committed, again)
    assert place == ["digits", "KD", "0.1", "1.0"]
    assert (then, now, change) == ("91.0 ± 2.5", "91.5 ± 2.5", "0.5 ± 0.0")
