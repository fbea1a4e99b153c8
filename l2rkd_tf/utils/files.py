"""Files and folders that appear under their name when they are complete, and not before."""

import contextlib
import errno
import glob
import json
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.utils.types import PathLike

__all__ = [
    "atomic_path",
    "check_space",
    "publish",
    "remove_abandoned",
    "scratch_path",
    "write_json",
    "write_text",
]

_BYTES_OF_A_VARIABLE = 4096  # in addition to its values: its name and position in the file
_SUFFIX = ".partial"
_PREVIOUS = ".previous"
# A live writer touches its temporary folder more often than this.
_ABANDONED_SECONDS = 24 * 3600


@contextlib.contextmanager
def atomic_path(path: PathLike, replace: bool = True) -> Iterator[pathlib.Path]:
    """Writes a file or a folder atomically: complete and on disk, or not at all.

    The body writes to the path that it gets, which has the same name in a temporary folder next to
    `path`. When the body ends, the result is flushed to disk and takes its place, where it replaces
    what was there. When the body raises, what was at `path` stays. Nothing else is left behind,
    except by a process that is killed: the next writer of `path` deletes that after a day.

    Args:
        path: File or folder to write. Missing parents are made.
        replace: Whether to replace what is at `path`. If not, the first of several writers of a
            file wins, and what the others wrote is discarded.

    Yields:
        `pathlib.Path` to write a file to, or to make a folder at.

    Raises:
        OSError: If the disk is full or cannot be written to, or the body has written nothing.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "numbers.txt")
        >>> with atomic_path(path) as temporary:
        ...     characters = temporary.write_text("1 2 3")
        ...     os.path.exists(path)
        False
        >>> open(path).read()
        '1 2 3'
    """
    with scratch_path(path) as temporary:
        yield temporary
        publish(temporary, path, replace)


@contextlib.contextmanager
def scratch_path(path: PathLike) -> Iterator[pathlib.Path]:
    """A path of the same name in a temporary folder next to `path`, deleted with its contents.

    For files whose final name depends on what is written; others use `atomic_path`.

    Args:
        path: Says where the folder is and what its name begins with. Missing parents are made.

    Yields:
        `pathlib.Path` to write to, and to `publish` from.
    """
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, path.name)
    # On the same disk as `path`, so that moving a file to `path` is one atomic step.
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX
    ) as folder:
        yield pathlib.Path(folder) / path.name


def publish(temporary: pathlib.Path, path: PathLike, replace: bool = True) -> None:
    """Flushes what was written to a `scratch_path` to disk, then moves it to its place.

    Args:
        temporary: A file or folder in the temporary folder of a `scratch_path`.
        path: Where it goes, next to that folder.
        replace: As in `atomic_path`.
    """
    path = pathlib.Path(path).absolute()
    _flush(temporary)
    if replace:
        _move(temporary, path)
    else:
        _link(temporary, path)
    _flush_folder(path.parent)


def remove_abandoned(folder: PathLike, name: str | None = None) -> None:
    """Deletes the temporary folders of killed processes: those not touched for a day.

    Args:
        folder: The folder to look in; it need not exist.
        name: Only those for this file or folder name; `None` for all.
    """
    stem = "*" if name is None else glob.escape(name)
    for temporary in pathlib.Path(folder).glob(f".{stem}.*{_SUFFIX}"):
        # Another process may be faster, or the folder may be read-only.
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > _ABANDONED_SECONDS:
                _restore_previous(temporary)
                shutil.rmtree(temporary)


def _restore_previous(temporary):
    """Moves a folder back that a process had moved aside when it was killed."""
    for previous in temporary.glob(f"*{_PREVIOUS}"):
        path = temporary.with_name(previous.name.removesuffix(_PREVIOUS))
        if not path.exists():
            os.replace(previous, path)


def _flush(path):
    """Waits until all bytes of a file, or of all files of a folder, are on the disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())


def _flush_folder(folder):
    """Waits until the names in a folder are on the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some network disks flush none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move(temporary, path):
    # A file is replaced in one step; a folder that is not empty has to be moved aside first.
    previous = temporary.with_name(path.name + _PREVIOUS)
    if path.is_dir():
        os.replace(path, previous)
    try:
        os.replace(temporary, path)
    except OSError:
        if previous.exists():
            os.replace(previous, path)
        raise


def _link(temporary, path):
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links: the last writer wins
        os.replace(temporary, path)


def write_text(path: PathLike, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, content: Any, indent: int | None = 2) -> None:
    """Writes plain values as JSON, atomically: for people, or compact with `indent=None`.

    NaN and infinite numbers become `null`, since JSON has no others.
    """
    separators = None if indent else (",", ":")
    text = json.dumps(_finite(content), indent=indent, separators=separators, allow_nan=False)
    write_text(path, text + "\n")


def _finite(content):
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def check_space(folder: PathLike, variables: Iterable[keras.Variable]) -> None:
    """Checks that a disk has room for variables, since HDF5 crashes Python if it is full.

    Args:
        folder: An existing folder on the disk.
        variables: The variables to write.

    Raises:
        OSError: If there is not enough room.
    """
    needed = sum(
        tf.as_dtype(variable.dtype).size * math.prod(variable.shape) + _BYTES_OF_A_VARIABLE
        for variable in variables
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free:,} bytes free, {needed:,} needed"
        )
