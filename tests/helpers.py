"""What tests of several folders share: small models, data, and how they are compared."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions

ROOT = pathlib.Path(__file__).parent.parent
BATCH, CLASSES = 6, 3
WEIGHTS = {"hard_weight": 0.3, "kd_weight": 0.7, "region_weight": 1.3}
TEMPERATURE, RATE = 3.0, 0.5


def few(ordinary, values):
    """Parameters of a test: of `values`, all but `ordinary` are left to `make stress`."""
    return [
        value if value in ordinary else pytest.param(value, marks=pytest.mark.stress)
        for value in values
    ]


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def linear(shape, weights):
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(len(weights[1]))]
    )
    model.set_weights(weights)
    return model


def random_weights(rng, shape, outputs=CLASSES):
    return [rng.normal(size=(int(np.prod(shape)), outputs)), rng.normal(size=outputs)]


def convnet(seed, width=4, synchronized=False, **dense):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(width, 3),
            keras.layers.BatchNormalization(synchronized=synchronized),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES, **dense),
        ]
    )


def images(count=BATCH):
    rng = np.random.default_rng(2)
    return rng.uniform(size=(count, 8, 8, 1)).astype("float32"), rng.integers(0, CLASSES, count)


def batches(x, y, size=4):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def compiled(distiller, rate=RATE, **kwargs):
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy(), **kwargs)
    return distiller


def assert_equal_weights(actual, expected, atol=0.0):
    for one, other in zip(actual.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=atol)


class GivenDraws(regions.Region):
    """A region whose draws are given: a list, one for each region point of an example."""

    def __init__(self, region, draws):
        super().__init__()
        self._inner, self._draws, self._count = region, draws, 0

    def draw(self, inputs, seed, labels=None):
        self._count += 1
        return self._draws[(self._count - 1) % len(self._draws)]

    def apply(self, tensor, coefficients):
        return self._inner.apply(tensor, coefficients)


def partner_draw(rng, num_partners, cells=()):
    partners = rng.integers(0, BATCH, size=(BATCH, num_partners)).astype("int32")
    weights = rng.uniform(size=(BATCH, num_partners, *cells)).astype("float32") / num_partners
    return regions.Coefficients(tf.constant(partners), tf.constant(weights))


class CallCountingModel(keras.Model):
    """Wraps a model and counts its calls."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []
        self.built = True

    def call(self, inputs, training=None):
        self.calls.append((len(inputs), training))
        return self.model(inputs, training=training)


class TraceCountingDistiller(L2RKDDistiller):
    """Counts how often its step is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


class TokenClassifier(keras.Model):
    """Looks up integer inputs, which no float can stand for; made of no graph of layers."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight(shape=(9, 4), name="table")
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        return self.dense(tf.reduce_mean(tf.gather(self.table, inputs), axis=1))


def two_replicas():
    """A strategy of two replicas on the two CPU devices of `conftest.py`.

    Its usual way to reduce, collective operations, serves one strategy of a process only: those of
    another one mistake its tensors for their own.
    """
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def under_policy(policy, make, *arguments):
    keras.config.set_dtype_policy(policy)
    try:
        return make(*arguments)
    finally:
        keras.config.set_dtype_policy("float32")


def with_random_weights(model, seed=0):
    """Weights that keep the size of what passes, and statistics that norms do not begin with."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            scale, variance = random.uniform(0.5, 1.5, (2, size))
            shift, mean = random.normal(0, 0.3, (2, size))
            layer.set_weights([scale, shift, mean, variance])
        elif layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            for weight in layer.weights:
                inputs = 9 if depthwise else np.prod(weight.shape[:-1])
                drawn = random.standard_normal(weight.shape, "float32")
                weight.assign(drawn * (2 / inputs) ** 0.5)
    return model


def command_of(program, *arguments):
    """The command that starts a module of `tests/programs/`, from the root of the repository."""
    return [sys.executable, "-m", f"tests.programs.{program}", *map(str, arguments)]


def run_on_two_workers(program, *arguments):
    """Runs a module of `tests/programs/` as two workers that train together."""
    launch = [sys.executable, "-m", "l2rkd_command", "launch", "--num_workers=2"]
    finished = subprocess.run(
        [*launch, "--timeout_seconds=400", "--", *command_of(program, *arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
