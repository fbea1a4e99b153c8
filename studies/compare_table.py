"""What the runs of `compare.py` come to: means, intervals, paired differences; tables and plots."""

import csv
import hashlib
import io
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import scipy.stats
import training

AXES = ("pair", "fraction", "length")
_COLUMNS = (
    *AXES, "method", "seeds", "failed", "accuracy", "accuracy_interval", "against", "difference",
    "difference_interval", "p_value", "steps", "student_points", "teacher_points", "settings",
)  # fmt: skip


def axes_of(study):
    """`{axis: its values}`; the first with several values makes the columns of the tables."""
    return {"pair": list(study.pairs), "fraction": study.fractions, "length": study.lengths}


def column_axis(study):
    """The axis along the columns: fractions where there are several, or lengths, or pairs."""
    return next(
        (axis for axis in ("fraction", "length", "pair") if len(axes_of(study)[axis]) > 1),
        "fraction",
    )


def summarize(study, runs):
    """A row for each pair, fraction, length and method.

    Args:
        study: `studies.Study`.
        runs: The jobs with their results, those that failed with `error`.

    Returns:
        Dicts with means, halves of 95 % intervals, the paired difference from the method that it
        is compared with, its interval and the p-value of a paired t-test, and counts.
    """
    test = [run for run in runs if run["phase"] == "test"]
    return [
        _row(study, test, (pair, fraction, length), name)
        for pair in study.pairs
        for fraction in study.fractions
        for length in study.lengths
        for name in study.methods
    ]


def contrasts(study, runs):
    """The paired differences that the study names, as pairs of a text and a dict."""
    test = [run for run in runs if run["phase"] == "test"]
    (pair, *_) = study.pairs
    rows = []
    for one, other in study.contrasts:
        found = [
            _accuracies(test, (pair, fraction, length), name)
            for name, fraction, length in (one, other)
        ]
        text = " − ".join(f"{name} at {fraction:.0%}" for name, fraction, _ in (one, other))
        rows.append((text, _paired(*found)))
    return rows


def _row(study, runs, place, name):
    own = _of(runs, place, name)
    accuracies = _accuracies(runs, place, name)
    against = study.methods[name].against
    row = dict(zip(AXES, place, strict=True)) | {
        "method": name,
        "seeds": len(accuracies),
        "failed": sum("error" in run for run in own),
        "against": against,
    }
    if not accuracies:
        return row
    first = next(run for run in own if "error" not in run)
    mean, interval = training.mean_and_interval(list(accuracies.values()))
    row |= {"accuracy": mean, "accuracy_interval": interval}
    row |= _paired(accuracies, _accuracies(runs, place, against))
    row |= {name: first[name] for name in ("steps", "student_points", "teacher_points")}
    row["settings"] = {key: first[key] for key in study.methods[name].choose}
    row["corrupted"] = {
        kind: training.mean_and_interval(
            [run["corrupted"][kind] for run in own if "error" not in run]
        )
        for kind in first["corrupted"]
    }
    return row


def _of(runs, place, name):
    return [run for run in runs if (*(run[axis] for axis in AXES), run["method"]) == (*place, name)]


def _accuracies(runs, place, name):
    return {run["seed"]: run["accuracy"] for run in _of(runs, place, name) if "error" not in run}


def _paired(own, other):
    """Mean difference over the seeds that both have, half its 95 % interval, and its p-value."""
    differences = [own[seed] - other[seed] for seed in own if seed in other]
    if not differences:
        return {}
    mean, interval = training.mean_and_interval(differences)
    spread = len(differences) > 1 and np.ptp(differences) > 0
    p_value = float(scipy.stats.ttest_1samp(differences, 0.0).pvalue) if spread else math.nan
    return {"difference": mean, "difference_interval": interval, "p_value": p_value}


def header_of(axis, value):
    """A value of an axis, for people."""
    if axis == "fraction":
        return f"{value:.0%}"
    return f"{value:g}x compute" if axis == "length" else str(value)


def tables(study, summary):
    """Tables of texts: `[(caption, header, rows)]`, for each value of the other axes."""
    axis = column_axis(study)
    values = axes_of(study)[axis]
    places = {
        tuple((other, row[other]) for other in AXES if other != axis): None for row in summary
    }
    found = []
    for place in places:
        rows = [row for row in summary if all(row[other] == value for other, value in place)]
        caption = ", ".join(
            header_of(other, value) for other, value in place if len(axes_of(study)[other]) > 1
        )
        cells = {(row["method"], row[axis]): row for row in rows}
        header = [header_of(axis, value) for value in values]
        found.append((_caption("Test accuracy, %", caption), ["method", *header], [
            [name, *(_accuracy(cells[name, value]) for value in values)] for name in study.methods
        ]))  # fmt: skip
        found.append((
            _caption("Paired difference at equal compute, points (p-value)", caption),
            ["method", "minus", *header],
            [
                [name, method.against]
                + [_difference(cells[name, value]) for value in values]
                for name, method in study.methods.items()
                if method.against != name
            ],
        ))  # fmt: skip
    return found


def _caption(text, place):
    return f"{text}: {place}" if place else text


