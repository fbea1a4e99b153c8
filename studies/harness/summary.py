"""What the runs of a study amount to: means, intervals, paired differences and p-values."""

import hashlib
import itertools
import json
import math

import numpy as np
import pandas as pd
import scipy.stats

from l2rkd_tf.cli.common import training
from studies.harness import fractions, measures

AXES = ("pair", "fraction", "length")
COUNTS = ("steps", "student_points", "teacher_points")


def axes_of(study):
    """`{axis: its values}`."""
    return {"pair": list(study.pairs), "fraction": study.fractions, "length": study.lengths}


def places_of(study):
    """All combinations of the axes' values."""
    return [
        (pair, fraction, length)
        for pair in study.pairs
        for fraction in study.fractions
        for length in study.lengths
    ]


class Runs:
    """The reported runs of a study, by place and method.

    Args:
        runs: The jobs with their results, those that failed with `error`.
    """

    def __init__(self, runs):
        frame = pd.DataFrame([run for run in runs if run["phase"] == "test"])
        for column in ("accuracy", "error"):
            if column not in frame:
                frame[column] = None
        groups = frame.groupby([*AXES, "method"], sort=False)
        self._groups = {key: group.set_index("seed") for key, group in groups}
        self._none = frame.iloc[:0].set_index("seed")

    def failed(self, place, name):
        """Number of runs that failed."""
        return int(self._groups.get((*place, name), self._none)["error"].notna().sum())

    def succeeded(self, place, name):
        """Runs that succeeded, a frame whose index is the seed."""
        group = self._groups.get((*place, name), self._none)
        return group[group["accuracy"].notna()]

    def accuracy(self, place, name):
        """Accuracies in percent, a series whose index is the seed."""
        return self.succeeded(place, name)["accuracy"].astype(float)

    def paired(self, place, name, other_place, other_name):
        """Statistics of the differences over the seeds that both methods have."""
        own, other = self.accuracy(place, name), self.accuracy(other_place, other_name)
        return paired_statistics((own - other).dropna())


def columns_of_means(study):
    """Each `(fraction, length)`, a column of the means over the pairs."""
    return list(itertools.product(study.fractions, study.lengths))


def mean_differences(study, runs):
    """The paired differences of each method, a mean over the pairs for each seed.

    Returns:
        `{(method, fraction, length): statistics}` of the methods that are compared with another
        one; of the seeds for which all runs of a comparison succeeded.
    """
    runs, found = Runs(runs), {}
    compared = {name: m.against for name, m in study.methods.items() if name != m.against}
    for name, column in itertools.product(compared, columns_of_means(study)):
        places = [(pair, *column) for pair in study.pairs]
        differences = [
            runs.accuracy(place, name) - runs.accuracy(place, compared[name]) for place in places
        ]
        means = pd.concat(differences, axis=1).dropna().mean(axis=1)
        found[(name, *column)] = paired_statistics(means)
    correct(found.values())
    return found


def mean_and_interval(values):
    """Mean, and half the width of its 95 % confidence interval or `None` for one value."""
    mean, half = training.mean_and_interval(values)
    return [mean, None if math.isnan(half) else half]


def paired_statistics(differences):
    """Mean difference, half its 95 % confidence interval, and the p-value of a paired t-test."""
    if not len(differences):
        return {}
    mean, half = mean_and_interval(differences)
    spread = len(differences) > 1 and np.ptp(differences) > 0
    p_value = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue) if spread else None
    return {"difference": mean, "difference_interval": half, "p_value": p_value}


def correct(found):
    """Adds Holm's correction for the number of comparisons, as `corrected_p_value`.

    Of `n` p-values, the `i`-th smallest becomes `max over j <= i of (n - j + 1) p_j`, at most 1.

    Args:
        found: Results of `paired_statistics`, one family; changed in place.

    Returns:
        `found`.
    """
    tested = sorted((row for row in found if row.get("p_value") is not None), key=_p_value)
    largest = 0.0
    for rank, row in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * row["p_value"]))
        row["corrected_p_value"] = largest
    return found


def _p_value(row):
    return row["p_value"]


