"""The order of a dataset's batches as a function of seed and pass, and the position in it."""

import functools
import numbers
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

__all__ = [
    "BatchCursor",
    "check_seed",
    "ordered_batches",
    "ordered_indices",
    "prefetched",
    "shuffled",
]


class BatchCursor:
    """The batch at which the next iteration of a dataset from `load` starts.

    Batches are counted from 0 through all passes of a training run. Each iteration takes as many of
    them as a pass has, and the next one continues after those, also in datasets made by `repeat`.
    Concurrent iterations take different passes.

    Args:
        batches_per_pass: Number of batches in a pass through the examples.

    Example:
        >>> cursor = BatchCursor(batches_per_pass=4)
        >>> cursor.set_batch(6)
        >>> cursor.take(), cursor.batch
        ((1, 2), 10)

    """

    def __init__(self, batches_per_pass: int) -> None:
        self._batches_per_pass = batches_per_pass
        self._batch = 0
        self._lock = threading.Lock()  # iterators run in threads of their own

    @property
    def batch(self) -> int:
        """Number of the batch at which the next iteration starts."""
        return self._batch

    def set_batch(self, number: int) -> None:
        """Makes the next iteration start at this batch; iterations in progress do not change.

        Args:
            number: Number of the batch, counted from 0 since the start of training.

        Raises:
            ValueError: If `number` is not an integer of at least 0.
        """
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < 0:
            raise ValueError(
                "`number` must be the number of a batch, counted from 0 since the start of "
                f"training. Received: number={number!r}"
            )
        with self._lock:
            self._batch = int(number)

    def take(self) -> tuple[int, int]:
        """Starts an iteration.

        Returns:
            Number of the pass, and number of the batch within it at which the iteration starts.
        """
        with self._lock:
            batch = self._batch
            self._batch += self._batches_per_pass
        return divmod(batch, self._batches_per_pass)


def ordered_batches(
    examples: tf.data.Dataset,
    num_examples: int,
    batch_size: int,
    seed: int,
    shuffle: bool | Callable[[tf.Tensor], tf.data.Dataset],
    finish: Callable[[Any, tf.Tensor], Any],
) -> tuple[tf.data.Dataset, BatchCursor]:
    """Batches whose order and random numbers depend only on the seed and the number of the pass.

    Args:
        examples: `tf.data.Dataset` of examples; a shuffled pass holds all of them in memory.
        num_examples: Their number.
        batch_size: Examples in a batch; the last one of a pass may be smaller.
        seed: Integer in `[0, 2**32)`.
        shuffle: Whether each pass has its own order; or a function of the two int64 seeds of a
            pass, not both 0, that returns all examples in the order of that pass.
        finish: Function `(example, seed)` that makes what is batched, a flat structure of tensors
            of fixed shape; the seed is an int32 pair that differs between examples and passes.

    Returns:
        A `tf.data.Dataset` of the batches of one pass, and its `BatchCursor`.

    Example:
        >>> examples = tf.data.Dataset.range(5)
        >>> dataset, cursor = ordered_batches(examples, 5, 2, 0, False, lambda x, seed: (x,))
        >>> [batch.tolist() for (batch,) in dataset.repeat(2).as_numpy_iterator()]
        [[0, 1], [2, 3], [4], [0, 1], [2, 3], [4]]
        >>> cursor.set_batch(5)
        >>> [batch.tolist() for (batch,) in dataset.as_numpy_iterator()]
        [[4], [0, 1], [2, 3]]

    """
    batch_size = min(batch_size, num_examples)
    num_batches = -(-num_examples // batch_size)
    # Passes are filled up to whole batches, so that a single `batch` suffices for all of them:
    # batching each separately makes an iterator take three times as long to start.
    num_filling = num_batches * batch_size - num_examples
    cursor = BatchCursor(num_batches)
    random_numbers = functools.partial(_random_numbers, seed, num_examples, num_filling)

    examples_of_pass = _examples_of_pass(examples, num_examples, shuffle)

    def marked_examples(span):
        # By index: TensorFlow crashes when it optimizes a `take` of what `tf.unstack` returns.
        number, start, count = span[0], span[1], span[2]
        seeds, marks = _as_tensors(random_numbers, number, num_examples + num_filling)
        chosen = examples_of_pass(seeds)
        if num_filling:
            chosen = chosen.concatenate(examples.take(num_filling))
        marked = tf.data.Dataset.zip(chosen, tf.data.Dataset.from_tensor_slices(marks))
        return marked.skip(start).take(count)

    def finished(example, marks):
        pair, is_real = marks
        return (finish(example, pair), is_real) if num_filling else finish(example, pair)

    dataset = _spans_of(cursor, batch_size).flat_map(marked_examples)
    dataset = dataset.map(finished, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size)
    if num_filling:
        dataset = dataset.map(_without_filling)
    return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)), cursor


