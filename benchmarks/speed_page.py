"""Tables and a figure of what `speed.py` measured."""

import numpy as np

from benchmarks.speed_rows import BARE_KD, BARE_L2RKD, KERAS, LOOPS, ROWS, STUDENT
from l2rkd_tf.plots import style
from l2rkd_tf.utils import files

FLOOR = "the bare passes"
CHEAPEST = "L2RKD half, cached, interpolated"
NO_TEACHER = "L2RKD k=1, cached, interpolated"
#: What a step should cost at most: pair, row, row that it is compared with, ratio.
GOALS = [
    ("wrn", "L2RKD k=1", BARE_L2RKD, 1.03),
    ("digits", "L2RKD k=1", BARE_L2RKD, 1.15),
    ("wrn", "KD", KERAS, 1.0),
    ("wrn", "L2RKD half", KERAS, 1.02),
    ("wrn", "L2RKD k=1", KERAS, 2.0),
    ("heavy", CHEAPEST, KERAS, 0.7),
    ("heavy", CHEAPEST, FLOOR, 1.08),
    ("heavy", NO_TEACHER, KERAS, 1.2),
    ("heavy", NO_TEACHER, FLOOR, 1.08),
    ("heavy", "KD, cached", STUDENT, 1.05),
]


def page(results):
    """The tables, as markdown."""
    lines = [*_goals(results["times"]), ""]
    for pair, times in results["times"].items():
        lines += [f"### {pair}: batches of {results['batch_size'][pair.partition(',')[0]]}", ""]
        lines += [*_pair_table(pair, times, results), ""]
    for pair, times in results.get("growth", {}).items():
        lines += [f"### {pair}: growth of the cost of a step of L2RKD", "", *_growth(times), ""]
    return "\n".join(lines)


def _goals(times):
    yield "| pair | a step of | in steps of | goal, at most | median (middle half) |"
    yield "|:--|:--|:--|--:|--:|"
    for pair, name, other, goal in GOALS:
        if pair in times:
            rows = times[pair]
            compared = floor(rows, ROWS[name][1]) if other == FLOOR else rows[other]
            yield f"| {pair} | {name} | {other} | {goal} | {_ratio(rows[name], compared)} |"


def _pair_table(pair, times, results):
    size = results["batch_size"][pair.partition(",")[0]]
    memory = results.get("memory", {}).get(pair, {})
    yield (
        "| | ms a step | examples a second | batches through student, teacher | to KD of Keras | "
        "to the loop by hand | to the bare passes | peak memory, MB |"
    )
    yield "|:--|--:|--:|--:|--:|--:|--:|--:|"
    for name, (_, points) in ROWS.items():
        row = np.asarray(times[name])
        cells = [
            name,
            f"{1000 * np.median(row):.1f}",
            f"{size / np.median(row):,.0f}",
            f"{points.student}, {points.teacher}",
            _ratio(row, times[KERAS]) if name != KERAS else "",
            _ratio(row, times[LOOPS[name]]) if name in LOOPS else "",
            _ratio(row, floor(times, points)),
            f"{memory[name]:.0f} ({memory[name] / memory[KERAS]:.2f})" if memory else "",
        ]
        yield f"| {' | '.join(cells)} |"


def floor(times, points):
    """Seconds of the passes that a step needs, in each round."""
    parts = [
        np.asarray(times[f"{model}, {number} batches"])
        for model, number in zip(("student", "teacher"), points, strict=True)
        if number
    ]
    return sum(parts)


def _ratio(row, other):
    """Median of the ratios of a round, and their middle half."""
    low, middle, high = np.percentile(np.asarray(row) / np.asarray(other), [25, 50, 75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _growth(times):
    yield "| | ms a step | to a straight line through all |"
    yield "|:--|--:|--:|"
    for kind in ("k", "batch"):
        numbers, seconds, line = fitted(times, kind)
        for number, second, expected in zip(numbers, seconds, line, strict=True):
            yield f"| {kind}={number} | {1000 * second:.1f} | {second / expected:.3f} |"


def fitted(times, kind):
    """Numbers of points or examples, median seconds, and the line with least relative errors."""
    named = {name: values for name, values in times.items() if name.startswith(f"{kind}=")}
    numbers = np.array([int(name.partition("=")[2]) for name in named])
    seconds = np.array([np.median(values) for values in named.values()])
    columns = np.stack([np.ones(len(numbers)), numbers], axis=1)
    coefficients = np.linalg.lstsq(columns / seconds[:, None], np.ones(len(numbers)), rcond=None)[0]
    return numbers, seconds, columns @ coefficients


def plot(results, path):
    """Ratios to Keras's distiller of all rows, and the growth with points and examples."""
    style.require_matplotlib()
    import matplotlib.figure

    pairs = [pair for pair in results["times"] if "XLA" not in pair]
    growth = next(iter(results.get("growth", {}).values()), None)
    figure = matplotlib.figure.Figure(figsize=(11, 8), layout="constrained")
    bars, *curves = figure.subplot_mosaic(
        [["bars", "bars"], ["k", "batch"]] if growth else [["bars"]],
        height_ratios=[2, 1] if growth else None,
    ).values()
    names = [name for name in ROWS if name not in (KERAS, BARE_KD)]
    for number, pair in enumerate(pairs):
        times = results["times"][pair]
        ratios = [np.median(np.divide(times[name], times[KERAS])) for name in names]
        places = np.arange(len(names)) + (number - (len(pairs) - 1) / 2) * 0.8 / len(pairs)
        bars.barh(places, ratios, 0.8 / len(pairs), label=pair)
    bars.axvline(1, color="black", linewidth=1)
    bars.set_yticks(np.arange(len(names)), names)
    bars.invert_yaxis()
    bars.set_xlabel("time of a step, in steps of KD with keras.distillation")
    bars.legend()
    for axes, (kind, label) in zip(curves, _GROWTH.items(), strict=False):
        numbers, seconds, line = fitted(growth, kind)
        axes.plot(numbers, 1000 * seconds, "o")
        axes.plot(numbers, 1000 * line, linewidth=1)
        axes.set_xlabel(label)
        axes.set_ylabel("ms a step")
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


_GROWTH = {"k": "region points added for each example", "batch": "examples in a batch"}
