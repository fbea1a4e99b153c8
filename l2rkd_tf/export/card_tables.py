"""The tables of a model card, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from l2rkd_tf.export.intervals import wilson_interval
from l2rkd_tf.geometry.evaluation import half_width
from l2rkd_tf.utils.tables import markdown_table

__all__ = ["files", "measured", "parity", "settings", "signature", "versions"]

# The fields of an `ExportReport`.
Report: TypeAlias = Mapping[str, Any]

_UNKNOWN = "not known"
_QUANTIZATIONS = {
    None: "none: weights and activations float32",
    "float16": "weights float16, activations float32",
    "dynamic": "weights int8, activations float32",
    "int8": "weights and activations int8",
}


def files(exports: Sequence[Report]) -> str:
    """Name, format and size of each file."""
    rows = [
        (
            entry["artifact"],
            entry["format"],
            _QUANTIZATIONS[entry["quantization"]],
            f"{entry['bytes']:,}",
            f"{entry['parameters']:,}",
        )
        for entry in exports
    ]
    return markdown_table(
        ["file", "format", "quantization", "bytes", "weights of the Keras model"], rows
    )


def settings(values: Mapping[str, Any] | None) -> str:
    """Names and values, those of nested dicts under both names; empty without any."""
    return markdown_table(["name", "value"], list(_flat(values))) if values else ""


def measured(measurements: Sequence[Mapping[str, Any]]) -> str:
    """Measurements with their intervals; empty without any."""
    header = ["model", "measure", "value", "95 % interval", "examples"]
    return (
        markdown_table(header, [_measurement(row) for row in measurements]) if measurements else ""
    )


def signature(exports: Sequence[Report]) -> str:
    """Name, shape, dtype and range of each input and output of each file."""
    rows = []
    for entry in exports:
        for kind in ("inputs", "outputs"):
            ranges = entry["input_range"] if kind == "inputs" else {}
            for tensor in entry[kind]:
                sizes = ["any" if size is None else str(size) for size in tensor["shape"]]
                name = tensor["name"]
                values = "{:.4g} to {:.4g}".format(*ranges[name]) if name in ranges else _UNKNOWN
                row = [entry["artifact"], kind[:-1], name, f"({', '.join(sizes)})"]
                rows.append([*row, tensor["dtype"], values])
    return markdown_table(["file", "", "name", "shape", "dtype", "values seen at export"], rows)


def parity(exports: Sequence[Report]) -> str:
    """How far the outputs of each file are from those of the Keras model; each of several."""
    header = ["file", "largest difference", "mean difference", "spread of the outputs"]
    header += ["tolerance, as a fraction of the spread", "top-1 agreement", "at least"]
    header += ["inputs", "from"]
    rows = []
    for entry in exports:
        if len(entry["outputs"]) == 1:
            rows.append(_parity(entry["artifact"], entry))
            continue
        for output in entry["outputs"]:
            rows.append(_parity(f"{entry['artifact']}: {output['name']}", entry | output))
    return markdown_table(header, rows)


def _parity(name, entry):
    """The row of a file or of one of its outputs."""
    numbers = ("max_abs_difference", "mean_abs_difference", "output_spread", "tolerance")
    row = [name, *(f"{entry[number]:.3g}" for number in numbers)]
    for top1 in ("top1_agreement", "min_top1_agreement"):
        row.append(_UNKNOWN if entry["top1_agreement"] is None else _percent(entry[top1]))
    return [*row, entry["num_examples"], entry["example_source"]]


def versions(exports: Sequence[Report], trained_with: Any) -> str:
    """Versions of the libraries at export and, if known, at training."""
    rows = [(f"export of {entry['artifact']}", _listed(entry["versions"])) for entry in exports]
    rows.append(("training", _listed(trained_with or _UNKNOWN)))
    return markdown_table(["of", "versions"], rows)


def _flat(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def _measurement(row):
    count = row.get("num_examples", _UNKNOWN)
    names = [row["model"], row["measure"]]
    if "correct" in row:
        low, high = map(_percent, wilson_interval(row["correct"], count))
        return [*names, _percent(row["correct"] / count), f"{low} to {high}", count]
    value, error = row["value"], half_width(row.get("stderr", math.nan))
    interval = _UNKNOWN
    if math.isfinite(error):
        interval = f"{value - error:.4g} to {value + error:.4g}"
    return [*names, f"{value:.4g}", interval, count]


def _percent(fraction):
    return f"{100 * fraction:.2f} %"


def _listed(names_and_versions):
    if not isinstance(names_and_versions, dict):
        return names_and_versions
    return ", ".join(f"{name} {version}" for name, version in names_and_versions.items())
