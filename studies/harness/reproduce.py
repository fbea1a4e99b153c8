"""Trains cells of the committed results again, and compares."""

import dataclasses
import json
import pathlib

import numpy as np

import studies
from studies.harness import jobs, processes, run_study, runs, summary
from studies.harness.tables import Table, plus_minus

RESULTS = pathlib.Path(studies.__file__).parent / "results"
_CELL = ("pair", "method", "fraction", "length", "seed")
_MEASURED = (
    "accuracy", "corrupted", "kl", "agreement", "jacobian_distance", "calibration_error",
    "order", "divergences", "seconds",
)  # fmt: skip
_NOT_OF_A_JOB = (*_MEASURED, *summary.COUNTS, "milliseconds_per_step", "error")


def job_of(run):
    """The job of a run: what was to be done, without what came out."""
    return {name: value for name, value in run.items() if name not in _NOT_OF_A_JOB}


def selected_runs(committed, study, methods):
    """The reported runs of these methods, with the fractions and seeds of the study."""
    return [
        run
        for run in committed
        if run["phase"] == "test"
        and run["method"] in methods
        and run["fraction"] in study.fractions
        and run["seed"] in study.seeds
    ]


def reproduce(name, study, methods, settings):
    """Trains cells again and prints their accuracies, committed and now, and means over seeds.

    Args:
        name: Name of the study.
        study: The study with the fractions and seeds of the cells.
        methods: Names of the methods of the cells.
        settings: `run_study.Settings`; `output` is not used.

    Raises:
        ValueError: If there are no committed results of such cells.
        RuntimeError: If a run failed.
    """
    path = RESULTS / f"{name}.json"
    committed = json.loads(path.read_text()) if path.exists() else {"runs": [], "teachers": {}}
    cells = selected_runs(committed["runs"], study, methods)
    if not cells:
        raise ValueError(f"--reproduce needs committed runs. There are none in {path}")
    study = dataclasses.replace(study, tuning_seeds=())  # whose teachers are not needed
    trained = run_study.train_teachers(study, settings)
    again = {"runs": []}
    wanted = [job_of(cell) for cell in cells]
    run_study.run_phase(runs.train_student, wanted, study, again, "", settings)
    processes.check_succeeded(again["runs"])
    rows = [
        [*(str(cell[axis]) for axis in _CELL), f"{cell['accuracy']:.2f}", f"{now['accuracy']:.2f}"]
        for cell, now in zip(cells, again["runs"], strict=True)
    ]
    print(Table("Test accuracy, %", [*_CELL, "committed", "now"], rows).markdown())
    means = means_of(cells, again["runs"])
    if means:
        header = [*_CELL[:-1], "committed", "now", "now minus committed"]
        print(Table("Means over seeds, %, 95 % CI as ± half-width", header, means).markdown())
    for pair, teacher in jobs.teachers_of_pairs(study, trained).items():
        then = committed["teachers"][pair]
        print(f"Teacher of {pair}: {_comparison(teacher, then)}")


def means_of(committed, again):
    """Rows of means with their 95 % confidence intervals, and paired differences, as texts.

    Args:
        committed: Runs of the results.
        again: The same runs, trained again.
    """
    found = {}
    for cell, now in zip(committed, again, strict=True):
        place = tuple(str(cell[axis]) for axis in _CELL[:-1])
        found.setdefault(place, []).append((cell["accuracy"], now["accuracy"]))
    rows = []
    for place, accuracies in found.items():
        if len(accuracies) > 1:
            then, now = np.transpose(accuracies)
            means = (summary.mean_and_interval(values) for values in (then, now, now - then))
            rows.append([*place, *(plus_minus(*mean) for mean in means)])
    return rows


def _comparison(teacher, then):
    """Whether a teacher has the weights that it had."""
    if teacher.get("teachers", 1) != then.get("teachers", 1):
        return f"not compared: the results tell only whether all {then['teachers']} are the same"
    same = teacher["weights_sha256"] == then["weights_sha256"]
    return "the same weights" if same else "other weights than then"
