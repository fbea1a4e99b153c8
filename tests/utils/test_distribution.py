import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.utils import distribution
from tests.helpers import two_replicas

SHARES = [(5, 2), (1, 0), (3, 3)]


@pytest.fixture(scope="module")
def strategy():
    return two_replicas()


def run_on_shares(strategy, function, *arguments):
    """Runs `function(*arguments of the replica)` on both replicas; returns both results."""

    def step(*of_replica):
        return tf.convert_to_tensor(function(*of_replica))

    def distribute(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[context.replica_id_in_sync_group])
        )

    run = tf.function(lambda *all_values: strategy.run(step, args=all_values))
    return [
        result.numpy()
        for result in strategy.experimental_local_results(run(*map(distribute, arguments)))
    ]


def shares_of_values(shares):
    values = np.random.default_rng(0).normal(size=sum(shares)).astype("float32")
    return values, np.split(values, [shares[0]])


def weighted_part(values, weights=None):
    (count,) = distribution.global_counts(tf.shape(values)[0])
    return distribution.replica_share_of_weighted_mean(values, count, weights)


def counted(function):
    return lambda value, count: function(value, *distribution.global_counts(count))


def test_number_of_replicas(strategy):
    assert distribution.num_replicas() == 1
    assert run_on_shares(strategy, lambda: distribution.num_replicas()) == [2, 2]


@pytest.mark.parametrize("shares", SHARES)
def test_replica_shares_add_up_to_the_mean(strategy, shares):
    values, split = shares_of_values(shares)
    parts = run_on_shares(strategy, weighted_part, split)
    np.testing.assert_allclose(sum(parts), values.mean(dtype="float64"), rtol=1e-6)
    np.testing.assert_allclose(parts[0], split[0].sum() / len(values), rtol=1e-6)


@pytest.mark.parametrize("column", [False, True], ids=["(count,)", "(count, 1)"])
@pytest.mark.parametrize("shares", SHARES)
def test_weights_multiply_and_the_count_divides(strategy, shares, column):
    values, split = shares_of_values(shares)
    weights = np.linspace(0.5, 2.0, len(values)).astype("float32")
    expected = (values * weights).mean(dtype="float64")
    weights = weights[:, None] if column else weights
    parts = run_on_shares(strategy, weighted_part, split, np.split(weights, [shares[0]]))
    np.testing.assert_allclose(sum(parts), expected, rtol=1e-6)
    np.testing.assert_allclose(weighted_part(tf.constant(values), weights), expected, rtol=1e-6)


def test_no_examples_at_all_have_the_mean_zero():
    assert weighted_part(tf.zeros((0,))).numpy() == 0.0


@pytest.mark.parametrize("shares", SHARES)
def test_replica_shares_of_means_add_up(strategy, shares):
    values, split = shares_of_values(shares)
    # The mean over no examples is NaN, and must not spoil the sum.
    means = [np.float32(share.mean() if share.size else np.nan) for share in split]
    parts = run_on_shares(strategy, counted(distribution.replica_share_of_mean), means, shares)
    np.testing.assert_allclose(sum(parts), values.mean(dtype="float64"), rtol=1e-6)


def test_one_device_has_the_full_mean():
    assert counted(distribution.replica_share_of_mean)(tf.constant(3.0), 7).numpy() == 3.0


@pytest.mark.parametrize("shares", SHARES)
def test_running_means_weigh_batches_by_their_examples(strategy, shares):
    values, split = shares_of_values(shares)
    with strategy.scope():
        tracker = keras.metrics.Mean()

    def add(part):
        (count,) = distribution.global_counts(tf.shape(part)[0])
        share = distribution.replica_share_of_weighted_mean(part, count)
        distribution.add_share(tracker, share, count)
        return share

    run_on_shares(strategy, add, split)
    run_on_shares(strategy, add, [split[0], 10.0 + split[0]])  # a batch of another size
    expected = np.concatenate([values, split[0], 10.0 + split[0]]).mean(dtype="float64")
    np.testing.assert_allclose(tracker.result(), expected, rtol=1e-6)


def test_seeds_differ_between_replicas_steps_and_runs(strategy):
    seeds = [
        tuple(seed)
        for run_seed in (0, 1)
        for step in (0, 1, 2**31 - 1)
        for seed in run_on_shares(
            strategy, lambda step, run=run_seed: distribution.step_seed(run, step), [step, step]
        )
    ]
    assert len(set(seeds)) == 12


def test_the_first_replica_draws_as_one_device_does(strategy):
    both = run_on_shares(strategy, lambda step: distribution.step_seed(7, step), [3, 3])
    np.testing.assert_array_equal(both[0], distribution.step_seed(7, 3))


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_seeds_repeat_in_every_mode(compiled, dtype):
    step = tf.constant(5, dtype)
    run = tf.function(lambda step: distribution.step_seed(7, step), jit_compile=compiled)
    expected = distribution.step_seed(7, step)
    assert expected.dtype == tf.int32 and expected.shape == (2,)
    np.testing.assert_array_equal(distribution.step_seed(7, 5), expected)
    np.testing.assert_array_equal(run(step), expected)
