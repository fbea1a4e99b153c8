"""What tests of the distiller share: tables, small networks, and training that runs eagerly."""

import keras
import numpy as np
from keras import layers

from tests.helpers import CLASSES, cross_entropy, linear, random_weights

HARD_ONLY = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}
REGION_POINTS = [{}, {"num_region_points": 3}, {"replace_fraction": 0.4}]
FEATURES = 4


def table(count=13):
    rng = np.random.default_rng(2)
    return rng.normal(size=(count, FEATURES)).astype("float32"), rng.integers(0, CLASSES, count)


def example_weights(count=13):
    return np.random.default_rng(3).uniform(0.5, 2.0, count).astype("float32")


def network(seed, hidden=5, activation=None, inner=(), **hidden_options):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(hidden, activation="relu", name="hidden", **hidden_options),
            *inner,
            layers.Dense(CLASSES, activation=activation),
        ]
    )


def linear_pair(shape=(FEATURES,), outputs=CLASSES, seed=6):
    rng = np.random.default_rng(seed)
    return [linear(shape, random_weights(rng, shape, outputs)) for _ in range(2)]


def outputs_of(model, x):
    """Outputs of a linear model in float64."""
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_weights())
    return x.reshape(len(x), -1).astype(np.float64) @ kernel + bias


def compiled(distiller, rate=0.5, **options):
    """Compiled to run eagerly, which small tests do faster than they trace."""
    options = {"run_eagerly": True, **options}
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy(), **options)
    return distiller


def fit_once(distiller, x, y, **options):
    return distiller.fit(x, y, batch_size=5, shuffle=False, verbose=0, **options).history


@keras.saving.register_keras_serializable("tests")
class MeanSquarePenalty(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def one_hot(y):
    return np.eye(CLASSES, dtype="float32")[y]


def same(y):
    return y
