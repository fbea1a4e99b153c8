"""`tf.distribute`: seeds per replica and means over the global batch.

Optimizers sum gradients over replicas. A loss that each replica divides by the *global* number of
examples therefore yields the gradient of one device, even if the replicas hold unequal parts.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.utils.types import TensorLike

__all__ = [
    "Count",
    "add_share",
    "check_compilation",
    "check_strategy",
    "common_numbers",
    "count_of_replicas",
    "explain_worker_failure",
    "global_counts",
    "is_multi_worker",
    "num_replicas",
    "replica_share_of_mean",
    "replica_share_of_weighted_mean",
    "step_seed",
    "worker_name",
]


def num_replicas() -> int:
    """Number of replicas that run the current step together, at least 1."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def is_multi_worker() -> bool:
    """Whether several machines (workers) train together."""
    strategy = tf.distribute.get_strategy()
    workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return workers and strategy.num_replicas_in_sync > 1


def check_strategy() -> None:
    """Rejects a strategy that Keras cannot train with.

    Raises:
        ValueError: If the current strategy is a `ParameterServerStrategy`.
    """
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        raise ValueError(
            "`strategy.scope()` must be that of a strategy with synchronous updates, such as "
            "MirroredStrategy or MultiWorkerMirroredStrategy: Keras 3 cannot train under others. "
            f"Received: {type(strategy).__name__}"
        )


@contextlib.contextmanager
def explain_worker_failure() -> Iterator[None]:
    """Re-raises cluster errors with an actionable message.

    Raises:
        RuntimeError: Instead of TensorFlow's error, which becomes its cause.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        if not is_multi_worker():
            raise
        raise RuntimeError(
            "Training stopped because another worker has ended or cannot be reached: the error "
            "above names it. Restart all workers; with l2rkd_tf.callbacks.TrainingBackup they "
            "resume where they stopped."
        ) from error


def check_compilation(jit_compile: bool | str, steps_per_execution: int) -> None:
    """Rejects options of `compile` that Keras cannot run on several replicas.

    Args:
        jit_compile: Whether XLA compiles the whole step.
        steps_per_execution: Steps of one call.

    Raises:
        ValueError: If `jit_compile` is set or `steps_per_execution` is above 1 on several replicas
            that are not on a TPU.
    """
    strategy = tf.distribute.get_strategy()
    if num_replicas() == 1 or isinstance(strategy, tf.distribute.TPUStrategy):
        return
    if jit_compile:
        raise ValueError(
            "`jit_compile` must be 'auto' or False on several replicas: XLA cannot compile what "
            f"they exchange. Received: jit_compile={jit_compile!r} on {num_replicas()} replicas"
        )
    if steps_per_execution != 1:
        raise ValueError(
            "`steps_per_execution` must be 1 on several replicas: Keras cannot run more. "
            f"Received: steps_per_execution={steps_per_execution!r} on {num_replicas()} replicas"
        )


def step_seed(seed: int, step: TensorLike) -> tf.Tensor:
    """Stateless seed of one step on one replica.

    The same in eager mode, graphs and XLA; different in every step and on every replica; the
    same again when a run is repeated or resumed.

    Args:
        seed: Python integer, the seed of the run.
        step: Integer scalar, the number of the step.

    Returns:
        Seed for `tf.random.stateless_*`, int32, shape `(2,)`.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    step_key = tf.random.fold_in([seed, 0], tf.cast(step, tf.int32), alg="philox")
    return tf.random.fold_in(step_key, replica, alg="philox")


class Count(NamedTuple):
    """A number of examples, or the sum of their weights.

    Attributes:
        local: On this replica, int32, or float32 of weights.
        total: On all replicas, of the same dtype.
    """

    local: tf.Tensor
    total: tf.Tensor


def global_counts(*counts: tf.Tensor) -> list[Count]:
    """Numbers of examples on this replica and on all, in one all-reduce.

    Args:
        *counts: Scalars of one dtype, each a number of examples on this replica.

    Returns:
        A `Count` for each.
    """
    if num_replicas() == 1:
        return [Count(count, count) for count in counts]
    context = tf.distribute.get_replica_context()
    totals = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack(counts))
    return [Count(*pair) for pair in zip(counts, tf.unstack(totals), strict=True)]


def count_of_replicas() -> Count:
    """One for each replica: of a scalar that adds up over replicas, as it is."""
    return Count(tf.constant(1), tf.constant(num_replicas()))


def replica_share_of_weighted_mean(
    values: tf.Tensor, count: Count, weights: TensorLike | None = None
) -> tf.Tensor:
    """This replica's part of `sum_i w_i v_i / n` over the `n` values of all replicas.

    Args:
        values: Values, float32; there may be none.
        count: `Count` of the values.
        weights: Weights, as many as values; `None` for 1 each.

    Returns:
        Scalar; the parts of all replicas add up to the mean.
    """
    if weights is not None:
        values *= tf.reshape(tf.cast(weights, values.dtype), tf.shape(values))
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(count.total, values.dtype))


def replica_share_of_mean(mean: tf.Tensor, count: Count) -> tf.Tensor:
    """This replica's part of a mean over all replicas, from its own mean over its examples."""
    if num_replicas() == 1:
        return mean
    share = tf.cast(count.local, mean.dtype) / tf.cast(count.total, mean.dtype)
    return tf.math.multiply_no_nan(mean, share)


def add_share(tracker: keras.metrics.Mean, share: tf.Tensor, count: Count) -> None:
    """Adds a batch to a running mean over the examples of all batches and replicas.

    Args:
        tracker: The running mean; its state is a sum over replicas.
        share: This replica's share of the batch's mean over all replicas, a scalar.
        count: `Count` of the examples of the batch.
    """
    tracker.total.assign_add(share * tf.cast(count.total, share.dtype))
    tracker.count.assign_add(tf.cast(count.local, tracker.count.dtype))


def worker_name() -> str | None:
    """Name of this worker, such as `"worker-0"`, if several machines train; else None."""
    if not is_multi_worker():
        return None
    resolver = tf.distribute.get_strategy().cluster_resolver
    # No name if the replicas are devices of one machine after all.
    return f"{resolver.task_type}-{resolver.task_id}" if resolver.task_type else None


def common_numbers(numbers: Iterable[int], count: int = 2) -> set[int]:
    """Intersection of numbers over all workers; a collective, to be called outside a step.

    Args:
        numbers: Integers from 0, those of this worker.
        count: How many of them to consider, the largest ones.

    Returns:
        The set of those that every worker has.
    """
    own = set(sorted(numbers)[-count:])
    if worker_name() is None:
        return own
    strategy = tf.distribute.get_strategy()
    row = tf.constant([[*own, *[-1] * (count - len(own))]], tf.int32)
    rows = strategy.gather(strategy.run(tf.function(lambda: tf.identity(row))), axis=0)
    return set.intersection(*map(set, rows.numpy().tolist())) - {-1}
