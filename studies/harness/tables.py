"""The tables of a study, as texts."""

import typing

from l2rkd_tf.utils.tables import markdown_table
from studies.harness import fractions, summary
from studies.harness.summary import AXES

SHAPE_COLUMNS = {
    "kl_at_data": "KL at the data",
    "kl_at_mid_region": "KL at mid-region",
    "agreement_at_mid_region": "same class at mid-region, %",
    "jacobian_distance": "Jacobian distance",
    "calibration_error": "calibration error, %",
}


class Table(typing.NamedTuple):
    """A table of texts.

    Attributes:
        caption: What it shows.
        header: A text for each column.
        rows: Lists of texts.
    """

    caption: str
    header: list
    rows: list

    def markdown(self):
        """The table with its caption."""
        return f"**{self.caption}**\n\n{markdown_table(self.header, self.rows)}\n"


def all_tables(study, results):
    """All tables of a study.

    Args:
        study: `definitions.Study`.
        results: Dict with `runs`, `summary` and `teachers`.
    """
    rows = results["summary"]
    if study.grid:
        tables = grid_tables(study, results)
    elif "local_shape" in study.measures:
        tables = [*shape_tables(study, rows), *difference_tables(study, rows)]
    else:
        tables = accuracy_tables(study, rows)
    if not study.dataset and len(study.pairs) > 1:
        tables.append(_mean_differences(study, results["runs"]))
    if study.contrasts:
        tables.append(_contrasts(study, results["runs"]))
    if any("accuracy" in row for row in rows) and not study.grid:
        tables.append(_compute(study, rows))
    if any("corrupted" in row for row in rows):
        tables.append(_corruptions(study, rows, results["teachers"]))
    failed = [run for run in results["runs"] if "error" in run]
    if failed:
        cells = [[describe(run), run["error"].strip().splitlines()[-1]] for run in failed]
        tables.append(Table("Runs that failed", ["run", "error"], cells))
    return tables


def describe(run):
    """What a run is, in words."""
    names = ("phase", "pair", "method", "fraction", "length", "seed")
    return ", ".join(f"{name} {run[name]}" for name in names if name in run)


def column_axis(study):
    """The axis along the columns: fractions where there are several, or lengths, or pairs."""
    axes = summary.axes_of(study)
    return next((a for a in ("fraction", "length", "pair") if len(axes[a]) > 1), "fraction")


def header_of(axis, value):
    """A value of an axis, for people."""
    if axis == "fraction":
        return fractions.name_of(value)
    return f"{value:g}x compute" if axis == "length" else str(value)


def accuracy_tables(study, rows):
    """Accuracies and differences, for each value of the axes that are not along the columns."""
    tables = []
    for caption, cells in _by_place(study, rows):
        accuracies = [[name, *texts] for name, texts in _with_best_in_bold(cells).items()]
        caption_of_scores = _caption(f"Test {study.score}, %", caption)
        tables.append(Table(caption_of_scores, ["method", *_header(study)], accuracies))
        tables.append(_differences(study, caption, cells))
    return tables


def _with_best_in_bold(cells):
    """Texts of accuracies by method, of which the highest mean of each column is bold."""
    texts = {name: list(map(accuracy_text, row)) for name, row in cells.items()}
    for column, rows in enumerate(zip(*cells.values(), strict=True)):
        means = [row.get("accuracy", -1.0) for row in rows]
        for name, mean in zip(cells, means, strict=True):
            if mean == max(means) >= 0 and len(cells) > 1:
                texts[name][column] = f"**{texts[name][column]}**"
    return texts


def difference_tables(study, rows):
    """The differences of `accuracy_tables` only."""
    return [_differences(study, caption, cells) for caption, cells in _by_place(study, rows)]


def shape_tables(study, rows):
    """Accuracy and local shape, a table for each place."""
    tables = []
    for place in summary.places_of(study):
        caption = _caption("Accuracy and local shape", _place_text(study, place))
        cells = [
            [row["method"], accuracy_text(row)]
            + [shape_text(*row["shape"][name]) if "shape" in row else "" for name in SHAPE_COLUMNS]
            for row in rows
            if tuple(row[axis] for axis in AXES) == place
        ]
        header = ["student", "test accuracy, %", *SHAPE_COLUMNS.values()]
        tables.append(Table(caption, header, cells))
    return tables


def _by_place(study, rows):
    """A caption and `{method: rows along the columns}` for each value of the other axes."""
    axis = column_axis(study)
    places = dict.fromkeys(tuple((a, row[a]) for a in AXES if a != axis) for row in rows)
    for place in places:
        cells = {name: [] for name in study.methods}
        for row in rows:
            if all(row[other] == value for other, value in place):
                cells[row["method"]].append(row)
        several = [header_of(a, v) for a, v in place if len(summary.axes_of(study)[a]) > 1]
        yield ", ".join(several), cells


def _header(study):
    axis = column_axis(study)
    return [header_of(axis, value) for value in summary.axes_of(study)[axis]]


def _differences(study, place, cells):
    caption = _caption(
        "Paired difference at equal compute, percentage points (corrected p-value)", place
    )  # fmt: skip
    rows = [
        [name, method.against, *map(difference_text, cells[name])]
        for name, method in study.methods.items()
        if method.against != name
    ]
    return Table(caption, ["method", "minus", *_header(study)], rows)


def _place_text(study, place):
    axes = summary.axes_of(study)
    several = [header_of(a, v) for a, v in zip(AXES, place, strict=True) if len(axes[a]) > 1]
    return ", ".join(several)


def _caption(text, place):
    return f"{text}: {place}" if place else text


