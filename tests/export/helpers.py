"""Students and ways to run their files that tests of export share."""

import keras
import numpy as np
from keras import layers


def conv_student(policy=None):
    """A convnet whose batch normalization has statistics that are not the initial ones."""
    student = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(8, 3, dtype=policy, use_bias=False),
            layers.BatchNormalization(dtype=policy),
            layers.ReLU(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(5, dtype=policy),
        ]
    )
    student.layers[1].moving_mean.assign(np.linspace(-0.2, 0.2, 8))
    student.layers[1].moving_variance.assign(np.linspace(0.5, 2.0, 8))
    return student


def dense_student():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def spread(outputs):
    """Twice the distance from the median that all outputs of 90 % of the examples keep."""
    farthest = np.sort(np.abs(outputs - np.median(outputs)).max(axis=1))
    return 2 * farthest[int(0.9 * (len(farthest) - 1))]


def logits_of(student, inputs):
    return np.asarray(student(inputs, training=False), "float32")


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())
