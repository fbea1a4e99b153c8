"""Small trainings that must not depend on how many replicas share them; also a program of workers.

python -m tests.programs.replica_cases results.npz      with TF_CONFIG, as one of several workers
"""

import os
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions

CLASSES, BATCH = 3, 15
WEIGHTED, REGULARIZED, NORMALIZED = "weighted", "regularized", "normalized"

# 31 examples in batches of 15, 15 and 1: shares of 8 and 7, and of 1 and none.
CASES = {
    "weights": ({}, {WEIGHTED}),
    "interpolated": ({"region_targets": "interpolated", "num_region_points": 2}, {REGULARIZED}),
    "mse": ({"divergence": "mse"}, {WEIGHTED}),
    "binary_kl": ({"divergence": "binary_kl", "region_targets": "interpolated"}, set()),
    "method": (
        {
            "distillation_losses": lambda: methods.FitNet("hidden", "hidden"),
            "distillation_losses_at": "both",
            "distillation_loss_weights": 0.5,
            "num_region_points": 2,
        },
        {WEIGHTED, REGULARIZED},
    ),
    "batch normalization": ({}, {NORMALIZED}),
}

# Each of them differs from the others in one respect.
IN_STRESS = {"weights", "interpolated", "mse", "binary_kl", "batch normalization"}


def chosen_cases():
    """Those that are trained: all under `make stress`."""
    return [name for name in CASES if "L2RKD_STRESS" in os.environ or name not in IN_STRESS]


class Larger(regions.Region):
    """Makes every point larger by a tenth: a region without chance or partners."""

    interpolates_targets = True

    def draw(self, inputs, seed, labels=None):
        return tf.constant(0.1)

    def apply(self, tensor, coefficients):
        return tensor * (1.0 + coefficients)


def network(seed, hidden, traits=()):
    keras.utils.set_random_seed(seed)
    regularizer = "l2" if REGULARIZED in traits else None
    normalization = [layers.BatchNormalization(synchronized=True)] if NORMALIZED in traits else []
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(hidden, name="hidden", kernel_regularizer=regularizer),
            *normalization,
            layers.Activation("tanh"),
            layers.Dense(CLASSES),
        ]
    )


def train(name, strategy):
    """Trains the student of a case for 12 steps.

    Args:
        name: Key of `CASES`.
        strategy: Strategy of `tf.distribute`.

    Returns:
        `{what: array}`: weights, logs, evaluation and predictions.
    """
    arguments, traits = CASES[name]
    arguments = {key: value() if callable(value) else value for key, value in arguments.items()}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(31, 4)).astype("float32")
    y = rng.integers(0, CLASSES, 31)
    loss, metric = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
    if "divergence" in arguments:
        y, metric = np.eye(CLASSES, dtype="float32")[y], "mae"
        binary = arguments["divergence"] == "binary_kl"
        loss = keras.losses.BinaryCrossentropy(from_logits=True) if binary else "mse"
    weights = (rng.uniform(0.5, 2.0, 31).astype("float32"),) if WEIGHTED in traits else ()
    with strategy.scope():
        teacher, student = network(1, 6), network(2, 5, traits)
        distiller = L2RKDDistiller(teacher, student, region=Larger(), seed=0, **arguments)
        distiller.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=[metric])
    data = tf.data.Dataset.from_tensor_slices((x, y, *weights)).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = data.with_options(options)
    history = distiller.fit(data, epochs=4, validation_data=data, verbose=0).history
    evaluation = distiller.evaluate(data, return_dict=True, verbose=0)
    found = {f"log of {key}": np.array(values) for key, values in history.items()}
    found |= {f"evaluation of {key}": np.array(value) for key, value in evaluation.items()}
    found["predictions"] = distiller.predict(data, verbose=0)
    for number, value in enumerate(distiller.get_weights()):
        found[f"weight {number}"] = value
    return found


def main(path):
    """Trains all cases as one of several workers; each worker writes its own results."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {
        f"{name}/{what}": value
        for name in chosen_cases()
        for what, value in train(name, strategy).items()
    }
    np.savez(f"{path}.{strategy.cluster_resolver.task_id}.npz", **found)


if __name__ == "__main__":
    main(sys.argv[1])
