"""Cells of the studies that were trained again on other machines, and the committed ones."""

import json

import numpy as np
import pandas as pd

from l2rkd_tf.utils.tables import markdown_table
from studies.harness import fractions, reproduce, summary
from studies.harness.tables import plus_minus

#: A line for each run: what `--reproduce` printed.
PATH = reproduce.RESULTS / "another_machine.csv"
_KINDS = ("tables", "series", "texts")
_CELL = ["machine", "study", "pair", "method", "fraction", "length"]


def cells():
    """Cells that were trained again.

    Returns:
        `{(machine, study, pair, method, fraction, length): (committed, again)}`, two Series of
        accuracies in percent whose index is the seed. `again` has all seeds of `committed`, or
        some of them.
    """
    found = {}
    for key, group in pd.read_csv(PATH, float_precision="round_trip").groupby(_CELL, sort=False):
        committed = _committed_runs(*key[1:])
        found[key] = committed, group.set_index("seed")["accuracy"]
    return found


def _committed_runs(study, pair, method, fraction, length):
    runs = json.loads((reproduce.RESULTS / f"{study}.json").read_text())["runs"]
    frame = pd.DataFrame([run for run in runs if run["phase"] == "test"])
    same = (frame["pair"] == pair) & (frame["method"] == method)
    same &= (frame["fraction"] == fraction) & (frame["length"] == length)
    # As `--reproduce` prints them.
    return frame[same].set_index("seed")["accuracy"].round(2)


def expected(committed, seeds):
    """Where the mean of the runs is expected, from the committed runs, as mean and half-width.

    That is the 95 % confidence interval of the committed mean if all `seeds` were trained again,
    and the 95 % prediction interval of a mean of so many runs, with other teachers, if not.

    Args:
        committed: Accuracies, one for each seed.
        seeds: Number of seeds that were trained again.
    """
    mean, half = summary.mean_and_interval(committed)
    n = len(committed)
    return mean, half if seeds == n else half * (1 + n / seeds) ** 0.5


def is_within(committed, again):
    """Whether the mean of the runs is where it was expected."""
    mean, half = expected(committed, len(again))
    return bool(abs(again.mean() - mean) <= half)


def change(committed, again):
    """Mean change of the seeds that were trained again, with its 95 % interval or `None`."""
    return summary.mean_and_interval(again - committed[again.index])


def changes_by_kind(machine):
    """Changes of single runs, by kind of data.

    Returns:
        `{kind: changes}`, arrays of percentage points; `kind` is tables, series, texts or images.
    """
    found = {}
    for (where, _, pair, *_), (committed, again) in cells().items():
        if where == machine:
            kind = pair.split("/")[0]
            found.setdefault(kind if kind in _KINDS else "images", []).append(
                again - committed[again.index]
            )
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def table(machine):
    """The cells of a machine, as a table in Markdown."""
    header = [
        "study", "pair", "method", "data", "length", "seeds", "expected", "now", "change",
    ]  # fmt: skip
    rows = [
        [
            study, pair, method, fractions.name_of(fraction), f"{length:g}",
            f"{len(again)} of {len(committed)}",
            plus_minus(*expected(committed, len(again))),
            f"{again.mean():.1f}" + ("" if is_within(committed, again) else " (outside)"),
            plus_minus(*change(committed, again), "+"),
        ]
        for (where, study, pair, method, fraction, length), (committed, again) in cells().items()
        if where == machine
    ]  # fmt: skip
    return markdown_table(header, rows)
