"""Files of examples: written whole or not at all, and known by their contents."""

import contextlib
import os
import pathlib
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.utils.types import PathLike

__all__ = [
    "find_shard",
    "is_intact",
    "parse_rows",
    "partial_path",
    "read_records",
    "remove_abandoned",
    "write_shard",
]

_SUFFIX = ".tfrecord"
_PARTIAL = ".partial"
# A build writes to a partial file without a break, and renames it after seconds.
_ABANDONED_SECONDS = 3600


def partial_path(folder: pathlib.Path) -> pathlib.Path:
    """Path of a new file to write to before it gets its name, `pathlib.Path`."""
    return folder / f".{uuid.uuid4().hex}{_PARTIAL}"


def remove_abandoned(folder: pathlib.Path) -> None:
    """Deletes the partial files of builds that were killed: those not written to for an hour.

    Args:
        folder: `pathlib.Path`; other processes may be building in it.
    """
    for path in folder.glob(f".*{_PARTIAL}"):
        # Another process may be faster, and a cache may be one to read only.
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def find_shard(folder: pathlib.Path, number: int, examples: str) -> str | None:
    """Name of an intact shard of these examples.

    Args:
        folder: `pathlib.Path`.
        number: Number of the shard.
        examples: Fingerprint of the examples, without the teacher's outputs.

    Returns:
        The file's name, or `None` where there is no such shard, or none that is intact.
    """
    files = sorted(folder.glob(f"{_stem(number, examples)}-*{_SUFFIX}"))
    return next((path.name for path in files if is_intact(path)), None)


def is_intact(path: PathLike) -> bool:
    """Whether a shard is there and has the bytes that were written, by the digest in its name."""
    path = pathlib.Path(path)
    return path.is_file() and fingerprints.hash_file(path) == path.stem.rpartition("-")[2]


def write_shard(
    folder: pathlib.Path,
    number: int,
    examples: str,
    components: Sequence[np.ndarray],
    compression: str | None,
) -> str:
    """Writes a shard.

    Args:
        folder: `pathlib.Path` of an existing folder.
        number: Number of the shard.
        examples: Fingerprint of the examples, without the teacher's outputs.
        components: NumPy arrays, each with one row for an example.
        compression: `"GZIP"` or `None`.

    Returns:
        The file's name.

    Raises:
        OSError: If the file cannot be written, because the disk is full for instance.
    """
    partial = partial_path(folder)
    try:
        with tf.io.TFRecordWriter(str(partial), options=compression or "") as writer:
            for row in zip(*components, strict=True):
                writer.write(_record(row))
        digest = fingerprints.hash_file(partial)
        name = f"{_stem(number, examples)}-{digest}{_SUFFIX}"
        os.replace(partial, folder / name)
    except tf.errors.OpError as error:
        raise OSError(f"A shard cannot be written to {folder}: {error.message}") from error
    finally:
        partial.unlink(missing_ok=True)
    return name


def read_records(paths: Any, compression: str | None) -> tf.data.Dataset:
    """A `tf.data.Dataset` of the records of shards, one for each example, in their order."""
    return tf.data.TFRecordDataset(paths, compression_type=compression or "")


def parse_rows(records: tf.Tensor, specs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
    """Examples of records.

    Args:
        records: String tensor of shape `(batch,)`.
        specs: `tf.TensorSpec` of each component of an example.

    Returns:
        List of tensors, each with one row for an example.
    """
    feature = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(records, {str(i): feature for i in range(len(specs))})
    return [
        tf.reshape(tf.io.decode_raw(parsed[str(i)], spec.dtype), [-1, *spec.shape])
        for i, spec in enumerate(specs)
    ]


def _record(row):
    features = {
        str(i): tf.train.Feature(bytes_list=tf.train.BytesList(value=[np.asarray(value).tobytes()]))
        for i, value in enumerate(row)
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _stem(number, examples):
    return f"{number:05d}-{examples}"
