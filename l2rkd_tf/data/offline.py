"""Prepares datasets that need no download, safely even in several processes at once."""

import contextlib
import io
import sys
import uuid
from typing import Any

__all__ = ["is_prepared", "prepare_offline"]


def is_prepared(builder: Any) -> bool:
    """Whether the dataset of a `tfds.core.DatasetBuilder` can be read."""
    # The builder's own method logs a warning for every directory that does not exist.
    return builder.data_path.exists() and builder.is_prepared()


def prepare_offline(builder: Any) -> Any:
    """Prepares a dataset that needs no download, unless it is already prepared.

    The dataset is written to a separate directory, which is then renamed, so that no process ever
    sees an incomplete dataset and the first of several processes wins. (tfds names its own
    temporary directory by Python's global random numbers, which are the same in two equally seeded
    processes, and then fails in the second process.)

    Args:
        builder: A `tfds.core.GeneratorBasedBuilder` that needs no network connection.

    Returns:
        A prepared builder of the same class and directory.
    """
    if not is_prepared(builder):
        _prepare(builder)
    # A new one, since a builder created before the data has no splits.
    return _builder_like(builder, builder.data_dir_root)


def _prepare(builder):
    scratch = builder.data_dir_root / f".incomplete_{builder.name}_{uuid.uuid4().hex}"
    scratch.mkdir(parents=True)
    try:
        made = _prepare_quietly(_builder_like(builder, scratch))
        _move_into_place(made, builder)
    finally:
        scratch.rmtree()


def _builder_like(builder, data_dir):
    return type(builder)(data_dir=data_dir, config=builder.builder_config)


def _prepare_quietly(builder):
    """Prepares without output, except progress bars on a terminal."""
    # tfds would print the temporary directory as the location of the dataset.
    bars = sys.stderr if sys.stderr.isatty() else io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(bars):
        builder.download_and_prepare()
    return builder


def _move_into_place(made, builder):
    # Not by `atomic_path`: tfds's directories may be remote, and the first of two writers wins.
    place = builder.data_path
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.data_path.rename(place)
    except OSError:
        if not is_prepared(builder):
            raise
