"""Folders of results: written whole or not at all."""

import contextlib
import json
import os
import shutil

import keras
import numpy as np
import tensorflow as tf

import l2rkd_tf


def versions():
    """Versions that a result depends on."""
    return {
        "l2rkd_tf": l2rkd_tf.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def write_json(path, content):
    """Writes JSON whole or not at all."""
    temporary = f"{path}.partial"
    with open(temporary, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    os.replace(temporary, path)


def check_new(folder, overwrite):
    """Refuses to write over an earlier run."""
    if os.path.exists(folder) and not overwrite:
        raise ValueError(
            f"`output` must be a new folder. Received: {folder!r}, which exists. Choose another "
            "one, or pass --overwrite."
        )


@contextlib.contextmanager
def run_folder(folder, overwrite):
    """A folder that appears under its name when the run is complete, and not before."""
    check_new(folder, overwrite)
    partial = f"{folder.rstrip('/')}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def save_run(folder, model, config, history, metrics):
    """Saves a trained model and the record of its training.

    Args:
        folder: An existing folder.
        model: Trained teacher or student.
        config: What the run was asked to do, a dict.
        history: History of `fit`, a dict of lists.
        metrics: Results of the last epoch, a dict.
    """
    model.save(os.path.join(folder, "model.keras"))
    floats = {name: [float(value) for value in values] for name, values in history.items()}
    write_json(os.path.join(folder, "config.json"), config | {"versions": versions()})
    write_json(os.path.join(folder, "history.json"), floats)
    write_json(os.path.join(folder, "metrics.json"), metrics)
