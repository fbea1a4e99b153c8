"""The plot of a study: curves, differences by method, or profiles of local shape."""

import io

import numpy as np
import scipy.stats
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from l2rkd_tf import geometry, plots
from l2rkd_tf.utils import files
from studies.harness import fractions, measures, summary, tables

_COLOUR = "#0072b2"
#: One colour a method in all curves (Okabe and Ito's, which colour-blind readers tell apart).
_COLOURS = {
    "student only": "#56b4e9",
    "KD": "#e69f00",
    "student only, augmented": "#56b4e9",
    "KD, augmented": "#d55e00",
    "PE-BKD, augmented": "#009e73",
    "L2RKD": "#cc79a7",
    "L2RKD, augmented": _COLOUR,
    "noise, augmented": "0.6",
    "FunMatch, augmented": "black",
    "patch": _COLOUR,
    "swap, then noise of 2": _COLOUR,
    "segment": "#009e73",
    "swap": "black",
    "noise of 1": "#d55e00",
}
_OTHER_COLOURS = ("#009e73", "#56b4e9", "#d55e00", "#cc79a7")
_MOST_COLOURS = 5  # Of more methods, those without a colour of their own are grey.
_PROFILES = 4  # methods whose profiles are drawn: the first ones
# `fidelity_profiles` draws bands of so many standard errors on each side.
_STANDARD_ERRORS = scipy.stats.norm.ppf(0.975)


def draw(study, results, path):
    """Writes the plot; the PNG carries the digest of the summary as the text `Summary`."""
    buffer = io.BytesIO()
    figure_of(study, results).savefig(buffer, dpi=100, format="png")
    metadata = PngInfo()
    metadata.add_text("Summary", summary.digest_of(results["summary"]))
    # A palette takes a third of the bytes.
    image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with files.atomic_path(path) as temporary:
        image.save(temporary, format="PNG", optimize=True, pnginfo=metadata)


def figure_of(study, results):
    """The plot that suits a study."""
    axis = tables.column_axis(study)
    if study.grid:
        return _grid(study, results["runs"])
    if "local_shape" in study.measures:
        return _profiles(study, results["runs"])
    if len(summary.axes_of(study)[axis]) > 1 and axis != "pair":
        return curves(study, results, axis)
    return _dots(study, results["summary"], axis)


def _figure(width, height):
    return Figure(figsize=(width, height), layout="constrained")


def curves(study, results, axis):
    """Each method along fractions or lengths, a panel for each pair."""
    pairs = list(study.pairs)
    figure = _figure(max(7, 4.2 * len(pairs)), 4.2)
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for axes, pair in zip(panels, pairs, strict=True):
        rows = [row for row in results["summary"] if row["pair"] == pair]
        label = _draw_curves(axes, study, rows, axis)
        _draw_teacher(axes, study, results["teachers"][pair])
        axes.set_title(pair if len(pairs) > 1 else study.title)
    panels[0].set_ylabel(f"test {study.score}, %")
    # Of the figure, not of the axes: panels are too narrow for it.
    figure.supxlabel(f"{label} (log scale; methods side by side)", fontsize="medium")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside right center", fontsize=8)
    if len(pairs) > 1:
        figure.suptitle(study.title)
    return figure


def _draw_teacher(axes, study, teacher):
    style = {"color": "0.4", "label": "teacher"}
    if "accuracy_by_fraction" in teacher:
        places = 100 * np.array(study.fractions)
        axes.plot(places, teacher["accuracy_by_fraction"], "_", markersize=12, **style)
    else:
        axes.axhline(teacher["accuracy"], linestyle=":", **style)


def _draw_curves(axes, study, rows, axis):
    """Draws a panel, and returns the label of its horizontal axis."""
    unit = 100 if axis == "fraction" else 1
    styles = _styles(study.methods)
    apart = 0.008 if len(summary.axes_of(study)[axis]) > 2 else 0.025
    for number, name in enumerate(study.methods):
        own = [row for row in rows if row["method"] == name and "accuracy" in row]
        places = np.array([row[axis] for row in own]) * unit
        # Between two points, a line would show what nobody tried.
        line = "" if len(own) < 3 else "-"
        axes.errorbar(
            places * (1 + apart * number),
            [row["accuracy"] for row in own],
            yerr=[row["accuracy_interval"] or 0 for row in own],
            marker="o",
            markersize=4,
            capsize=2,
            linewidth=1.4,
            linestyle=line,
            **styles[name],
        )
    axes.set_xscale("log")
    values = summary.axes_of(study)[axis]
    if axis == "fraction":
        label, names = fractions.axis_of(values)
    else:
        label = f"training compute, multiples of {study.steps:,} steps of KD"
        names = [f"{value:g}" for value in values]
    axes.set_xticks([value * unit for value in values], names)
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    return label


