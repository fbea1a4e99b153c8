"""Where an export goes: checked beforehand, and written whole or not at all."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from l2rkd_tf.utils.types import PathLike

__all__ = ["checked_file", "checked_folder", "replacing", "report_path"]

_SAVED_MODEL_ENTRIES = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


def checked_file(path: PathLike) -> pathlib.Path:
    """Path of a `.tflite` file, absolute."""
    file = _checked_path(path)
    if file.suffix != ".tflite" or file.is_dir():
        raise ValueError(f"`path` must be a file name ending in '.tflite'. Received: path={file}")
    return file


def checked_folder(path: PathLike) -> pathlib.Path:
    """Path of a folder, absolute; one that exists holds nothing but an earlier export."""
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
    """Path of the report that stands beside an artifact."""
    return artifact.with_name(artifact.name + ".json")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write an artifact and its report to; both then take their places.

    When the body raises, what was at `path` stays, and nothing else is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside `path`, so that moving a file from it to `path` is one atomic step.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        artifact = pathlib.Path(folder) / path.name
        yield artifact
        _move(artifact, path)
        os.replace(report_path(artifact), report_path(path))


def _move(artifact, path):
    previous = artifact.with_name(path.name + ".previous")
    # A file is replaced in one step; a folder that is not empty has to be moved aside first.
    if path.is_dir():
        os.replace(path, previous)
    try:
        os.replace(artifact, path)
    except OSError:
        if previous.exists():
            os.replace(previous, path)
        raise
