"""The model card of exported students, filled in with what the programs know."""

from l2rkd_tf import export

CARD = "model_card.md"
_MEANING = "one number for each class. The largest one decides. Data lists the classes in order."


def counted(model, measure, fraction, num_examples):
    """A measured fraction as the card takes it: by its count."""
    correct = round(fraction * num_examples)
    return {"model": model, "measure": measure, "correct": correct, "num_examples": num_examples}


def write_card(folder, reports, *, model, record, data, measurements, use):
    """Writes `model_card.md` in the folder of the exported files.

    Args:
        folder: `pathlib.Path` of the folder.
        reports: `ExportReport` of each file.
        model: Path of the Keras file, and the name of the model in it.
        record: `config` and `metrics` of the student's run, two dicts, empty if not known.
        data: Name of the dataset, its splits, and the last of them from `l2rkd_tf.data.load`.
        measurements: What was measured, as `export.model_card_text` takes it.
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
    export.write_model_card(folder / CARD, text)


def _trained_on(config):
    """Which fraction of which dataset, as far as a configuration says."""
    if not {"dataset", "splits"} <= set(config):
        return "not known"
    fraction = f", fraction {config['fraction']}" if "fraction" in config else ""
    return f"{config['splits'][0]} of {config['dataset']}{fraction}"
