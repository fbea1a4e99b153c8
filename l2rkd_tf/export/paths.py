"""Where an export and its report go, checked before anything is written."""

import os
import pathlib

from l2rkd_tf.utils.types import PathLike

__all__ = ["checked_file", "checked_folder", "report_path"]

_SAVED_MODEL_ENTRIES = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def checked_file(path: PathLike) -> pathlib.Path:
    """Path of a `.tflite` file, absolute."""
    file = _checked_path(path)
    if file.suffix != ".tflite" or file.is_dir():
        raise ValueError(f"`path` must be a file name ending in '.tflite'. Received: path={file}")
    return file


def checked_folder(path: PathLike) -> pathlib.Path:
    """Path of a folder, absolute; an existing folder must hold only an earlier export."""
    folder = _checked_path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`path` must be a folder, and {folder} is a file.")
    present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(present - _SAVED_MODEL_ENTRIES)
    if foreign:
        raise ValueError(
            "`path` must be new, or an earlier export, which is then replaced. Received: "
            f"path={folder}, a folder that also holds {foreign[:5]}."
        )
    return folder


def _checked_path(path):
    if not isinstance(path, (str, os.PathLike)) or "://" in str(path) or not str(path):
        raise ValueError(
            f"`path` must be a local path, as `str` or `pathlib.Path`. Received: path={path!r}"
        )
    path = pathlib.Path(path).absolute()
    report = report_path(path)
    if report.is_dir():
        raise ValueError(f"The report of `path` goes to {report}, which is a folder.")
    return path


def report_path(artifact: pathlib.Path) -> pathlib.Path:
    """Path of the report next to an artifact."""
    return artifact.with_name(artifact.name + ".json")