def _styles(methods):
    """Colour, label and order of each method: grey ones behind the others, under one label."""
    taken = {_COLOURS.get(name) for name in methods}
    free = iter([colour for colour in _OTHER_COLOURS if colour not in taken])
    styles = {}
    for name in methods:
        colour = _COLOURS.get(name)
        if colour is None or colour in {style["color"] for style in styles.values()}:
            colour = next(free, None) if len(methods) <= _MOST_COLOURS else None
        label = name if colour else "other methods"
        styles[name] = {"color": colour or "0.7", "label": label, "zorder": 3 if colour else 2}
    return styles


def _dots(study, rows, axis):
    """Difference of each method from the one that it is compared with."""
    rows = [row for row in rows if row["against"] != row["method"] and "difference" in row]
    one = len(summary.axes_of(study)[axis]) == 1
    several = one or len({row["method"] for row in rows}) > 1
    names = [
        ", ".join([row["method"]] * several + [tables.header_of(axis, row[axis])] * (not one))
        for row in rows
    ]
    figure = _figure(7, 0.26 * len(rows) + 1.4)
    axes = figure.subplots()
    _draw_differences(axes, rows, names)
    others = " or ".join(dict.fromkeys(repr(row["against"]) for row in rows))
    # Of the figure, not of the axes: long names leave these too narrow for them.
    text = f"{study.score} minus that of {others}, percentage points, 95 % CI, not corrected"
    figure.supxlabel(text, fontsize="medium")
    figure.suptitle(study.title)
    axes.grid(alpha=0.25)
    return figure


def _grid(study, runs):
    """The first difference of the grid, a panel for each place."""
    grid, differences = study.grid, summary.grid_differences(study, runs)
    heading = next(iter(grid.differences))
    names = [name for name in grid.rows if grid.compared(name, heading)]
    places = summary.places_of(study)
    figure = _figure(2.6 * len(places), 0.3 * len(names) + 1.2)
    panels = figure.subplots(1, len(places), sharex=True, sharey=True, squeeze=False)[0]
    for panel, place in zip(panels, places, strict=True):
        rows = [differences[place, name, heading] for name in names]
        _draw_differences(panel, rows, [name.replace("_", " ") for name in names])
        panel.set_title(f"{fractions.name_of(place[1])} of the data")
    figure.supxlabel("percentage points, 95 % CI, not corrected", fontsize="medium")
    column, other = grid.differences[heading]
    figure.suptitle(f"({column}) − ({other}), equal compute")
    return figure


def _draw_differences(axes, rows, names):
    axes.axvline(0, color="0.6", linewidth=1)
    axes.errorbar(
        [row["difference"] for row in rows],
        range(len(rows)),
        xerr=[row["difference_interval"] or 0 for row in rows],
        fmt="o",
        color=_COLOUR,
        capsize=3,
        markersize=4,
    )
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _profiles(study, runs):
    """Fidelity profiles of the first methods: means over seeds with their 95 % CI."""
    runs, place = summary.Runs(runs), summary.places_of(study)[0]
    profiles = {}
    for name in list(study.methods)[:_PROFILES]:
        own, statistics = runs.succeeded(place, name), []
        for measure in ("kl", "agreement"):
            columns = np.transpose(list(own[measure]))
            means, halves = zip(*map(summary.mean_and_interval, columns), strict=True)
            errors = np.array([half or 0 for half in halves]) / _STANDARD_ERRORS
            statistics += [np.array(means), errors]
        profiles[name] = geometry.FidelityProfile(
            np.array(measures.FRACTIONS), *statistics, len(own)
        )
    return plots.fidelity_profiles(profiles, averaged_over="seeds")
