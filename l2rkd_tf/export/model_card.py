"""Model cards: what is known of an exported student, and what is not, on one page of Markdown."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l2rkd_tf.export import card_tables
from l2rkd_tf.export.intervals import wilson_interval
from l2rkd_tf.export.report import ExportReport
from l2rkd_tf.utils import tables
from l2rkd_tf.utils.files import write_text
from l2rkd_tf.utils.types import PathLike
from l2rkd_tf.utils.validation import is_number

__all__ = ["model_card_text", "write_model_card"]

_REPORT_FIELDS = frozenset(field.name for field in dataclasses.fields(ExportReport))


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
    license: str | None = None,
) -> str:
    """Describes an exported student for people who use it but did not make it.

    Nothing is computed except confidence intervals, and nothing is assumed: what is not given is
    stated as not known. The sections are: intended use, files, data, configuration, metrics, input
    and output, parity with the Keras model, versions, limits. The metadata at the top are in the
    format of Hugging Face: `huggingface_hub.ModelCard(text)` reads them.

    Args:
        exports: `ExportReport`s of one student, or dicts as in their JSON files; at least one.
        title: Name of the model.
        intended_use: What the model is for, in words.
        meaning: What its outputs mean, in words.
        data: What it was trained and measured on: a dict of names and values, such as
            `{"dataset": "digits", "splits": ["train", "validation", "test"]}`.
        config: Configuration of the training: a dict, such as the `config.json` of a run. Its
            entry `versions`, if any, is listed among the versions.
        metrics: What the training recorded: a dict of numbers or of such dicts, such as the
            `metrics.json` of a run. It has no intervals.
        measurements: Measurements of the models: dicts with `"model"`, `"measure"`, and either
            `"correct"` and `"num_examples"`, two counts, which get a Wilson interval; or `"value"`,
            a number, which gets the normal interval `value ± 1.96 stderr` if there is a
            `"stderr"`.
        license: Identifier of the model's licence, such as `"apache-2.0"`, for the metadata.

    Returns:
        Markdown that ends with a line break.

    Raises:
        ValueError: If `exports` is empty or holds something else than reports, or an entry of
            `measurements` lacks a name or a value.

    Example:
        >>> import os, tempfile
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> report = export_litert(student, os.path.join(tempfile.mkdtemp(), "student.tflite"))
        >>> accuracy = {"measure": "test accuracy", "correct": 351, "num_examples": 360}
        >>> card = model_card_text([report], measurements=[{"model": "Keras student"} | accuracy])
        >>> row = next(line for line in card.splitlines() if "accuracy" in line)
        >>> [text.strip() for text in row.split("|")[3:-1]]
        ['97.50 %', '95.32 % to 98.68 %', '360']

    Reference: the sections are those of Mitchell et al., Model Cards for Model Reporting
    (arXiv:1810.03993), as far as they can be known here.
    """
    reports = _checked_exports(exports)
    measurements = list(measurements)
    for row in measurements:
        _check_measurement(row)
    config = dict(config or {})
    trained_with = config.pop("versions", None)
    return _template().render(
        exports=reports,
        title=title,
        license=license,
        intended_use=intended_use,
        meaning=meaning,
        measured={row["model"] for row in measurements},
        files=card_tables.files(reports),
        data=card_tables.settings(data),
        config=card_tables.settings(config),
        metrics=card_tables.settings(metrics),
        measurements=card_tables.measured(measurements),
        signature=card_tables.signature(reports),
        parity=card_tables.parity(reports),
        versions=card_tables.versions(reports, trained_with),
    )


def write_model_card(path: PathLike, text: str) -> None:
    r"""Writes a model card atomically: what was at `path` stays until the new card is complete.

    Args:
        path: File to write, ending in `.md`, `str` or `pathlib.Path`. Missing parents are made.
        text: The card, from `model_card_text`.

    Raises:
        ValueError: If `path` does not end in `.md` or is a folder, or `text` is empty.

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


def _template():
    # Imported here, since nothing else needs it.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("l2rkd_tf.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["cell"] = tables.cell
    return environment.get_template("model_card.md.jinja")


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