def _accuracy(row):
    if "accuracy" not in row:
        return "failed"
    text = f"{row['accuracy']:.1f} ± {row['accuracy_interval']:.1f}"
    return text + (f" ({row['failed']} failed)" if row["failed"] else "")


def _difference(row):
    if "difference" not in row:
        return "failed"
    mean, half = row["difference"], row["difference_interval"]
    text = f"{mean:+.1f} ± {half:.1f}"
    return f"{f'**{text}**' if abs(mean) > half else text} ({_p_value(row['p_value'])})"


def _p_value(value):
    if math.isnan(value):
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def table_of_compute(study, summary):
    """How many steps each method took, how often the networks were asked, and the settings."""
    axis = column_axis(study)
    first = [row for row in summary if row[axis] == summary[0][axis] and "accuracy" in row]
    header = ["method", "steps", "points of the student", "points of the teacher", "settings"]
    rows = [
        [row["method"], f"{row['steps']:,}", f"{row['student_points']:,}",
         f"{row['teacher_points']:,}",
         ", ".join(f"{name} {value:g}" for name, value in row["settings"].items())]
        for row in first
        if all(row[other] == first[0][other] for other in AXES)
    ]  # fmt: skip
    return f"Compute of a run, {header_of(axis, summary[0][axis])}", header, rows


def table_of_corruptions(study, summary, teachers, fraction):
    """Accuracy under corruptions of the test images, with one part of the data."""
    rows = [row for row in summary if row["fraction"] == fraction and "accuracy" in row]
    rows = [row for row in rows if all(row[a] == rows[0][a] for a in ("pair", "length"))]
    kinds = list(rows[0]["corrupted"])
    lines = [
        [row["method"], f"{row['accuracy']:.1f} ± {row['accuracy_interval']:.1f}"]
        + [f"{mean:.1f} ± {half:.1f}" for mean, half in row["corrupted"].values()]
        for row in rows
    ]
    teacher = teachers[rows[0]["pair"]]
    lines.append(
        ["the teacher", f"{teacher['accuracy']:.1f}"]
        + [f"{teacher['corrupted'][kind]:.1f}" for kind in kinds]
    )
    caption = f"Test accuracy under corruptions of the images, %, {fraction:.0%} of the data"
    return caption, ["method", "none", *kinds], lines


def table_of_contrasts(study, runs):
    """The differences that the study names."""
    rows = [[text, _difference(row)] for text, row in contrasts(study, runs)]
    return "Fewer data against more", ["paired difference, points (p-value)", ""], rows


def markdown(caption, header, rows):
    """A table with its caption."""
    lines = [f"**{caption}**", ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join([*lines, ""])


def as_csv(summary):
    """All rows of the summary, corruptions aside."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(summary)
    return text.getvalue()


def digest_of(summary):
    """SHA-256 of a summary, as its plot carries it."""
    return hashlib.sha256(json.dumps(summary, sort_keys=True).encode()).hexdigest()


def draw(study, summary, teachers, path):
    """Accuracy along the columns' axis, or differences by method where there is but one column.

    The file carries the digest of the summary as the text `Summary`.
    """
    axis = column_axis(study)
    (first, *_), numbers = study.pairs, axes_of(study)[axis]
    if len(numbers) > 1 and axis != "pair":
        figure = _curves(study, [row for row in summary if row["pair"] == first], axis)
        figure.axes[0].axhline(
            teachers[first]["accuracy"], color="0.4", linestyle=":", label="the teacher"
        )
        figure.axes[0].legend(fontsize=8, framealpha=0.5)
    else:
        figure = _dots(study, summary, axis)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Summary": digest_of(summary)})
    plt.close(figure)


def _curves(study, rows, axis):
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for number, name in enumerate(study.methods):
        own = [row for row in rows if row["method"] == name and "accuracy" in row]
        place = np.array([row[axis] for row in own]) * (100 if axis == "fraction" else 1)
        axes.errorbar(
            place * (1 + 0.008 * number),
            [row["accuracy"] for row in own],
            yerr=[row["accuracy_interval"] for row in own],
            label=name,
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1.4,
            linestyle="--" if study.methods[name].compute > 1 else "-",
            color=plt.get_cmap("tab10")(number),
        )
    axes.set_xscale("log")
    values = [value * (100 if axis == "fraction" else 1) for value in axes_of(study)[axis]]
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(
        "part of the training data, %" if axis == "fraction" else "training compute, multiples"
    )
    axes.set_ylabel("test accuracy, %")
    axes.set_title(study.title)
    axes.grid(alpha=0.25)
    return figure


def _dots(study, summary, axis):
    rows = [row for row in summary if row["against"] != row["method"] and "difference" in row]
    names = [
        row["method"] if len(axes_of(study)[axis]) == 1 else header_of(axis, row[axis])
        for row in rows
    ]
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(rows) + 1.4))
    axes.axvline(0, color="0.6", linewidth=1)
    axes.errorbar(
        [row["difference"] for row in rows],
        range(len(rows)),
        xerr=[row["difference_interval"] for row in rows],
        fmt="o",
        color="#0072b2",
        capsize=3,
        markersize=4,
    )
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"points of accuracy above {rows[0]['against']!r}, 95 % interval")
    axes.set_title(study.title)
    axes.grid(alpha=0.25)
    return figure
