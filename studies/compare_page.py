"""The files that `compare.py` writes: tables of markdown and CSV, a plot, and a page with all."""

import os

import compare_table
import inspect_page


def write(output, study, results):
    """Writes tables, plot and page beside the results.

    Args:
        output: Path without an ending.
        study: `studies.Study`.
        results: Dict with `runs`, `summary` and `teachers`.

    Returns:
        The tables as markdown.
    """
    tables, text = all_tables(study, results), markdown(study, results)
    _write(f"{output}.md", text)
    _write(f"{output}.csv", compare_table.as_csv(results["summary"]))
    compare_table.draw(study, results["summary"], results["teachers"], f"{output}.png")
    parts = [inspect_page.paragraph(_head(results))]
    parts.append(inspect_page.picture(f"{output}.png", study.title, 770))
    parts += [inspect_page.table(*_plain(table)) for table in tables]
    parts.append(inspect_page.heading("Runs"))
    parts.append(inspect_page.table(*_table_of_runs(results["runs"])))
    inspect_page.write_page(f"{output}.html", study.title, parts)
    return text


def markdown(study, results):
    """What command made the results, and all tables."""
    tables = all_tables(study, results)
    return _head(results) + "\n".join(compare_table.markdown(*table) for table in tables)


def all_tables(study, results):
    """The tables, as `(caption, header, rows)`."""
    summary = results["summary"]
    tables = compare_table.tables(study, summary)
    if study.contrasts:
        tables.append(compare_table.table_of_contrasts(study, results["runs"]))
    if any("accuracy" in row for row in summary):
        tables.append(compare_table.table_of_compute(study, summary))
        fraction = min(study.fractions, key=lambda part: abs(part - study.tuning_fraction))
        tables.append(
            compare_table.table_of_corruptions(study, summary, results["teachers"], fraction)
        )
    failed = [run for run in results["runs"] if "error" in run]
    if failed:
        rows = [[_job(run), run["error"].strip().splitlines()[-1]] for run in failed]
        tables.append(("Runs that failed", ["run", "error"], rows))
    return tables


def _head(results):
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return (
        f"`{results['command']}`, {results['date']}, {results['machine']}; {versions}. Last step, "
        "test split, mean over seeds ± half the 95 % interval.\n\n"
    )


def _plain(table):
    caption, header, rows = table
    return caption, header, [[cell.replace("**", "") for cell in row] for row in rows]


def _job(run):
    names = ("phase", "pair", "method", "fraction", "length", "seed")
    return ", ".join(f"{name} {run[name]}" for name in names)


def _table_of_runs(runs):
    rows = [
        [_job(run), f"{run['accuracy']:.2f}" if "accuracy" in run else "failed"] for run in runs
    ]
    return "Every run", ["run", "accuracy, %"], rows


def _write(path, text):
    with open(f"{path}.partial", "w") as file:
        file.write(text)
    os.replace(f"{path}.partial", path)
