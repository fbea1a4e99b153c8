"""Examples with their teacher's outputs as a dataset for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.data import epoch_order
from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.examples import InMemory, OnDisk
from l2rkd_tf.teacher_cache.inputs import with_outputs
from l2rkd_tf.teacher_cache.source import Source
from l2rkd_tf.utils.validation import check_flag, is_positive_integer

__all__ = ["as_dataset", "by_name", "check_order", "finished", "in_memory"]


def check_order(batch_size: Any, shuffle: Any, seed: Any) -> None:
    """Checks the arguments that say how examples come in batches."""
    if batch_size is not None and not is_positive_integer(batch_size):
        raise ValueError(
            "`batch_size` must be a positive integer, or None for that of the dataset. Received: "
            f"batch_size={batch_size!r}"
        )
    epoch_order.check_seed(seed)
    check_flag("shuffle", shuffle)


def in_memory(source: Source, rows: Sequence[np.ndarray], shuffle: bool) -> InMemory:
    """Examples in memory.

    Args:
        source: The dataset.
        rows: Arrays of the components of its examples, and behind them those of the outputs.
        shuffle: Whether they will be shuffled.
    """
    if shuffle:
        # The order of a pass must not depend on that of the dataset, which may differ in a resumed
        # run or on another worker.
        hashes = fingerprints.hash_examples(rows[: source.num_components])
        order = np.argsort(hashes, kind="stable")
        rows = [part[order] for part in rows]
    return InMemory.of_arrays(rows)


def as_dataset(
    source: Source,
    examples: InMemory | OnDisk,
    names: Sequence[str] | None,
    kind: Any,
    batch_size: int,
    shuffle: bool,
    seed: int,
) -> tf.data.Dataset:
    """The dataset that `cache_teacher` returns.

    Args:
        source: The dataset that the examples came from.
        examples: The examples.
        names: Names of several outputs, or `None`.
        kind: The type of the inputs, `CachedInputs` or one of its subclasses.
        batch_size: As in `cache_teacher`.
        shuffle: As in `cache_teacher`.
        seed: As in `cache_teacher`.
    """

    def as_element(*rows):
        components, outputs = rows[: source.num_components], rows[source.num_components :]
        return with_outputs(source.as_element(components), by_name(names, outputs), kind)

    batches, cursor = examples.in_batches(batch_size, shuffle, seed)
    return finished(batches.map(as_element), cursor, examples.number)


def by_name(names: Sequence[str] | None, outputs: Sequence[Any]) -> Any:
    """The only output of a teacher, or a dict of several by their names."""
    return outputs[0] if names is None else dict(zip(names, outputs, strict=True))


def finished(
    batches: tf.data.Dataset, cursor: epoch_order.BatchCursor, num_examples: int
) -> tf.data.Dataset:
    """A dataset for `fit`, with the attributes `cursor` and `num_examples`."""
    dataset = epoch_order.prefetched(batches)
    dataset.cursor = cursor
    dataset.num_examples = num_examples
    return dataset