def grid_tables(study, results):
    """How many rows gain and lose, then a table for each place."""
    grid, differences = study.grid, summary.grid_differences(study, results["runs"])
    cells = {(*(row[axis] for axis in AXES), row["method"]): row for row in results["summary"]}
    tables = [_grid_counts(study, differences)]
    for place in summary.places_of(study):
        rows = []
        for name, methods in grid.rows.items():
            own = [cells.get((*place, methods.get(column)), None) for column in grid.columns]
            found = [(row or {}).get("settings", {}).get(grid.setting[1]) for row in own]
            rows.append(
                [name, " and ".join(f"{value:g}" for value in found if value is not None)]
                + [accuracy_text(row) if row else "" for row in own]
                + [_grid_difference(differences.get((place, name, h))) for h in grid.differences]
            )
        share = fractions.name_of(place[1])
        caption = f"Test accuracy, %, and paired differences, pp: {share} of the data"
        header = [grid.label, grid.setting[0], *grid.columns, *grid.differences]
        tables.append(Table(caption, header, rows))
    return tables


def _grid_counts(study, differences):
    grid = study.grid
    complete = [name for name in grid.rows if all(grid.compared(name, h) for h in grid.differences)]
    rows = []
    for place in summary.places_of(study):
        numbers = []
        for heading in grid.differences:
            found = [differences[place, name, heading] for name in complete]
            numbers += [
                sum(sign * row["difference"] > row["difference_interval"] for row in found if row)
                for sign in (1, -1)
            ]
        rows.append([fractions.name_of(place[1]), *map(str, numbers)])
    header = [word for heading in grid.counts for word in (heading, "worse")]
    caption = f"Of {len(complete)} methods {grid.label}: how many change beyond the 95 % CI"
    return Table(caption, ["data", *header], rows)


def _grid_difference(row):
    return _bold_if_clear(row) if row else ""


def _contrasts(study, runs):
    rows = [[text, difference_text(row)] for text, row in summary.contrasts(study, runs)]
    header = ["difference", "percentage points (corrected p-value)"]
    return Table("Other comparisons, paired difference", header, rows)


def _mean_differences(study, runs):
    """Of pairs that are datasets: the paired differences, averaged over them."""
    found, columns = summary.mean_differences(study, runs), summary.columns_of_means(study)
    rows = [
        [name, method.against, *(difference_text(found[(name, *column)]) for column in columns)]
        for name, method in study.methods.items()
        if name != method.against
    ]
    header = ["method", "minus", *(_column_of_means(study, column) for column in columns)]
    caption = f"Mean of the {len(study.pairs)} datasets: paired difference, pp (corrected p-value)"
    return Table(caption, header, rows)


def _column_of_means(study, column):
    """Fraction and length, but for those of which the study has one only."""
    places = dict(zip(("fraction", "length"), column, strict=True))
    several = [a for a in places if len(summary.axes_of(study)[a]) > 1] or ["fraction"]
    return ", ".join(header_of(axis, places[axis]) for axis in several)


def _compute(study, rows):
    """Steps of each method, inputs of both networks, and the chosen settings."""
    axis = column_axis(study)
    first = [row for row in rows if row[axis] == rows[0][axis] and "accuracy" in row]
    cells = [
        [row["method"], *(f"{row[count]:,}" for count in summary.COUNTS)]
        + [summary.settings_text(row["settings"])]
        for row in first
        if all(row[other] == first[0][other] for other in AXES)
    ]
    header = ["method", "steps", "student inputs", "teacher inputs", "settings"]
    return Table(f"Compute of one run, {header_of(axis, rows[0][axis])}", header, cells)


def _corruptions(study, rows, teachers):
    """Accuracy on corrupted test images, at the fraction with which settings were chosen."""
    fraction = min(study.fractions, key=lambda value: abs(value - study.tuning_fraction))
    rows = [row for row in rows if row["fraction"] == fraction and "accuracy" in row]
    rows = [row for row in rows if all(row[a] == rows[0][a] for a in ("pair", "length"))]
    kinds = list(rows[0]["corrupted"])
    cells = [
        [row["method"], accuracy_text(row)]
        + [plus_minus(*values) for values in row["corrupted"].values()]
        for row in rows
    ]
    teacher = teachers[rows[0]["pair"]]
    cells.append(
        ["teacher", f"{teacher['accuracy']:.1f}"]
        + [f"{teacher['corrupted'][kind]:.1f}" for kind in kinds]
    )
    caption = f"Test accuracy on corrupted images, %, {fractions.name_of(fraction)} of the data"
    return Table(caption, ["method", "none", *kinds], cells)


def plus_minus(mean, half, sign=""):
    """A mean with half the width of its interval; `None` for no interval."""
    return f"{mean:{sign}.1f}" if half is None else f"{mean:{sign}.1f} ± {half:.1f}"


def _bold_if_clear(row):
    text = plus_minus(row["difference"], row["difference_interval"], "+")
    return f"**{text}**" if row.get("corrected_p_value", 1.0) < 0.05 else text


def accuracy_text(row):
    """Mean accuracy with its interval, and how many runs failed."""
    if "accuracy" not in row:
        return "failed"
    text = plus_minus(row["accuracy"], row["accuracy_interval"])
    return text + (f" ({row['failed']} failed)" if row["failed"] else "")


def difference_text(row):
    """Mean difference with its interval and corrected p-value, bold where that is below 0.05."""
    if "difference" not in row:
        return "failed"
    return f"{_bold_if_clear(row)} ({p_value_text(row.get('corrected_p_value'))})"


def p_value_text(value):
    """A p-value, or a dash where there is none."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def shape_text(mean, half):
    """A measure of local shape, with three digits."""
    return f"{mean:.3g}" if half is None else f"{mean:.3g} ± {half:.2g}"
