"""The page that `inspect_student.py` writes: HTML that needs no other file."""

import base64
import html
import json
import math
import os

from l2rkd_tf import plots

TEACHER = "teacher"
_PIXELS_PER_INCH = 100
CAPTIONS = {
    "fidelity": "How well the students mimic their teacher, from the test examples to the edge of "
    "the region.",
    "decision_map": "The plane through three test examples, as teacher and students classify it.",
    "linearity_gap": "How far each model is from linear between a test example and another.",
    "linear_radii": "How far each model is exactly linear from a test example towards its nearest "
    "neighbour, beside the distance of the neighbour. Zero: the example lies on the edge of a "
    "piece, as where a blank part of an image ties in a max-pooling window.",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: white;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1, h2 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; }}
.wide {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
th, td {{ padding: .25rem .8rem; border-bottom: 1px solid #ccc; text-align: right; }}
th {{ vertical-align: bottom; }}
th:first-child {{ text-align: left; font-weight: 600; }}
td {{ overflow-wrap: anywhere; min-width: 4rem; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: 14px; }}
@media print {{ figure, table {{ break-inside: avoid; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def heading(text):
    """A heading of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text):
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def table(caption, header, rows):
    """A table of texts.

    Args:
        caption: What it shows.
        header: A text for each column.
        rows: Lists of as many texts; the first one names its row.
    """
    lines = [
        '<div class="wide"><table>',
        f"<caption>{html.escape(caption)}</caption>",
        "<thead>" + _row(["col"] * len(header), header) + "</thead>",
        "<tbody>",
        *(_row(["row", *[None] * (len(row) - 1)], row) for row in rows),
        "</tbody></table></div>",
    ]
    return "\n".join(lines)


def _row(scopes, texts):
    """Cells of a row; one with a scope heads its row or column."""
    cells = []
    for scope, text in zip(scopes, texts, strict=True):
        start, end = (f'th scope="{scope}"', "th") if scope else ("td", "td")
        cells.append(f"<{start}>{html.escape(text)}</{end}>")
    return f"<tr>{''.join(cells)}</tr>"


def picture(path, text, width):
    """A PNG file with a text below it, which is also read out in its place.

    Args:
        path: The file.
        text: What it shows.
        width: Width on the page in CSS pixels, of which a narrow page takes fewer.
    """
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode("ascii")
    text = html.escape(text)
    return (
        f'<figure><img alt="{text}" width="{width}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def write_page(path, title, parts):
    """Writes a page of the parts, whole or not at all."""
    temporary = f"{path}.partial"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(_PAGE.format(title=html.escape(title), body="\n".join(parts)))
    os.replace(temporary, path)


def percent(share):
    """A share for people."""
    return f"{share:.2%}"


def with_interval(mean, stderr):
    """A mean with half the width of its 95 % interval, which tells how many digits count."""
    half_width = 1.96 * stderr
    if not 0 < half_width < math.inf:
        return f"{mean:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def table_of_scores(measures):
    """One row for each model."""
    rows = []
    for name, row in measures.items():
        cells = [percent(row["accuracy"]), f"{row['parameters']:,}"]
        if name == TEACHER:
            cells += ["", ""]
        else:
            distance = row["jacobian_distance"]
            cells.append(percent(row["agreement"]))
            cells.append(with_interval(distance.relative, distance.relative_stderr))
        rows.append([name, *cells, percent(row["expected_calibration_error"])])
    header = ["model", "test accuracy", "parameters", "decides as the teacher"]
    header += ["Jacobian distance", "expected calibration error"]
    return table("Accuracy, size, agreement, slopes and calibration", header, rows)


def tables_of_profiles(profiles):
    """Divergence and agreement of each student at each fraction of the way."""
    fractions = next(iter(profiles.values())).fractions
    header = ["student", *(f"{fraction:g}" for fraction in fractions)]
    kl, agreement = [], []
    for name, profile in profiles.items():
        kl.append([name, *map(with_interval, profile.kl, profile.kl_stderr)])
        agreement.append([name, *map(percent, profile.agreement)])
    return [
        table("KL from the teacher in nats, at fractions of the way", header, kl),
        table("Decides as the teacher, at fractions of the way", header, agreement),
    ]


def table_of_configurations(configurations):
    """One row for each setting, a column for each run; settings that differ come first."""
    names = list(dict.fromkeys(key for entry in configurations.values() for key in entry))
    rows = []
    for name in names:
        values = [entry.get(name, "") for entry in configurations.values()]
        texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
        rows.append([name, *texts])
    rows.sort(key=lambda row: len(set(row[1:])) == 1)
    return table("Configuration of each run", ["setting", *configurations], rows)


def parts_of_page(folder, measures, figures, runs, notes):
    """The report as a list of HTML parts; saves the figures in the folder.

    Args:
        folder: An existing folder.
        measures: Dicts of numbers by model, the teacher among them.
        figures: Figures of all models, by the names in `CAPTIONS`.
        runs: `config` and `history` of each model's training, both dicts.
        notes: Paragraphs to begin with.
    """

    def save(name, figure, caption):
        path = os.path.join(folder, f"{name}.png")
        figure.savefig(path)
        # By inches, so that letters are of one size in all pictures.
        return picture(path, caption, round(_PIXELS_PER_INCH * figure.get_figwidth()))

    pictures = {name: save(name, figure, CAPTIONS[name]) for name, figure in figures.items()}
    profiles = {name: row["profile"] for name, row in measures.items() if name != TEACHER}
    parts = [*map(paragraph, notes), heading("Scores"), table_of_scores(measures)]
    parts += [heading("Fidelity in the region"), pictures.pop("fidelity")]
    parts += [*tables_of_profiles(profiles), heading("Local shape"), *pictures.values()]
    parts.append(heading("Training"))
    for number, (name, run) in enumerate(runs.items(), start=1):
        if run["history"]:
            figure = plots.training_curves(run["history"])
            parts.append(save(f"training_{number}", figure, f"Training of {name}."))
    return [
        *parts,
        table_of_configurations({name: run["config"] for name, run in runs.items()}),
    ]
