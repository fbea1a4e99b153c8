"""Teachers of `LinearRegion`, and points for them."""

import keras
import numpy as np

CLASSES = 3


def mlp(seed, *widths, inputs=4, outputs=CLASSES):
    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(width, "relu", bias_initializer="random_normal") for width in widths
    ]
    return keras.Sequential([keras.Input((inputs,)), *hidden, keras.layers.Dense(outputs)])


def points(count=8, size=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype("float32")


def partners_of(x, drawn):
    return np.asarray(x)[drawn.partners.numpy()[:, 0]]


def along(x, drawn, shares):
    shares = np.asarray(shares).reshape(-1, *[1] * (np.ndim(x) - 1))
    return (x + shares * (partners_of(x, drawn) - x)).astype("float32")
