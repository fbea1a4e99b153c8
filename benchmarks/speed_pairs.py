"""Pairs of teacher and student whose steps are timed, and the data they are given."""

import numpy as np
import tensorflow as tf

import l2rkd_tf
from benchmarks import speed_rows

NUM_BATCHES = 8


def convnets():
    """Teacher and student of the digits."""
    convnet = l2rkd_tf.models.convnet
    return lambda: convnet((8, 8, 1), 10, (32, 64, 128)), lambda: convnet((8, 8, 1), 10)


def named(teacher, student):
    """Teacher and student of standard architectures, for 100 classes."""
    get = l2rkd_tf.models.get
    return lambda: get(teacher, num_classes=100), lambda: get(student, num_classes=100)


#: `{name: (models, shape of an image, classes, batch size, steps of a block, steps_per_execution)}`
PAIRS = {
    "digits": (convnets(), (8, 8, 1), 10, 50, 300, 20),
    "wrn": (named("wrn_16_2", "wrn_16_1"), (32, 32, 3), 100, 64, 4, 1),
    "heavy": (named("wrn_40_2", "wrn_16_2"), (32, 32, 3), 100, 64, 2, 1),
}


def setting(pair, jit_compile=False, batch_size=None):
    """Models and data of a pair, and the number of steps of a block."""
    (make_teacher, make_student), shape, classes, size, steps, per_execution = PAIRS[pair]
    size = batch_size or size
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(NUM_BATCHES * size, *shape)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, rng.integers(0, classes, len(x)))).batch(size)
    cached = l2rkd_tf.teacher_cache.cache_teacher(data, make_teacher(), verbose=False)
    # Both read alike, so that a difference is one of training.
    plain = cached.map(lambda x, y: (x.inputs, y))
    return speed_rows.Setting(
        make_teacher, make_student, plain.repeat(), cached.repeat(), per_execution, jit_compile
    ), steps
