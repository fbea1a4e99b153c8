"""Trainings from a cache that must not depend on how many replicas share it.

python -m tests.programs.cache_replicas FOLDER      with TF_CONFIG, as one of several workers
"""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.teacher_cache import cache_teacher
from tests.programs.replica_cases import BATCH, CLASSES, REGULARIZED, Larger, network

EXAMPLES = 31  # in batches of 15, 15 and 1
ARGUMENTS = {"region_targets": "interpolated", "num_region_points": 2}

# Arguments of `cache_teacher`, and whether all replicas build in one folder, at once.
CACHES = {
    "in memory": ({"shuffle": False}, False),
    "on disk": ({"shuffle": False, "memory_bytes": 1}, True),
    "shuffled": ({"seed": 7}, True),
}


def weighted_table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 4)).astype("float32")
    weights = rng.uniform(0.5, 2.0, EXAMPLES).astype("float32")
    return x, rng.integers(0, CLASSES, EXAMPLES), weights


def train(strategy, cache=None, folder=None):
    """Trains a student for 3 steps.

    Args:
        strategy: Strategy of `tf.distribute`.
        cache: Key of `CACHES`; `None` trains with the teacher itself.
        folder: Where a cache on disk is built.

    Returns:
        `{what: array}`: weights, logs and predictions.
    """
    data = tf.data.Dataset.from_tensor_slices(weighted_table()).batch(BATCH)
    with strategy.scope():
        teacher, student = network(1, 6), network(2, 5, {REGULARIZED})
        if cache is not None:
            options, is_on_disk = CACHES[cache]
            path = folder if is_on_disk else None
            data = cache_teacher(data, teacher, path, verbose=False, **options)
            teacher = None
        distiller = L2RKDDistiller(teacher, student, region=Larger(), seed=0, **ARGUMENTS)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.05), loss, metrics=["accuracy"])
    history = distiller.fit(data, validation_data=data, verbose=0).history
    found = {f"log of {key}": np.array(values) for key, values in history.items()}
    found["predictions"] = distiller.predict(data, verbose=0)
    return found | {f"weight {i}": value for i, value in enumerate(distiller.get_weights())}


def main(folder):
    """Trains from all caches as one of several workers; each worker writes its own results."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {
        f"{cache}/{what}": value
        for cache in CACHES
        for what, value in train(strategy, cache, folder / "cache").items()
    }
    np.savez(folder / f"{strategy.cluster_resolver.task_id}.npz", **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
