"""Model cards: what is known of an exported student, and what is not, on one page of markdown."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l2rkd_tf.export.report import ExportReport
from l2rkd_tf.utils.files import write_text
from l2rkd_tf.utils.types import PathLike
from l2rkd_tf.utils.validation import is_number, is_positive_integer

__all__ = ["model_card_text", "wilson_interval", "write_model_card"]

# Of the normal distribution: 95 % lie within this many standard deviations of the mean.
_Z = 1.959963984540054
_NOT_KNOWN = "Not known."
_QUANTIZATIONS = {
    None: "none: weights and activations float32",
    "float16": "weights float16, activations float32",
    "dynamic": "weights int8, activations float32",
    "int8": "weights and activations int8",
}
_REPORT_FIELDS = frozenset(field.name for field in dataclasses.fields(ExportReport))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Where a share probably lies that was estimated by counting: its 95 % Wilson interval.

    ```
    (p + z^2 / 2n  -+  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    ```

    with `p = successes / trials`, `n = trials` and `z = 1.96`. Unlike `p -+ z stderr` it stays
    within 0 and 1, and it does not shrink to a point when all trials succeed.

    Args:
        successes: How often it happened, an integer from 0 to `trials`.
        trials: How often it could have, an integer of at least 1.

    Returns:
        Lower and upper end, two floats from 0 to 1.

    Raises:
        ValueError: If an argument is something else.

    Example:
        >>> low, high = wilson_interval(351, 360)
        >>> round(low, 4), round(high, 4)
        (0.9532, 0.9868)

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (Journal
    of the American Statistical Association, 1927).
    """
    if not is_positive_integer(trials):
        raise ValueError(f"`trials` must be an integer of at least 1. Received: trials={trials!r}")
    is_zero = is_number(successes) and successes == 0
    if not (is_zero or is_positive_integer(successes)) or successes > trials:
        raise ValueError(
            f"`successes` must be an integer from 0 to trials={trials}. "
            f"Received: successes={successes!r}"
        )
    share, factor = successes / trials, _Z**2 / trials
    middle = share + factor / 2
    half_width = math.sqrt(factor * (share * (1 - share) + factor / 4))
    low, high = ((middle + sign * half_width) / (1 + factor) for sign in (-1, 1))
    # An end that is 0 or 1 exactly would otherwise be so up to rounding.
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)


def model_card_text(
    exports: Sequence[ExportReport | dict[str, Any]],
    *,
    title: str = "Exported student",
    intended_use: str | None = None,
    meaning: str | None = None,
    data: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    measurements: Iterable[Mapping[str, Any]] = (),
) -> str:
    """Tells what is known of an exported student, for those who use it without having made it.

    Nothing is computed but intervals, and nothing is assumed: what is not given is said to be not
    known. The parts are: intended use, files, data, configuration, metrics, input and output,
    parity with the Keras model, versions, limits.

    Args:
        exports: `ExportReport`s of one student, or dicts as in the JSON files of such; at least
            one.
        title: What the model is called.
        intended_use: What the model is for, in words.
        meaning: What its outputs mean, in words.
        data: What it was trained and measured on: a dict of names and values, such as
            `{"dataset": "digits", "splits": ["train", "validation", "test"]}`.
        config: Configuration of the training: a dict, such as the `config.json` of a run. Its
            entry `versions`, if any, is listed among the versions.
        metrics: What the training recorded: a dict of numbers or of such dicts, such as the
            `metrics.json` of a run. It has no intervals.
        measurements: What has been measured of the models: dicts with `"model"`, `"measure"`, and
            either `"correct"` and `"num_examples"`, two counts, which get a Wilson interval; or
            `"value"`, a number, which gets the interval `value ± 1.96 stderr` if there is a
            `"stderr"`.

    Returns:
        Markdown, which ends with a line break.

    Raises:
        ValueError: If `exports` or `measurements` are something else.

    Example:
        >>> import os, tempfile
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> report = export_litert(student, os.path.join(tempfile.mkdtemp(), "student.tflite"))
        >>> accuracy = {"measure": "test accuracy", "correct": 351, "num_examples": 360}
        >>> card = model_card_text([report], measurements=[{"model": "Keras student"} | accuracy])
        >>> print(next(line for line in card.splitlines() if "accuracy" in line))
        | Keras student | test accuracy | 97.50 % | 95.32 % to 98.68 % | 360 |

    Source: the parts are those of Mitchell et al., Model Cards for Model Reporting
    (arXiv:1810.03993), as far as they can be known here.
    """
    exports = _checked_exports(exports)
    measurements = list(measurements)
    for row in measurements:
        _check_measurement(row)
    config = dict(config or {})
    trained_with = config.pop("versions", None)
    sections = {
        "Intended use": [intended_use or "Not known: nothing was said when it was exported."],
        "Files": _files(exports),
        "Data": _settings(data),
        "Configuration of the training": _settings(config),
        "Metrics": [*_measured(measurements), "", *_recorded(metrics)],
        "Input and output": [*_signature(exports), "", f"Of the outputs: {meaning or _NOT_KNOWN}"],
        "Parity with the Keras model": _parity(exports),
        "Versions": _versions(exports, trained_with),
        "Limits": _limits(exports, measurements),
    }
    lines = [f"# {_plain(title)}", ""]
    for heading, body in sections.items():
        lines += [f"## {heading}", "", *body, ""]
    return "\n".join(lines)


