"""The model card of exported students, filled in with what the example programs know."""

import contextlib
import json
import os

from l2rkd_tf import export

CARD = "model_card.md"
_MEANING = (
    "one number for each class, of which the largest decides; the classes are named under Data."
)


def read_record(model):
    """What the run that trained a model recorded beside it.

    Args:
        model: Keras file, in the folder of a run or anywhere else.

    Returns:
        `config` and `metrics`, two dicts; empty where there is no such file.

    Raises:
        ValueError: If a file is not what a run writes.
    """
    record = {}
    for name in ("config", "metrics"):
        path = os.path.join(os.path.dirname(model), f"{name}.json")
        record[name] = _read_dict(path) if os.path.isfile(path) else {}
    return record


def _read_dict(path):
    with open(path) as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path!r}, beside the model, must be JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path!r}, beside the model, must hold a dict of JSON")
    return content


def share_row(model, measure, share, num_examples):
    """A measured share as the card takes it: by its count."""
    correct = round(share * num_examples)
    return {"model": model, "measure": measure, "correct": correct, "num_examples": num_examples}


def remove_card(folder):
    """Removes the card of earlier exports, which would not be true of new ones."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, CARD))


def write_card(folder, reports, *, model, record, data, measurements, use):
    """Writes `model_card.md` in the folder of the exported files.

    Args:
        folder: The folder.
        reports: `ExportReport` of each file.
        model: Path of the Keras file, and the name of the model in it.
        record: What `read_record` gave.
        data: Name of the data set, its splits, and the last of them from `l2rkd_tf.data.load`.
        measurements: What has been measured, as `export.model_card_text` takes it.
        use: What the model is for, in words; may be empty.
    """
    (path, name), (dataset, splits, test) = model, data
    text = export.model_card_text(
        reports,
        title=f"Exported student {name}",
        intended_use=use,
        meaning=_MEANING,
        data={
            "Keras file": path,
            "trained on": _trained_on(record["config"]),
            "compared and calibrated on": f"examples of {splits[0]} of {dataset}",
            "measured on": f"{splits[-1]} of {dataset}, {test.num_examples} examples",
            "classes, in the order of the outputs": test.class_names or "not known",
        },
        measurements=measurements,
        **record,
    )
    export.write_model_card(os.path.join(folder, CARD), text)


def _trained_on(config):
    """Which part of which data set, as far as a configuration says."""
    if not {"dataset", "splits"} <= set(config):
        return "not known"
    part = f", fraction {config['fraction']}" if "fraction" in config else ""
    return f"{config['splits'][0]} of {config['dataset']}{part}"
