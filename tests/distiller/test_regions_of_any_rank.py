"""Patches of sequences and videos, and swaps of ids: the same however the step is run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    CLASSES,
    assert_equal_weights,
    batches,
    compiled,
    two_replicas,
    under_policy,
)


class PairedPatch(regions.Patch):
    """Neighbours are partners, and the cells have given values: no chance, on any replica."""

    def draw(self, inputs, seed, labels=None):
        drawn = super().draw(inputs, seed, labels)
        cells = np.linspace(0.1, 0.9, int(np.prod(drawn.lam.shape[1:])), dtype="float32")
        lam = tf.zeros_like(drawn.lam) + tf.reshape(cells, (1, *drawn.lam.shape[1:]))
        return drawn._replace(partners=neighbours(inputs), lam=lam)


class PairedSwap(regions.Swap):
    """Neighbours are partners, and every second position is the partner's."""

    def draw(self, inputs, seed, labels=None):
        drawn = super().draw(inputs, seed, labels)
        group = tf.zeros_like(drawn.swapped[0]) | (tf.range(inputs.shape[1]) % 2 == 0)
        return drawn._replace(partners=neighbours(inputs), swapped=(group,))


def neighbours(inputs):
    rows = tf.range(tf.shape(inputs)[0])
    return tf.bitwise.bitwise_xor(rows, 1)[:, None]


def sequences():
    return [keras.Input((6, 2)), layers.Conv1D(4, 3, padding="same"), layers.Flatten()]


def videos():
    return [keras.Input((2, 4, 4, 1)), layers.Conv3D(3, 2), layers.Flatten()]


def labels_of_moments():
    return [keras.Input((6, 2)), layers.Conv1D(4, 3, padding="same")]


def masked_moments():
    return [keras.Input((6, 2)), layers.Masking(0.0), layers.Dense(4)]


def texts():
    wide = keras.initializers.RandomNormal(0, 1)
    return [keras.Input((6,), dtype="int32"), layers.Embedding(9, 4, wide), layers.Flatten()]


CASES = {
    "sequences": (sequences, PairedPatch(grid=3)),
    "videos": (videos, PairedPatch(grid=2)),
    "labels of moments": (labels_of_moments, PairedPatch(grid=3)),
    "masked moments": (masked_moments, PairedPatch(grid=3)),
    "texts": (texts, PairedSwap()),
}


def made(case, policy="float32"):
    """A distiller of this case; weights are drawn by NumPy, the same under every policy."""

    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([*CASES[case][0](), layers.Dense(CLASSES)])

    models = [under_policy(policy, build, seed) for seed in (1, 2)]
    return L2RKDDistiller(*models, region=CASES[case][1], seed=0)


def data(case, count=8):
    rng = np.random.default_rng(4)
    model = made(case).student
    shape = (count, *model.input_shape[1:])
    x = rng.integers(0, 9, shape) if case == "texts" else rng.normal(size=shape)
    if case == "masked moments":
        x[::2, 4:] = 0.0
    y = rng.integers(0, CLASSES, (count, *model.output_shape[1:-1]))
    return x.astype(model.input_dtype if case != "texts" else "int32"), y


def trained(case, **options):
    x, y = data(case)
    distiller = compiled(made(case), rate=0.1, **options)
    distiller.fit(batches(x, y, 8), verbose=0)
    return distiller


@pytest.mark.parametrize(
    "case",
    [
        "sequences",
        pytest.param("videos", marks=pytest.mark.stress),
        pytest.param("labels of moments", marks=pytest.mark.stress),
        "masked moments",
        "texts",
    ],
)
def test_xla_and_two_replicas_equal_one_device_run_eagerly(case):
    one = trained(case, run_eagerly=True)
    kernel = made(case).student.get_weights()[-2]
    assert np.abs(one.student.get_weights()[-2] - kernel).max() > 1e-3
    assert_equal_weights(trained(case, jit_compile=True).student, one.student, atol=1e-5)
    with two_replicas().scope():
        two = made(case)
        compiled(two, rate=0.1)
    two.fit(batches(*data(case), 8), verbose=0)
    assert_equal_weights(two.student, one.student, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_mixed_precision_logs_as_float32(case):
    x, y = data(case)
    logs = [
        compiled(made(case, policy), 0.1, run_eagerly=True).train_on_batch(x, y, return_dict=True)
        for policy in ("float32", "mixed_bfloat16")
    ]
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=2e-2, atol=4e-2, err_msg=name)
