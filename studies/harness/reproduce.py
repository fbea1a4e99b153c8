"""Trains cells of the committed results again, and compares."""

import json
import pathlib

import studies
from studies.harness import jobs, processes, run_study, runs, summary
from studies.harness.tables import Table

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
    """Trains cells again and prints their accuracies, committed and now.

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
    for pair, teacher in jobs.teachers_of_pairs(study, trained).items():
        then = committed["teachers"][pair]
        print(f"Teacher of {pair}: {_comparison(teacher, then)}")


def _comparison(teacher, then):
    """Whether a teacher has the weights that it had."""
    if teacher.get("teachers", 1) != then.get("teachers", 1):
        return f"not compared: the results tell only whether all {then['teachers']} are the same"
    same = teacher["weights_sha256"] == then["weights_sha256"]
    return "the same weights" if same else "other weights than then"
