"""Optimizers of the programs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_command import recipes
from l2rkd_tf.cli.common import optimizers
from tests.helpers import two_replicas

SHAPES = {"kernel": (3, 2), "bias": (2,), "gamma": (4,), "beta": (4,)}


def torch_sgd(weights, gradients, learning_rates, momentum, weight_decay):
    """`torch.optim.SGD` in float64: weights after each step."""
    buffer = np.zeros_like(weights)
    for gradient, learning_rate in zip(gradients, learning_rates, strict=True):
        buffer = momentum * buffer + (gradient + weight_decay * weights)
        weights = weights - learning_rate * buffer
        yield weights


def draw(num_steps):
    random = np.random.default_rng(0)
    start = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = {name: random.normal(size=(num_steps, *shape)) for name, shape in SHAPES.items()}
    return start, gradients


def variables(start):
    return {
        name: keras.Variable(value.astype("float32"), name=name) for name, value in start.items()
    }


def apply(optimizer, weights, gradients, step):
    optimizer.apply(
        [tf.constant(gradients[name][step], tf.float32) for name in SHAPES], [*weights.values()]
    )


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.05), (0.9, 0.0), (0.0, 0.05)])
def test_sgd_is_that_of_pytorch_also_where_the_learning_rate_changes(momentum, weight_decay):
    start, gradients = draw(num_steps=9)
    weights = variables(start)
    optimizer = optimizers.sgd_in_steps(
        0.5, 3, 3, momentum=momentum, weight_decay=weight_decay, decay_epochs=[1, 2],
        decay_factor=0.1,
    )  # fmt: skip
    learning_rates = np.repeat([0.5, 0.05, 0.005], 3)
    expected = {
        name: list(torch_sgd(start[name], gradients[name], learning_rates, momentum, weight_decay))
        for name in SHAPES
    }
    for step in range(9):
        apply(optimizer, weights, gradients, step)
        for name in SHAPES:
            np.testing.assert_allclose(weights[name], expected[name][step], rtol=5e-6, atol=5e-6)


def test_sgd_of_keras_is_another_one():
    """What the optimizer here is for: the differences are not small."""
    start, gradients = draw(num_steps=9)
    weights = variables(start)
    schedule = optimizers.step_schedule(0.5, 3, [1, 2])
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=0.05)
    for step in range(9):
        apply(optimizer, weights, gradients, step)
    learning_rates = np.repeat([0.5, 0.05, 0.005], 3)
    *_, expected = torch_sgd(start["kernel"], gradients["kernel"], learning_rates, 0.9, 0.05)
    assert np.abs(weights["kernel"].numpy() - expected).max() > 0.5


def test_sgd_goes_on_after_it_was_saved():
    start, gradients = draw(num_steps=4)
    weights = variables(start)
    first = optimizers.TorchSGD(optimizers.step_schedule(0.5, 2, [1]), 0.8, l2=0.05)
    for step in range(3):
        apply(first, weights, gradients, step)
    copies = variables({name: weight.numpy() for name, weight in weights.items()})
    second = keras.optimizers.deserialize(keras.optimizers.serialize(first))
    second.build([*copies.values()])
    second.set_weights([variable.numpy() for variable in first.variables])
    apply(first, weights, gradients, 3)
    apply(second, copies, gradients, 3)
    for name in SHAPES:
        np.testing.assert_array_equal(copies[name], weights[name])
    *_, expected = torch_sgd(start["bias"], gradients["bias"], [0.5, 0.5, 0.05, 0.05], 0.8, 0.05)
    np.testing.assert_allclose(copies["bias"], expected, rtol=5e-6, atol=5e-6)


def test_sgd_sums_the_gradients_of_replicas_and_decays_once():
    start, gradients = draw(num_steps=3)
    strategy = two_replicas()
    with strategy.scope():
        weight = keras.Variable(start["kernel"].astype("float32"))
        optimizer = optimizers.TorchSGD(0.5, 0.9, l2=0.05)
        optimizer.build([weight])

        @tf.function
        def step(gradient):
            strategy.run(lambda: optimizer.apply([gradient / 2], [weight]))

    for gradient in gradients["kernel"]:
        step(tf.constant(gradient, tf.float32))
    *_, expected = torch_sgd(start["kernel"], gradients["kernel"], [0.5] * 3, 0.9, 0.05)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("arguments", [{"momentum": 1.0}, {"momentum": -0.1}, {"l2": -1e-4}])
def test_sgd_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        optimizers.TorchSGD(0.1, **arguments)


@pytest.mark.parametrize(
    ("epoch", "learning_rate"),
    [(0, 0.05), (149, 0.05), (150, 5e-3), (179, 5e-3), (180, 5e-4), (209, 5e-4), (210, 5e-5),
     (239, 5e-5)],
)  # fmt: skip
def test_learning_rate_of_first_and_last_step_of_an_epoch(epoch, learning_rate):
    recipe = recipes.for_teacher("cifar100", "vgg13")
    steps = -(-50_000 // recipe.batch_size)
    assert steps == 782
    schedule = optimizers.step_schedule(
        recipe.learning_rate, steps, recipe.decay_epochs, recipe.decay_factor
    )
    for step in (epoch * steps, (epoch + 1) * steps - 1):
        assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(learning_rate)
