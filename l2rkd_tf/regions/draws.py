"""Stateless random numbers that are the same in eager mode, in graphs and under XLA.

Float draws of TensorFlow differ between a graph and XLA, integer draws do not: everything here is
computed from 24 random bits.
"""

import numpy as np
import tensorflow as tf


def random_bits(shape, seed):
    """Uniform integers from 0 to `2^24 - 1`, int32."""
    bits = tf.random.stateless_uniform(shape, seed, None, None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.right_shift(bits, 8), tf.int32)


def uniform(shape, seed):
    """Uniform numbers on `[0, 1)`, float32."""
    return tf.cast(random_bits(shape, seed), tf.float32) * 2.0**-24


def split(seed, count):
    """Independent seeds, a list."""
    return [tf.random.fold_in(seed, index, alg="philox") for index in range(count)]


def normal(shape, seed):
    """Standard normal numbers by the method of Box and Muller."""
    first, second = (uniform(shape, part) for part in split(seed, 2))
    return tf.sqrt(-2.0 * tf.math.log1p(-first)) * tf.cos(2.0 * np.pi * second)


def in_unit_l2_ball(shape, seed):
    """Uniform in the unit ball of the flattened example: a direction and `u^(1/dimension)`."""
    direction_seed, length_seed = split(seed, 2)
    direction = tf.reshape(normal(shape, direction_seed), [shape[0], tf.reduce_prod(shape[1:])])
    dimension = tf.cast(tf.shape(direction)[1], tf.float32)
    length = uniform([shape[0], 1], length_seed) ** (1.0 / dimension)
    return tf.reshape(length * tf.math.l2_normalize(direction, axis=1), shape)


def in_unit_linf_ball(shape, seed):
    """Uniform in the cube `[-1, 1)^n`."""
    return 2.0 * uniform(shape, seed) - 1.0


def beta_quantiles(alpha, intervals=4096):
    """Quantiles of `Beta(c, c)` at `0, 1/intervals, ..., 1`, by bisection."""
    levels = np.linspace(0.0, 1.0, intervals + 1)
    parameter = np.full_like(levels, alpha)
    low, high = np.zeros_like(levels), np.ones_like(levels)
    with tf.init_scope():
        for _ in range(60):
            middle = (low + high) / 2.0
            too_low = tf.math.betainc(parameter, parameter, middle).numpy() < levels
            low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return high.astype("float32")


def interpolate(table, position):
    """Linear interpolation in a table over `[0, 1]` at positions in `[0, 1)`."""
    scaled = position * (len(table) - 1)
    below = tf.cast(scaled, tf.int32)
    fraction = scaled - tf.cast(below, tf.float32)
    return (1.0 - fraction) * tf.gather(table, below) + fraction * tf.gather(table, below + 1)
