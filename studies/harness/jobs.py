"""The training runs of a study, and how validation chooses their settings."""

import functools
import hashlib
import itertools

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
    first = {}
    for name, pair in study.pairs.items():
        first.setdefault((study.dataset_of(name), pair.teacher), name)
    return [
        {"phase": "teacher", "pair": name} | key
        for name in first.values()
        for key in _keys_of_teachers(study)
    ]


def _keys_of_teachers(study):
    """Seed of each teacher, and its fraction of the data where that tells teachers apart."""
    tuned = any(len(method.settings()) > 1 for method in study.methods.values())
    cells = list(itertools.product(study.seeds, study.fractions))
    cells += itertools.product(study.tuning_seeds if tuned else (), [study.tuning_fraction])
    keys = [dict(zip(("seed", "fraction"), cell, strict=True)) for cell in cells]
    keys = [{name: key[name] for name in study.teacher_keys} for key in keys]
    return [key for place, key in enumerate(keys) if key not in keys[:place]]


def teachers_of_pairs(study, runs):
    """`{pair: what is measured of its teacher}` from the results of `teacher_jobs`.

    Of several teachers, those of the reported runs are averaged, and their digests are hashed.
    """
    found = {}
    for run in runs:
        if run["seed"] in study.seeds:
            pair = study.pairs[run["pair"]]
            found.setdefault((study.dataset_of(run["pair"]), pair.teacher), []).append(run)
    return {
        name: _one_teacher(found[study.dataset_of(name), pair.teacher])
        for name, pair in study.pairs.items()
    }


def _one_teacher(runs):
    if len(runs) == 1:
        return runs[0]
    digests = "".join(run["weights_sha256"] for run in runs)
    teacher = {
        "phase": "teacher",
        "pair": runs[0]["pair"],
        "teachers": len({run["seed"] for run in runs}),
        "weights_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        "parameters": runs[0]["parameters"],
        "accuracy": _mean([run["accuracy"] for run in runs]),
    }
    if "corrupted" in runs[0]:
        found = [run["corrupted"] for run in runs]
        teacher["corrupted"] = {kind: _mean([one[kind] for one in found]) for kind in found[0]}
    fractions = dict.fromkeys(run["fraction"] for run in runs if "fraction" in run)
    if fractions:
        teacher["accuracy_by_fraction"] = [
            _mean([run["accuracy"] for run in runs if run["fraction"] == fraction])
            for fraction in fractions
        ]
    return teacher


def _mean(values):
    return float(np.mean(values))


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
