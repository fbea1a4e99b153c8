"""Files of examples: written whole or not at all, and known by their contents."""

import os
import pathlib
import uuid

import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints

__all__ = ["find_shard", "is_intact", "parse_rows", "read_records", "write_shard"]

_SUFFIX = ".tfrecord"


def find_shard(folder, number, examples):
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


def is_intact(path):
    """Whether a shard is there and has the bytes that were written, by the digest in its name."""
    path = pathlib.Path(path)
    return path.is_file() and fingerprints.of_file(path) == path.stem.rpartition("-")[2]


def write_shard(folder, number, examples, components, compression):
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
    partial = folder / f".{number:05d}-{uuid.uuid4().hex}.partial"
    try:
        with tf.io.TFRecordWriter(str(partial), options=compression or "") as writer:
            for row in zip(*components, strict=True):
                writer.write(_record(row))
        digest = fingerprints.of_file(partial)
        name = f"{_stem(number, examples)}-{digest}{_SUFFIX}"
        os.replace(partial, folder / name)
    except tf.errors.OpError as error:
        raise OSError(f"A shard cannot be written to {folder}: {error.message}") from error
    finally:
        partial.unlink(missing_ok=True)
    return name


def read_records(paths, compression):
    """A `tf.data.Dataset` of the records of shards, one for each example, in their order."""
    return tf.data.TFRecordDataset(paths, compression_type=compression or "")


def parse_rows(records, specs):
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
