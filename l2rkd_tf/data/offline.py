"""Preparation of data sets that need no download, safe when several processes do it at once."""

import contextlib
import io
import sys
import uuid
from typing import Any

__all__ = ["is_prepared", "prepare_offline"]


def is_prepared(builder: Any) -> bool:
    """Whether the data set of a `tfds.core.DatasetBuilder` is ready for reading."""
    # The builder's own method logs a warning about every directory that does not exist.
    return builder.data_path.exists() and builder.is_prepared()


def prepare_offline(builder: Any) -> Any:
    """Prepare a data set that needs no download, unless it is prepared already.

    The data set is made in a directory of its own and then renamed, so that no process ever sees
    half of it and the first of several to finish wins. (tfds itself names its temporary directory
    from Python's global random numbers, which two equally seeded processes share, and fails in
    the second process to finish.)

    Args:
        builder: A `tfds.core.GeneratorBasedBuilder` that makes its examples without a network.

    Returns:
        A builder of the same class and place, prepared.
    """
    if not is_prepared(builder):
        _prepare(builder)
    # A new one, since a builder made before the data were there knows no splits.
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
    """Prepare with no output but progress bars, and these only for someone who is watching."""
    # tfds would print the temporary directory as the place to find the data set.
    bars = sys.stderr if sys.stderr.isatty() else io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(bars):
        builder.download_and_prepare()
    return builder


def _move_into_place(made, builder):
    place = builder.data_path
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.data_path.rename(place)
    except OSError:
        if not is_prepared(builder):
            raise
