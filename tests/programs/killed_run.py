"""A training run to be killed and started again; also as one of several workers (`TF_CONFIG`).

python -m tests.programs.killed_run data_dir backup_dir results.npz epochs
"""

import os
import sys

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, data


def network(width, rate=0.0):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dropout(rate),
            keras.layers.Dense(10),
        ]
    )


def main(data_dir, backup_dir, path, epochs):
    """Trains, and writes weights, state of the optimizer and history when it is done."""
    workers = "TF_CONFIG" in os.environ
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if workers else tf.distribute.get_strategy()
    )
    keras.utils.set_random_seed(3)
    train = data.load(
        "digits", "train[:60]", batch_size=8, augment="crop", seed=2, data_dir=data_dir
    )
    with strategy.scope():
        distiller = L2RKDDistiller(network(8), network(6, 0.2), seed=1)
        distiller.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    backup = callbacks.TrainingBackup(backup_dir, train)
    history = distiller.fit(train, epochs=int(epochs), callbacks=[backup], verbose=0).history
    variables = [*distiller.weights, *distiller.optimizer.variables]
    found = {f"variable {i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    found |= {f"log of {name}": np.array(values) for name, values in history.items()}
    task = strategy.cluster_resolver.task_id if workers else 0
    np.savez(f"{path}.{task}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
