"""Models and comparisons that tests of measures share."""

import keras
import numpy as np

from l2rkd_tf import geometry
from l2rkd_tf.regions import Segment


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(seed=0, inputs=4, outputs=3):
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
    model.set_weights([numbers(inputs, outputs, seed=seed), numbers(outputs, seed=seed + 100)])
    return model


def curved(seed=0, shape=(4,), activation=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "tanh", kernel_initializer=keras.initializers.Orthogonal(2.0)),
            keras.layers.Dense(3, activation, kernel_initializer=keras.initializers.Orthogonal(3)),
        ]
    )


def logits(model, x):
    return np.asarray(model(x, training=False), np.float64)


def stderr(values):
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def assert_same(first, second, tolerance=1e-6):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def profile(**changes):
    arguments = {
        "teacher": linear(1),
        "student": linear(2),
        "x": numbers(6, 4),
        "region": Segment(),
    } | changes
    return geometry.fidelity_profile(**arguments)
