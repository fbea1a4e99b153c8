"""Examples with their teacher's outputs, in memory or on disk, as batches for training."""

import dataclasses
import functools
import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from l2rkd_tf.data import epoch_order
from l2rkd_tf.teacher_cache import shards

__all__ = ["InMemory", "OnDisk"]

_READ_AT_ONCE = 4  # number of shards that a shuffled pass mixes


@dataclasses.dataclass(frozen=True)
class InMemory:
    """Examples in memory.

    Attributes:
        rows: Tensors with a row for each example.
    """

    rows: list

    @classmethod
    def of_arrays(cls, arrays: Iterable[np.ndarray]) -> "InMemory":
        """Examples from NumPy arrays, in the memory of the CPU: that of a GPU is not for data."""
        with tf.device("CPU:0"):
            return cls([tf.constant(array) for array in arrays])

    @property
    def number(self) -> int:
        """Number of examples."""
        return len(self.rows[0])

    def in_batches(
        self, batch_size: int, shuffle: bool, seed: int
    ) -> tuple[tf.data.Dataset, epoch_order.BatchCursor]:
        """A `tf.data.Dataset` of tuples of tensors, and its `epoch_order.BatchCursor`."""
        indices, cursor = epoch_order.ordered_indices(self.number, batch_size, seed, shuffle)
        return indices.map(self._gather, num_parallel_calls=tf.data.AUTOTUNE), cursor

    def _gather(self, indices):
        return tuple(tf.gather(rows, indices) for rows in self.rows)


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """Examples in shards.

    Attributes:
        paths: Paths of the shards, strings.
        number: Number of examples.
        specs: `tf.TensorSpec` of each component of an example.
        compression: `"GZIP"` or `None`.
        memory_bytes: Size of the shuffle buffer in bytes.
    """

    paths: list
    number: int
    specs: list
    compression: str | None
    memory_bytes: int

    @property
    def num_bytes(self) -> int:
        """Bytes of all examples, not compressed."""
        return self.number * self.example_bytes

    @property
    def example_bytes(self) -> int:
        """Bytes of an example, not compressed."""
        return sum(math.prod(spec.shape) * spec.dtype.size for spec in self.specs)

    def in_memory(self) -> InMemory:
        """The same examples, read."""
        batches = self._records(self.paths).batch(1024).map(self._parse).as_numpy_iterator()
        return InMemory.of_arrays([np.concatenate(parts) for parts in zip(*batches, strict=True)])

    def in_batches(
        self, batch_size: int, shuffle: bool, seed: int
    ) -> tuple[tf.data.Dataset, epoch_order.BatchCursor]:
        """As `InMemory.in_batches`; shuffled by shards, and in a buffer of `memory_bytes`."""
        buffer_size = max(1, self.memory_bytes // self.example_bytes)
        shuffled = functools.partial(self._shuffled, min(buffer_size, self.number))
        records, cursor = epoch_order.ordered_batches(
            self._records(self.paths),
            self.number,
            batch_size,
            seed,
            shuffled if shuffle else False,
            lambda record, seed: record,
        )
        return records.map(self._parse, num_parallel_calls=tf.data.AUTOTUNE), cursor

    def _shuffled(self, buffer_size, seeds):
        paths = tf.data.Dataset.from_tensor_slices(self.paths)
        mixed = epoch_order.shuffled(paths, len(self.paths), seeds).interleave(
            self._records, cycle_length=_READ_AT_ONCE, block_length=16
        )
        return epoch_order.shuffled(mixed, buffer_size, seeds)

    def _records(self, paths):
        return shards.read_records(paths, self.compression)

    def _parse(self, records):
        return tuple(shards.parse_rows(records, self.specs))