def summarize(study, runs):
    """A row for each pair, fraction, length and method.

    Args:
        study: `definitions.Study`.
        runs: The jobs with their results, those that failed with `error`.

    Returns:
        Dicts with means, halves of 95 % confidence intervals, the paired difference from the
        method that it is compared with, its interval and p-value, also corrected for all
        comparisons of the study, and counts.
    """
    runs = Runs(runs)
    return correct(
        [_row(study, runs, place, name) for place in places_of(study) for name in study.methods]
    )


def _row(study, runs, place, name):
    own, against = runs.succeeded(place, name), study.methods[name].against
    row = dict(zip(AXES, place, strict=True)) | {
        "method": name,
        "seeds": len(own),
        "failed": runs.failed(place, name),
        "against": against,
    }
    if own.empty:
        return row
    first = own.iloc[0]
    mean, half = mean_and_interval(runs.accuracy(place, name))
    row |= {"accuracy": mean, "accuracy_interval": half}
    row |= runs.paired(place, name, place, against)
    row |= {count: int(first[count]) for count in COUNTS}
    row["settings"] = {key: float(first[key]) for key in study.methods[study.tuned_by(name)].choose}
    if "corruptions" in study.measures:
        corrupted = pd.DataFrame(list(own["corrupted"]))
        row["corrupted"] = {kind: mean_and_interval(corrupted[kind]) for kind in corrupted}
    if "local_shape" in study.measures:
        row["shape"] = _shape(own)
    return row


def _shape(own):
    """Means of the measures of local shape, those of shares in percent."""
    middle = measures.FRACTIONS.index(0.5)
    values = {
        "kl_at_data": own["kl"].str[0],
        "kl_at_mid_region": own["kl"].str[middle],
        "agreement_at_mid_region": 100 * own["agreement"].str[middle],
        "jacobian_distance": own["jacobian_distance"],
        "calibration_error": 100 * own["calibration_error"],
    }
    return {name: mean_and_interval(column.astype(float)) for name, column in values.items()}


def contrasts(study, runs):
    """The paired differences that the study names, as pairs of a text and a dict."""
    runs, (pair, *_) = Runs(runs), study.pairs
    rows = []
    for (name, *place), (other, *other_place) in study.contrasts:
        text = f"{name} at {_at(study, *place)} − {other} at {_at(study, *other_place)}"
        rows.append((text, runs.paired((pair, *place), name, (pair, *other_place), other)))
    correct([row for _, row in rows])
    return rows


def _at(study, fraction, length):
    share = fractions.name_of(fraction)
    return f"{share}, {length:g}x compute" if len(study.lengths) > 1 else share


def grid_differences(study, runs):
    """`{(place, row, heading): statistics}` of the differences of `study.grid`."""
    runs, grid = Runs(runs), study.grid
    found = {
        (place, row, heading): runs.paired(place, methods[0], place, methods[1])
        for place in places_of(study)
        for row in grid.rows
        for heading in grid.differences
        if (methods := grid.compared(row, heading))
    }
    correct(found.values())
    return found


def rank_correlation(study, runs):
    """Spearman's correlation of the order of `rank_regions` with that of the accuracies.

    Returns:
        Mean over the seeds, of each seed over its rankings, and half its 95 % confidence interval;
        `None` without rankings.
    """
    students = Runs(runs)
    found = {}
    for run in runs:
        if run["phase"] == "ranking" and "error" not in run:
            place = (run["pair"], run["fraction"], study.lengths[0])
            accuracies = [
                students.accuracy(place, name).get(run["seed"], np.nan) for name in run["order"]
            ]
            correlation = scipy.stats.spearmanr(range(len(accuracies)), np.negative(accuracies))[0]
            found.setdefault(run["seed"], []).append(correlation)
    return mean_and_interval([np.mean(own) for own in found.values()]) if found else None


def settings_text(settings):
    """Chosen settings as a text."""
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def as_csv(rows):
    """The rows of a summary, without corruptions and local shape."""
    frame = pd.DataFrame(rows).drop(columns=["corrupted", "shape"], errors="ignore")
    if "settings" in frame:
        frame["settings"] = [
            settings_text(s) if isinstance(s, dict) else "" for s in frame.settings
        ]
    return frame.to_csv(index=False, lineterminator="\n")


def digest_of(rows):
    """SHA-256 of a summary, as its plot carries it."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
