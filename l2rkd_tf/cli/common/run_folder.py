"""Folders of results, written atomically, and the record of a run in them."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl.flags import FlagValues

import l2rkd_tf
from l2rkd_tf.utils.files import atomic_path, write_json, write_text
from l2rkd_tf.utils.types import PathLike

__all__ = ["NOT_OF_TRAINING", "config_of", "run_folder", "save_run", "versions"]

#: What says where a run lies, what it prints and what its data are, but not how it trains.
NOT_OF_TRAINING = {
    "backup", "class_names", "cpu_devices", "data_dir", "download", "dry_run", "output",
    "overwrite", "seeds", "teacher_cache", "tensorboard", "tpu", "verbose",
}  # fmt: skip


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "l2rkd_tf": l2rkd_tf.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
    }


def config_of(command: str, flags: FlagValues) -> dict[str, Any]:
    """What a command was asked to do: its name and all its flags, a dict.

    Folders of data are absolute, for later commands that are run in another folder.
    """
    values = flags.flag_values_dict()
    folders = {
        name: os.path.abspath(values[name])
        for name in ("dataset", "data_dir")
        if values.get(name) and os.path.isdir(values[name])
    }
    return {"command": command} | values | folders


@contextlib.contextmanager
def run_folder(folder: PathLike) -> Iterator[pathlib.Path]:
    """A new folder that takes the place of `folder` when the body is done, and not before.

    Yields:
        `pathlib.Path` to write to.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        yield temporary


def save_run(
    folder: PathLike,
    model: keras.Model,
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
    metrics: Mapping[str, Any],
) -> None:
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
    write_json(os.path.join(folder, "config.json"), {**config, "versions": versions()})
    write_json(os.path.join(folder, "history.json"), floats)
    write_text(os.path.join(folder, "log.csv"), _as_csv(floats))
    write_json(os.path.join(folder, "metrics.json"), metrics)


def _as_csv(history):
    """A history with a line for each epoch, those before an interruption included."""
    lines = [["epoch", *history], *zip(itertools.count(), *history.values(), strict=False)]
    return "".join(",".join(map(str, line)) + "\n" for line in lines)
