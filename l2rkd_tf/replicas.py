"""What the library knows of `tf.distribute`: seeds per replica and means over the global batch.

Optimizers sum gradients over replicas. A loss that each replica divides by the *global* number of
examples therefore gives the gradient of one device, also where the replicas hold unequal shares.
"""

import tensorflow as tf

__all__ = ["local_mean", "num_replicas", "part_of_mean", "part_of_weighted_mean", "step_seed"]


def num_replicas():
    """Number of replicas that run the current step together, at least 1."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def step_seed(seed, step):
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


def part_of_weighted_mean(values, weights=None):
    """This replica's part of `sum_i w_i v_i / n` over the `n` values of all replicas.

    Args:
        values: One value per example, float32, shape `(count,)`; `count` may be 0.
        weights: Example weights of shape `(count,)` or `(count, 1)`; `None` for 1 each.

    Returns:
        Scalar; the parts of all replicas add up to the mean.
    """
    count = tf.cast(_global_sum(tf.shape(values)[0]), values.dtype)
    if weights is not None:
        values *= tf.reshape(tf.cast(weights, values.dtype), tf.shape(values))
    return tf.math.divide_no_nan(tf.reduce_sum(values), count)


def part_of_mean(mean, count):
    """This replica's part of a mean over all replicas, from its own mean over `count` examples."""
    if num_replicas() == 1:
        return mean
    count = tf.cast(count, mean.dtype)
    return tf.math.multiply_no_nan(mean, tf.math.divide_no_nan(count, _global_sum(count)))


def local_mean(part, count):
    """The mean over `count` examples that corresponds to a part: the inverse of `part_of_mean`."""
    if num_replicas() == 1:
        return part
    count = tf.cast(count, part.dtype)
    return part * tf.math.divide_no_nan(_global_sum(count), count)


def _global_sum(value):
    if num_replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