def write_model_card(path: PathLike, text: str) -> None:
    r"""Writes a model card atomically: what was at `path` stays until the new card is complete.

    Args:
        path: File to write, ending in `.md`, `str` or `pathlib.Path`. Missing parents are made.
        text: The card, from `model_card_text`.

    Raises:
        ValueError: If an argument is something else.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "model_card.md")
        >>> write_model_card(path, "# Exported student\n")
        >>> open(path).read()
        '# Exported student\n'
    """
    is_path = isinstance(path, (str, os.PathLike)) and pathlib.Path(path).suffix == ".md"
    if not is_path or pathlib.Path(path).is_dir():
        raise ValueError(f"`path` must be a file name ending in '.md'. Received: path={path!r}")
    if not isinstance(text, str) or not text:
        raise ValueError(f"`text` must be a text that is not empty. Received: text={text!r}")
    write_text(path, text)


def _checked_exports(exports):
    """The reports as dicts."""
    known = [
        dataclasses.asdict(entry) if isinstance(entry, ExportReport) else entry
        for entry in (exports if isinstance(exports, (list, tuple)) else [exports])
    ]
    for entry in known:
        missing = _REPORT_FIELDS - set(entry) if isinstance(entry, dict) else _REPORT_FIELDS
        if missing:
            raise ValueError(
                "`exports` must be ExportReports, or dicts as in their JSON files. Received: "
                f"{type(entry).__name__} without {sorted(missing)[:5]}"
            )
    if not known:
        raise ValueError("`exports` must hold at least one ExportReport. Received: none")
    return known


def _check_measurement(row):
    has_names = isinstance(row, dict) and {"model", "measure"} <= set(row)
    if has_names and {"correct", "num_examples"} <= set(row):
        wilson_interval(row["correct"], row["num_examples"])
    elif not has_names or not is_number(row.get("value")):
        raise ValueError(
            "`measurements` must be dicts with 'model', 'measure', and either 'correct' and "
            f"'num_examples' or 'value'. Received: {row!r}"
        )


def _plain(value):
    """A value as text that a cell of a table can hold."""
    if isinstance(value, float):
        value = f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.split()).replace("|", "\\|")


def _table(header, rows):
    rows = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(map(_plain, row))} |" for row in rows]


def _settings(settings):
    return _table(["name", "value"], settings.items()) if settings else [_NOT_KNOWN]


def _files(exports):
    rows = [
        (entry["artifact"], entry["format"], _QUANTIZATIONS[entry["quantization"]])
        + (f"{entry['bytes']:,}", f"{entry['parameters']:,}")
        for entry in exports
    ]
    return _table(["file", "format", "quantization", "bytes", "weights of the Keras model"], rows)


