"""Students and ways to run their files that tests of export share."""

import keras
import numpy as np
import tensorflow as tf
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


class OnlyInKeras(layers.Layer):
    """Computes something else when it is traced for an export."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs if tf.executing_eagerly() else inputs * self.factor


def dense_student():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


def spread(outputs):
    """Twice the distance from the median that all outputs of 90 % of the examples keep."""
    distances = np.abs(outputs - np.median(outputs)).reshape(len(outputs), -1)
    farthest = np.sort(distances.max(axis=1))
    return 2 * farthest[int(0.9 * (len(farthest) - 1))]


def logits_of(student, inputs):
    return np.asarray(student(inputs, training=False), "float32")


def run_litert(path, **inputs):
    """Outputs of a file by name, from TensorFlow's own interpreter and not the tested module."""
    return tf.lite.Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())
