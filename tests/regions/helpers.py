"""Regions, batches and draws that tests of regions share."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions import Ball, Compose, Mixture, Patch, Segment, Simplex, Swap

SHAPES = [(6, 5), (6, 4, 3), (6, 9, 7, 2), (6, 3, 4, 5, 2)]
IMAGES = (6, 9, 7, 2)
LABELS = np.array([0, 1, 0, 2, 1, 0])

IN_BATCH = {
    "segment": lambda: Segment(radius=0.7),
    "segment_nearest": lambda: Segment(partner="nearest"),
    "segment_same_class": lambda: Segment(partner="same_class"),
    "segment_beta": lambda: Segment(radius=0.5, alpha=0.2),
    "simplex": lambda: Simplex(num_partners=3, radius=0.8),
    "patch": lambda: Patch(grid=(4, 3), radius=0.9),
    "patch_nearest": lambda: Patch(grid=2, partner="nearest", alpha=4),
}
BALLS = {norm: lambda norm=norm: Ball(0.2, norm) for norm in ("l2", "linf", "gaussian")}
MIXTURES = {
    "mixture": lambda: Mixture([Segment(0.5), Patch(2), Simplex(2)], weights=[1, 2, 3]),
    "mixture_of_mixtures": lambda: Mixture([Mixture([Segment(), Ball(0.1)]), Ball(0.2, "linf")]),
}
ALL = IN_BATCH | BALLS | MIXTURES
SWAPS = {
    "swap_patches": lambda: Swap(grid=(4, 3), partner="nearest"),
    "swap_box": lambda: Swap(grid=4, contiguous=True, partner="same_class"),
    "mixture_with_swap": lambda: Mixture([Segment(), Swap(radius=0.3)]),
    "swap_then_noise": lambda: Compose([Swap(), Ball(1.0, "gaussian", scale="std")]),
}


def points(shape=IMAGES, dtype="float32", seed=0):
    numbers = np.random.default_rng(seed).uniform(size=shape)
    return tf.cast(255 * numbers if dtype == "uint8" else numbers, dtype)


def draw(region, x, seed=(1, 2), labels=None):
    return region.draw(x, list(seed), LABELS[: x.shape[0]] if labels is None else labels)


def partners_of_many(region, x, labels=None, draws=3000):
    """Partners in many draws, shape `(draws, batch, num_partners)`."""

    @tf.function
    def many():
        return tf.map_fn(lambda step: region.draw(x, [5, step], labels).partners, tf.range(draws))

    return many().numpy()


def assert_same(first, second, tolerance=0.0):
    for one, other in zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def differ(first, second):
    pairs = zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True)
    return any(not np.array_equal(one, other) for one, other in pairs)
