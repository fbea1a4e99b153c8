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

__all__ = ["atomic_path", "check_space", "write_json", "write_text"]

_BYTES_OF_A_VARIABLE = 4096  # beside its values: its name and place in the file
# What a killed process left behind is deleted by the next writer of the same path.
_ABANDONED_SECONDS = 24 * 3600


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[pathlib.Path]:
    """Writes a file or a folder atomically: complete and on disk, or not at all.

    The body writes to the path that it gets, which has the same name in a temporary folder next to
    `path`. When the body ends, the result is flushed to disk and takes its place, where it replaces
    what was there. When the body raises, what was at `path` stays. Nothing else is left behind.

    Args:
        path: File or folder to write. Missing parents are made.

    Yields:
        `pathlib.Path` to write a file to, or to make a folder at.

    Raises:
        OSError: If the disk is full or cannot be written to.

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
    path = pathlib.Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    # On the disk of `path`, so that moving a file to `path` is one atomic step.
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.", suffix=".partial"
    ) as folder:
        temporary = pathlib.Path(folder) / path.name
        yield temporary
        _flush(temporary)
        _move(temporary, path)


def _remove_abandoned(path):
    pattern = f"{glob.escape(str(path.parent))}/.{glob.escape(path.name)}.*.partial"
    for folder in glob.glob(pattern, include_hidden=True):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - os.stat(folder).st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder)


def _flush(path):
    """Waits until all bytes of a file, or of all files of a folder, are on the disk."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())


def _move(temporary, path):
    # A file is replaced in one step; a folder that is not empty has to be moved aside first.
    previous = temporary.with_name(f"{path.name}.previous")
    if path.is_dir():
        os.replace(path, previous)
    try:
        os.replace(temporary, path)
    except OSError:
        if previous.exists():
            os.replace(previous, path)
        raise


def write_text(path: PathLike, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, content: Any, indent: int | None = 2) -> None:
    """Writes plain values as JSON, atomically."""
    write_text(path, json.dumps(content, indent=indent) + "\n")


def check_space(folder: PathLike, variables: Iterable[keras.Variable]) -> None:
    """Checks that a disk has room for variables, since HDF5 crashes Python where it has not.

    Args:
        folder: A folder on the disk, which exists.
        variables: What will be written.

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
