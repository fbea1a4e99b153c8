"""Distillers and data that tests of callbacks share."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions

EXAMPLES, FEATURES, CLASSES, RATE = 6, 4, 3, 0.5
NUMBERS = {
    "hard_weight": 0.3,
    "kd_weight": 0.7,
    "region_weight": 1.3,
    "temperature": 3.0,
    "region_radius": 0.5,
}
HARD_ONLY = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}


class Towards(regions.Region):
    """Every example goes `radius` of the way to the one before it: nothing is drawn."""

    def draw(self, inputs, seed, labels=None):
        return self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor + coefficients * (tf.roll(tensor, 1, axis=0) - tensor)


class Along(regions.Region):
    """Every example moves by `radius` along one axis: nothing is drawn."""

    interpolates_targets = False

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def draw(self, inputs, seed, labels=None):
        return self.radius_variable * tf.one_hot(self.axis, inputs.shape[-1])

    def apply(self, tensor, coefficients):
        return tensor + coefficients


def data(seed=0, count=EXAMPLES):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, count)


def linear(weights, layer=keras.layers.Dense):
    model = keras.Sequential([keras.Input((len(weights[0]),)), layer(len(weights[1]))])
    model.set_weights(weights)
    return model


def random_weights(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES)]


def make_distiller(
    rate=RATE, layer=keras.layers.Dense, metrics=None, run_eagerly=True, **arguments
):
    """A distiller of linear models, for `train`; eager, which small tests do faster than trace."""
    arguments = {"region": Towards(NUMBERS["region_radius"]), "seed": 0} | arguments
    numbers = {name: value for name, value in NUMBERS.items() if name != "region_radius"}
    distiller = L2RKDDistiller(
        linear(random_weights(1)), linear(random_weights(2), layer), **(numbers | arguments)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(rate), loss, metrics=metrics, run_eagerly=run_eagerly)
    return distiller


def train(distiller, *callback, epochs=2, batch_size=EXAMPLES, **options):
    x, y = data()
    options = {"shuffle": False, "verbose": 0} | options
    return distiller.fit(
        x, y, batch_size=batch_size, epochs=epochs, callbacks=[*callback], **options
    ).history


class TrainFunctions(keras.callbacks.Callback):
    """Keeps the training function of every epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.train_function)
