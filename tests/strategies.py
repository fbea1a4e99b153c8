"""Strategies for tests."""

import tensorflow as tf


def two_replicas():
    """A strategy of two replicas on the two CPU devices of `conftest.py`.

    Its usual way to reduce, collective operations, serves one strategy of a process only: those of
    another one mistake its tensors for their own.
    """
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )
