"""The page that `l2rkd inspect` writes: HTML that needs no other file."""

import base64
import json
import pathlib

from l2rkd_command.flags.inspect import TEACHER
from l2rkd_tf import plots
from l2rkd_tf.cli.common.pages import percent, render, with_interval

CAPTIONS = {
    "fidelity": "How closely each student matches its teacher, from the test examples to the "
    "boundary of the region.",
    "decision_map": "The plane through three test examples, as the teacher and each student "
    "classify it.",
    "linearity_gap": "How far each model is from linear between a test example and a random other "
    "one.",
    "linear_radii": "How far each model stays exactly linear from a test example towards its "
    "nearest neighbour, next to the distance to that neighbour. Zero means that the example lies "
    "on the boundary of a linear piece, for instance where a blank part of an image ties in a "
    "max-pooling window.",
}
_PIXELS_PER_INCH = 100
_LEAST_SCALE = 0.6  # below it, letters are too small: a picture scrolls sideways instead


def render_report(folder, title, *, notes, measures, figures, runs):
    """Saves the figures, and renders the report that embeds them.

    Args:
        folder: `pathlib.Path` of an existing folder, which gets a PNG file of each figure.
        title: Title of the page.
        notes: Paragraphs to begin with.
        measures: Dict of numbers for each model by name, including the teacher.
        figures: Figures of all models, by the names in `CAPTIONS`.
        runs: `config` and `history` of each model's training, both dicts, by the model's name.

    Returns:
        The page, HTML.
    """
    pictures = {
        name: _picture(folder / f"{name}.png", figure, CAPTIONS[name])
        for name, figure in figures.items()
    }
    profiles = {name: row["profile"] for name, row in measures.items() if name != TEACHER}
    curves = [
        _picture(
            folder / f"training_{number}.png",
            plots.training_curves(run["history"]),
            f"Training of {name}.",
        )
        for number, (name, run) in enumerate(runs.items(), start=1)
        if run["history"]
    ]
    settings = settings_table({name: run["config"] for name, run in runs.items()})
    sections = {
        "Scores": [score_table(measures)],
        "Fidelity in the region": [pictures.pop("fidelity"), *profile_tables(profiles)],
        "Local shape": pictures.values(),
        "Training": [*curves, settings],
    }
    sections = [{"heading": heading, "parts": parts} for heading, parts in sections.items()]
    return render("report.html.jinja", title=title, notes=notes, sections=sections)


def _picture(path, figure, caption):
    """Saves a figure as PNG; returns what the page shows of it."""
    plots.style.save(figure, path)
    # In proportion to its inches, so that letters have one size in all pictures.
    width = round(_PIXELS_PER_INCH * figure.get_figwidth())
    return {
        "caption": caption,
        "base64": base64.b64encode(pathlib.Path(path).read_bytes()).decode("ascii"),
        "width": width,
        "least_width": round(_LEAST_SCALE * width),
    }


def score_table(measures):
    """One row for each model."""
    rows = []
    for name, row in measures.items():
        cells = [percent(row["accuracy"]), f"{row['parameters']:,}"]
        if name == TEACHER:
            cells += ["", ""]
        else:
            distance = row["jacobian_distance"]
            cells.append(percent(row["top1_agreement"]))
            cells.append(with_interval(distance["relative"], distance["relative_stderr"]))
        rows.append([name, *cells, percent(row["expected_calibration_error"])])
    header = ["model", "test accuracy", "parameters", "agrees with the teacher"]
    header += ["Jacobian distance", "expected calibration error"]
    caption = "Accuracy, size, agreement, input Jacobians and calibration"
    return {"kind": "numbers", "caption": caption, "header": header, "rows": rows}


def profile_tables(profiles):
    """Divergence and agreement of each student at each fraction of the way."""
    fractions = next(iter(profiles.values()))["fractions"]
    header = ["student", *(f"{fraction:g}" for fraction in fractions)]
    kl, agreement = [], []
    for name, profile in profiles.items():
        kl.append([name, *map(with_interval, profile["kl"], profile["kl_stderr"])])
        agreement.append([name, *map(percent, profile["top1_agreement"])])
    where = "by fraction of the way to the boundary"
    tables = {"KL from the teacher in nats": kl, "Agrees with the teacher": agreement}
    return [
        {"kind": "numbers", "caption": f"{what}, {where}", "header": header, "rows": rows}
        for what, rows in tables.items()
    ]


def settings_table(configurations):
    """One row for each setting, one column for each run; settings that differ come first."""
    names = list(dict.fromkeys(key for entry in configurations.values() for key in entry))
    rows = [
        [name, *(as_text(entry.get(name, "")) for entry in configurations.values())]
        for name in names
    ]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    header, caption = ["setting", *configurations], "Configuration of each run"
    return {"kind": "texts", "caption": caption, "header": header, "rows": rows}


def as_text(value):
    """A value of a configuration, with lists as flags take them and dicts as lists of pairs."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {as_text(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return value if isinstance(value, str) else json.dumps(value)
