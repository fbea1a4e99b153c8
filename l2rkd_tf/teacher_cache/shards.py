"""Files of examples: written atomically, and named after their contents."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.utils.files import publish, scratch_path
from l2rkd_tf.utils.types import PathLike

__all__ = [
    "find_shard",
    "is_intact",
    "parse_rows",
    "read_records",
    "write_shard",
]

_SUFFIX = ".tfrecord"


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
    stem = _stem(number, examples)
    try:
        with scratch_path(folder / stem) as temporary:
            with tf.io.TFRecordWriter(str(temporary), options=compression or "") as writer:
                for row in zip(*components, strict=True):
                    writer.write(_record(row))
            name = f"{stem}-{fingerprints.hash_file(temporary)}{_SUFFIX}"
            publish(temporary, folder / name)
    except tf.errors.OpError as error:
        raise OSError(f"A shard cannot be written to {folder}: {error.message}") from error
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
