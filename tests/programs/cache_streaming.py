"""Trains from a cache larger than its memory; prints its growth in MB.

python -m tests.programs.cache_streaming FOLDER
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.teacher_cache import cache_teacher
from tests import conftest  # noqa: F401

EXAMPLES, BATCH = 14_000, 100  # 170 MB of images
MEMORY_BYTES = 2**24


class Watch(keras.callbacks.Callback):
    """Notes the largest memory of all batches."""

    most = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.most = max(self.most, resident_megabytes())


def resident_megabytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def batches():
    rng = np.random.default_rng(0)
    for _ in range(EXAMPLES // BATCH):
        yield rng.uniform(size=(BATCH, 32, 32, 3)).astype("float32"), np.zeros(BATCH, "int64")


def linear():
    layers = [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def main(folder):
    spec = tf.TensorSpec((None, 32, 32, 3)), tf.TensorSpec((None,), tf.int64)
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    teacher, watch = linear(), Watch()
    distiller = L2RKDDistiller(None, linear(), region_targets="interpolated", hard_weight=0.0)
    distiller.compile("sgd")

    def cached(data):
        return cache_teacher(data, teacher, folder, memory_bytes=MEMORY_BYTES, verbose=False)

    distiller.fit(cached(data.take(20)), verbose=0)  # whatever training needs anyway
    before = resident_megabytes()
    distiller.fit(cached(data), verbose=0, callbacks=[watch])
    print(max(watch.most, resident_megabytes()) - before)


if __name__ == "__main__":
    main(sys.argv[1])
