"""Piecewise linear networks and points for them."""

import keras
import numpy as np
from keras import layers

from l2rkd_tf.geometry.piecewise import activation_pattern

SECTIONS = 64


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def with_random_weights(model, seed=0):
    """Random biases and BatchNorm statistics too; variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = generator.normal(size=weight.shape)
        if weight.name == "moving_variance":
            values = 0.5 + np.abs(values)
        weight.assign(values / np.sqrt(max(np.prod(weight.shape[:-1]), 1.0)))
    return model


def along(x, directions, steps):
    """Points `x + t d` for all steps `t` of shape `(cases, steps)`: `(cases * steps, ...)`."""
    steps = steps.reshape(*steps.shape, *[1] * (x.ndim - 1))
    return (x[:, None] + steps * directions[:, None]).reshape(-1, *x.shape[1:])


def is_unchanged(model, x, directions, steps):
    steps = np.pad(steps, ((0, 0), (1, 0)))
    patterns = activation_pattern(model, along(x, directions, steps), batch_size=2048)
    patterns = patterns.reshape(*steps.shape, -1)
    return (patterns[:, 1:] == patterns[:, :1]).all(axis=-1)


def bisected_radii(model, x, directions):
    """Radii by sections of the ray; the points of one pattern are convex."""
    steps = np.tile(2.0 ** np.arange(-30.0, 20.0), (len(x), 1))
    for _ in range(4):
        count = is_unchanged(model, x, directions, steps).sum(axis=1)
        assert (count < steps.shape[1]).all() and (count > 0).all()
        low, high = (np.take_along_axis(steps, count[:, None] - 1 + i, 1) for i in (0, 1))
        steps = low + (high - low) * np.linspace(0.0, 1.0, SECTIONS)
    return low[:, 0]


class Named(keras.Model):
    """A model that is its graph, of a class of its own."""

    def __init__(self):
        inputs = keras.Input((1,))
        super().__init__(inputs, layers.ReLU(threshold=2.0)(inputs))
