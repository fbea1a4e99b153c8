"""A teacher's pass as its model makes it, and with its weights as constants."""

import keras
import numpy as np
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf.distiller.frozen import FrozenWeights
from l2rkd_tf.distiller.precision import Precision


def make_network(name):
    """A network with random statistics in its batch normalizations."""
    keras.utils.set_random_seed(0)
    if name.startswith("convnet"):
        widths = [int(width) for width in name.split()[1:]]
        network = l2rkd_tf.models.convnet((32, 32, 3), 10, widths)
    else:
        network = l2rkd_tf.models.get(name, input_shape=(32, 32, 3), num_classes=10)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.weights])
    return network


def make_passes(name, batch_size):
    """Passes of a network, warmed up, by what they compute with, and images for them."""
    network = make_network(name)
    images = tf.random.stateless_normal((batch_size, 32, 32, 3), [0, 0])
    student = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def constants(dtype):
        frozen, precision = FrozenWeights(network, student, lambda: None), Precision(network, dtype)

        def run(images):
            with frozen.as_constants(), precision.applied():
                return tf.cast(network(images, training=False), tf.float32)

        return frozen.checked(tf.function(run))

    passes = {
        "model": tf.function(lambda images: network(images, training=False)),
        "constants": constants(None),
        "bfloat16": constants("bfloat16"),
    }
    for function in passes.values():
        for _ in range(8):  # traces; later, looks for changes are rare
            function(images)
    return passes, images
