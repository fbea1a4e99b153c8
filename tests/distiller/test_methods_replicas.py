"""Methods on two replicas."""

import numpy as np
import pytest

from l2rkd_tf import methods, regions
from tests.distiller.methods_by_hand import (
    METHODS,
    assert_equal_methods,
    compiled,
    data,
    distiller_of,
    example_weights,
    fit,
    hand_steps,
    on_two,
)
from tests.helpers import assert_equal_weights

PER_EXAMPLE = [
    "dkd",
    "logit_standardization",
    "fit_net",
    "vid",
    "attention_transfer",
    "neuron_selectivity_transfer",
    "fsp",
]
OF_A_SHARE = [name for name in METHODS if name not in PER_EXAMPLE]


class Brighter(regions.Region):
    """Every point becomes larger by a tenth: the region of an example is its own affair."""

    def draw(self, inputs, seed, labels=None):
        return 0.1 * self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor * (1.0 + coefficients)


@pytest.mark.parametrize(
    "count",
    [pytest.param(7, marks=pytest.mark.stress), 5],
    ids=["uneven", "a share without examples"],
)
def test_per_example_methods_on_two_replicas_equal_one_device(count):
    x, y = data(count)
    weights = example_weights(count)
    at = ["both", "region", "data", "both", "region", "data", "both"]

    def make(**options):
        return compiled(distiller_of(PER_EXAMPLE, at, region=Brighter()), **options)

    one, two = make(), on_two(lambda: make(run_eagerly=False, jit_compile=False))
    for own, method in zip(one.distillation_losses, two.distillation_losses, strict=True):
        if isinstance(own, methods.TrainableMethod):
            method.set_weights(own.get_weights())
    expected, actual = (
        fit(distiller, x, y, batch_size=4, sample_weight=weights) for distiller in (one, two)
    )
    assert_equal_weights(two.student, one.student, atol=1e-6)
    twins = dict(zip(PER_EXAMPLE, one.distillation_losses, strict=True))
    assert_equal_methods(two, twins, atol=1e-6)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=2e-5, err_msg=name)


@pytest.mark.stress
def test_batch_methods_on_two_replicas_equal_the_weighted_sum_over_replicas():
    x, y = data(15)
    weights = example_weights(15)
    at = ["both", "data", "region", "data", "both", "data", "both"]
    assert len(at) == len(OF_A_SHARE)
    two = on_two(
        lambda: compiled(distiller_of(OF_A_SHARE, at), run_eagerly=False, jit_compile=False)
    )
    # Batches of 8 and 7 examples, the second shared unequally.
    shares = [[slice(0, 4), slice(4, 8)], [slice(8, 12), slice(12, 15)]]
    batches = [[(x[rows], y[rows], weights[rows]) for rows in batch] for batch in shares]
    expected, student, twins = hand_steps(
        two, OF_A_SHARE, at, batches, regions.Segment(), num_replicas=2
    )
    logs = fit(two, x, y, batch_size=8, sample_weight=weights)
    for term in expected[0]:
        mean = (8 * expected[0][term] + 7 * expected[1][term]) / 15
        np.testing.assert_allclose(logs[term][0], mean, rtol=1e-4, err_msg=term)
    assert_equal_weights(two.student, student, atol=1e-5)
    assert_equal_methods(two, twins[0], atol=1e-5, memory=False)
    method = two.distillation_losses[-1]
    memories = two.distribute_strategy.experimental_local_results(method.label_memory.value)
    for own, of_share in zip(memories, twins, strict=True):
        memory = of_share["crd"].label_memory
        np.testing.assert_array_equal(own.numpy(), memory.numpy())
        assert {-1, 0} < set(own.numpy())


@pytest.mark.stress
def test_a_replica_without_examples_does_not_disturb_batch_methods():
    x, y = data(5)
    at = ["both", "data", "region", "data", "both", "data", "both"]
    two = on_two(
        lambda: compiled(distiller_of(OF_A_SHARE, at), run_eagerly=False, jit_compile=False)
    )
    logs = fit(two, x, y, batch_size=4)  # batches of 4 and 1
    for name, values in logs.items():
        assert np.isfinite(values).all(), name
    for value in two.get_weights():
        assert np.isfinite(value).all()