def _measured(measurements):
    if not measurements:
        return ["Measured when it was exported: nothing."]
    header = ["model", "measure", "value", "95 % interval", "examples"]
    return [
        "Measured when it was exported. Intervals of shares are Wilson intervals, those of means "
        "±1.96 standard errors:",
        "",
        *_table(header, map(_measurement, measurements)),
    ]


def _measurement(row):
    count = row.get("num_examples", "not known")
    names = [row["model"], row["measure"]]
    if "correct" in row:
        share = row["correct"] / count
        low, high = map(_percent, wilson_interval(row["correct"], count))
        return [*names, _percent(share), f"{low} to {high}", count]
    value, stderr = row["value"], row.get("stderr", math.nan)
    interval = "not known"
    if math.isfinite(stderr):
        interval = f"{value - _Z * stderr:.4g} to {value + _Z * stderr:.4g}"
    return [*names, f"{value:.4g}", interval, count]


def _percent(share):
    return f"{100 * share:.2f} %"


def _recorded(metrics):
    if not metrics:
        return ["Recorded by the training: not known."]
    return [
        "Recorded by the training, without intervals, since over how many examples is not known:",
        "",
        *_table(["name", "value"], _flat(metrics)),
    ]


def _flat(metrics, prefix=""):
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _signature(exports):
    rows = []
    for entry in exports:
        for kind in ("inputs", "outputs"):
            seen = entry["input_range"] if kind == "inputs" else {}
            for tensor in entry[kind]:
                sizes = ["any" if size is None else str(size) for size in tensor["shape"]]
                name = tensor["name"]
                values = f"{seen[name][0]:.4g} to {seen[name][1]:.4g}" if name in seen else ""
                row = [entry["artifact"], kind[:-1], name, f"({', '.join(sizes)})"]
                rows.append([*row, tensor["dtype"], values or "not known"])
    return _table(["file", "", "name", "shape", "dtype", "values seen when exporting"], rows)


def _parity(exports):
    header = ["file", "largest difference", "mean difference", "spread of the outputs"]
    header += ["accepted, of the spread", "same top-1", "inputs", "from"]
    names = ("max_abs_difference", "mean_abs_difference", "output_spread", "tolerance")
    rows = []
    for entry in exports:
        top1 = entry["top1_agreement"]
        share = "not known" if top1 is None else _percent(top1)
        numbers = [f"{entry[name]:.3g}" for name in names]
        row = [entry["artifact"], *numbers, share]
        rows.append([*row, entry["num_examples"], entry["example_source"]])
    table = _table(header, rows)
    return ["Outputs of the files beside those of the float32 Keras model:", "", *table]


def _versions(exports, trained_with):
    rows = [(f"export of {entry['artifact']}", entry["versions"]) for entry in exports]
    rows.append(("training", trained_with or "not known"))
    return _table(["of", "versions"], [(of, _listed(versions)) for of, versions in rows])


def _listed(versions):
    if not isinstance(versions, dict):
        return versions
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _limits(exports, measurements):
    yield (
        "- Parity was checked on the inputs named above alone; values outside of their range were "
        "not part of the check."
    )
    for entry in exports:
        if entry["quantization"] == "int8":
            yield (
                f"- `{entry['artifact']}` takes the ranges of its activations from these inputs; "
                "what lies outside is cut off."
            )
        if entry["rebuilt_in_float32"]:
            yield (
                f"- `{entry['artifact']}` is made from a float32 copy of a model in mixed "
                f"precision, and the copy differs by {entry['rebuild_max_abs_difference']:.3g}."
            )
    measured = {row["model"] for row in measurements}
    if not measured >= {entry["artifact"] for entry in exports}:
        yield "- How often a file is right has not been measured where Metrics does not name it."
    yield (
        "- Not known: accuracy on data other than those named above, differences between groups "
        "of people or sources of data, and latency, memory and energy on a device."
    )
