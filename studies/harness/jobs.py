"""The training runs of a study, and how validation chooses their settings."""

import functools

import numpy as np


def make_job(study, phase, place, name, seed, settings):
    """One training run, as a dict of plain values that describe it completely."""
    pair, fraction, length = place
    return {
        "phase": phase,
        "pair": pair,
        "fraction": fraction,
        "length": length,
        "method": name,
        "seed": seed,
        "steps_of_kd": study.steps,
        **settings,
    }


def teacher_jobs(study):
    """A run for each teacher, under the name of the first pair that has it."""
    first = {pair.teacher: name for name, pair in reversed(study.pairs.items())}
    return [{"phase": "teacher", "pair": name} for name in first.values()]


def teachers_of_pairs(study, runs):
    """`{pair: result}` from the results of `teacher_jobs`."""
    found = {study.pairs[run["pair"]].teacher: run for run in runs}
    return {name: found[pair.teacher] for name, pair in study.pairs.items()}


def tuning_jobs(study):
    """Runs among whose settings validation chooses; none where there is one setting only."""
    return [
        make_job(
            study, "validation", (pair, study.tuning_fraction, 1.0), name, seed, settings
        )
        for pair in study.pairs
        for name, method in study.methods.items()
        if len(method.settings()) > 1
        for settings in method.settings()
        for seed in study.tuning_seeds
    ]  # fmt: skip


def choose(study, runs):
    """`{(pair, method): settings}` with the best mean accuracy on the validation split.

    Of equal ones, the first is taken. A setting none of whose runs succeeded is never chosen.
    """

    def accuracy(pair, name, settings):
        job = {"phase": "validation", "pair": pair, "method": name, **settings}
        found = [
            run["accuracy"]
            for run in runs
            if "error" not in run and job.items() <= run.items()
        ]  # fmt: skip
        return np.mean(found) if found else -np.inf

    chosen = {
        (pair, name): max(method.settings(), key=functools.partial(accuracy, pair, name))
        for pair in study.pairs
        for name, method in study.methods.items()
    }
    return {(pair, name): chosen[pair, study.tuned_by(name)] for pair, name in chosen}


def test_jobs(study, settings):
    """The reported runs, seed by seed, so that an unfinished study has complete seeds."""
    return [
        make_job(study, "test", (pair, fraction, length), name, seed, settings[pair, name])
        for seed in study.seeds
        for pair in study.pairs
        for fraction in study.fractions
        for length in study.lengths
        for name in study.methods
    ]


def ranking_jobs(study):
    """For each seed, a ranking of the regions of `study.ranked` from the teacher only."""
    return [
        {"phase": "ranking", "pair": pair, "fraction": fraction, "seed": seed}
        for seed in (study.seeds if study.ranked else ())
        for pair in study.pairs
        for fraction in study.fractions
    ]
