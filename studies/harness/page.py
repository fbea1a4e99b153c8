"""The files of a study's results: tables as markdown and CSV, a plot, and an HTML page with all."""

import base64
import pathlib

import jinja2

from l2rkd_tf.utils import files
from studies.harness import plots, summary, tables

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent), autoescape=True
)


def write(output, study, results):
    """Writes tables, plot and page next to the results.

    Args:
        output: Path without an ending.
        study: `definitions.Study`.
        results: Dict with `runs`, `summary` and `teachers`.

    Returns:
        The tables as markdown.
    """
    text = markdown(study, results)
    files.write_text(f"{output}.md", text)
    files.write_text(f"{output}.csv", summary.as_csv(results["summary"]))
    plots.draw(study, results, f"{output}.png")
    files.write_text(f"{output}.html", _html(study, results, f"{output}.png"))
    return text


def markdown(study, results):
    """The command that made the results, all tables, and the rank correlation if there is one."""
    parts = [_head(results) + "\n"]
    parts += [table.markdown() for table in tables.all_tables(study, results)]
    parts += [f"{line}\n" for line in _closing(results)]
    return "\n".join(parts)


def _head(results):
    where = [results[name] for name in ("date", "machine") if name in results]
    where.append(", ".join(f"{name} {number}" for name, number in results["versions"].items()))
    return (
        f"`{results['command']}`, {', '.join(where)}. After the last step, on the test split: mean "
        "over seeds, 95 % CI as ± half-width. Bold: the highest mean of a column, and differences "
        "whose p-value is below 0.05, corrected for all comparisons of the study (Holm)."
    )


def _closing(results):
    if "rank_correlation" in results:
        mean, half = results["rank_correlation"]
        yield (
            "Rank correlation (Spearman) of the order of `l2rkd_tf.rank_regions`, without labels, "
            f"with that of the students' accuracies: {mean:.2f} ± {half or 0:.2f}."
        )


def _html(study, results, picture):
    encoded = base64.b64encode(pathlib.Path(picture).read_bytes()).decode()
    runs = [
        [tables.describe(run), f"{run['accuracy']:.2f}" if "accuracy" in run else "failed"]
        for run in results["runs"]
        if run["phase"] != "ranking"
    ]
    plain = [
        table._replace(rows=[[cell.replace("**", "") for cell in row] for row in table.rows])
        for table in tables.all_tables(study, results)
    ]
    return _TEMPLATES.get_template("page.html").render(
        title=study.title,
        head=_head(results).replace("`", ""),
        picture=encoded,
        tables=plain,
        closing=list(_closing(results)),
        runs=tables.Table("Every run", ["run", f"{study.score}, %"], runs),
    )