def ordered_indices(
    num_examples: int, batch_size: int, seed: int, shuffle: bool, passes: int | None = None
) -> tuple[tf.data.Dataset, BatchCursor]:
    """Batches of example indices, for examples in memory: cheaper than batches of examples.

    Args:
        num_examples: Number of examples.
        batch_size: Examples in a batch; the last one of a pass may be smaller.
        seed: Integer in `[0, 2**32)`.
        shuffle: Whether each pass has its own order, a function of seed and pass.
        passes: After so many passes, the first comes again. Then an element is a pair: the place of
            the batch, which is the number of its pass and its number within it, int64 of shape
            `(2,)`, and the batch.

    Returns:
        A `tf.data.Dataset` of the batches of one pass, int64 tensors of shape `(batch,)`, and its
        `BatchCursor`.

    Example:
        >>> dataset, cursor = ordered_indices(5, 2, seed=0, shuffle=False)
        >>> cursor.set_batch(1)
        >>> [batch.tolist() for batch in dataset.as_numpy_iterator()]
        [[2, 3], [4], [0, 1]]

    """
    batch_size = min(batch_size, num_examples)
    num_batches = -(-num_examples // batch_size)
    cursor = BatchCursor(num_batches)

    def number_of(number):
        return number if passes is None else number % passes

    def rows(number):
        indices = np.full(num_batches * batch_size, -1)
        random = np.random.RandomState([seed, number_of(number)])
        indices[:num_examples] = (
            random.permutation(num_examples) if shuffle else range(num_examples)
        )
        return indices.reshape(num_batches, batch_size)

    def pass_of_batches():
        number, first = cursor.take()
        after = rows(number + 1)[:first] if first else []
        places = [(number_of(number + (at < first)), at) for at in range(num_batches)]
        indices = np.array([*rows(number)[first:], *after])
        return np.array([*places[first:], *places[:first]]), indices

    def batches(_):
        places, indices = tf.numpy_function(pass_of_batches, [], (tf.int64, tf.int64))
        indices = tf.ensure_shape(indices, (num_batches, batch_size))
        places = tf.ensure_shape(places, (num_batches, 2))
        parts = indices if passes is None else (places, indices)
        return tf.data.Dataset.from_tensor_slices(parts)

    dataset = tf.data.Dataset.range(1).flat_map(batches)
    if num_examples % batch_size:
        dataset = dataset.map(lambda *parts: _but_last(parts, lambda one: one[one >= 0]))
    return dataset.apply(tf.data.experimental.assert_cardinality(num_batches)), cursor


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches batches, and shards them among workers by examples."""
    options = tf.data.Options()
    # By files, the default, workers could not share a dataset in a single file.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def check_seed(seed: Any, argument: str = "seed") -> None:
    """Raises a `ValueError` that names the argument unless it is an integer in `[0, 2**32)`."""
    if (
        not isinstance(seed, numbers.Integral)
        or isinstance(seed, bool)
        or not 0 <= int(seed) < 2**32
    ):
        raise ValueError(
            f"`{argument}` must be an integer from 0 to {2**32 - 1}. Received: {argument}={seed!r}"
        )


def _but_last(parts, function):
    """What `map` returns for these parts of an element, the last one changed."""
    *others, last = parts
    return (*others, function(last)) if others else function(last)


def _examples_of_pass(examples, num_examples, shuffle):
    """A function of the seeds of a pass that returns the examples in the order of that pass."""
    if callable(shuffle):
        return shuffle
    if shuffle:
        return functools.partial(shuffled, examples, num_examples)
    return lambda seeds: examples


def _spans_of(cursor, batch_size):
    """Number, first example and count of examples, -1 for all, of each pass of an iteration."""

    def take():
        number, first_batch = cursor.take()
        first = first_batch * batch_size
        spans = [[number, first, -1], [number + 1, 0, first]]
        return np.array(spans if first else spans[:1], np.int64)

    def spans(_):
        # Only Python can be told where to start: a variable would be copied by strategies.
        return tf.ensure_shape(tf.numpy_function(take, [], tf.int64), (None, 3))

    return tf.data.Dataset.range(1).map(spans).unbatch()


def _random_numbers(seed, num_examples, num_filling, number):
    """Seeds of the order of a pass; for each of its examples a seed, and whether it is real."""
    # `RandomState` and not `default_rng`, since only its stream never changes between releases.
    random = np.random.RandomState([seed, number])
    seeds = random.randint(1, 2**62, size=2, dtype=np.int64)
    size = num_examples + num_filling
    pairs = random.randint(2**32, size=(size, 2), dtype=np.uint32).view(np.int32)
    return seeds, pairs, np.arange(size) < num_examples


def _as_tensors(random_numbers, number, size):
    seeds, pairs, is_real = tf.numpy_function(
        random_numbers, [number], (tf.int64, tf.int32, tf.bool)
    )
    marks = tf.ensure_shape(pairs, (size, 2)), tf.ensure_shape(is_real, (size,))
    return tf.ensure_shape(seeds, (2,)), marks


def _without_filling(batch, is_real):
    count = tf.reduce_sum(tf.cast(is_real, tf.int32))
    return tf.nest.map_structure(lambda tensor: tensor[:count], batch)


def shuffled(dataset: tf.data.Dataset, buffer_size: int, seeds: tf.Tensor) -> tf.data.Dataset:
    """A dataset shuffled as by `Dataset.shuffle`, in an order that depends only on two seeds.

    Args:
        dataset: `tf.data.Dataset`.
        buffer_size: Number of elements that are held to choose from.
        seeds: int64 tensor of shape `(2,)`, not both 0.

    Returns:
        The shuffled `tf.data.Dataset`.
    """
    spec = tf.nest.flatten(dataset.element_spec)
    # `Dataset.shuffle` would mix the seed of `tf.random.set_seed` into its own.
    variant = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=buffer_size,
        seed=seeds[0],
        seed2=seeds[1],
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        output_types=[tensor.dtype for tensor in spec],
        output_shapes=[tensor.shape for tensor in spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)
