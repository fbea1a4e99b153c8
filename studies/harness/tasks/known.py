"""MNIST and Fashion-MNIST, of which TensorFlow Datasets finds the files in `TFDS_DATA_DIR`.

    python -c "import tensorflow_datasets as tfds; tfds.load('fashion_mnist')"

downloads one. All seeds share the division: the first 55,000 images of the training split, its last
5,000 for validation, and the test split. Each seed has a teacher of its own.
"""

import functools

import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import Input, Model, layers

from l2rkd_tf import models
from studies.harness import fractions
from studies.harness.pairs import Architecture
from studies.harness.tasks.arrays import Arrays


def task(name):
    """A task: `mnist`, `fashion_mnist`, or `mnist_permuted`, pixels in one fixed random order."""
    inputs, labels = _images(name.removesuffix("_permuted"))
    if name.endswith("_permuted"):
        order = np.random.RandomState(0).permutation(inputs[0].size)
        return Known(inputs.reshape(len(inputs), -1)[:, order], labels, _mlp)
    return Known(inputs, labels, _convnet)


class Known(Arrays):
    """A task with a fixed division, whose networks may be of the catalogue."""

    def build(self, network, seed):
        """A network, from initial weights of this seed."""
        if not isinstance(network, Architecture):
            return super().build(network, seed)
        keras.utils.set_random_seed(seed)
        return models.get(network.name, num_classes=10, input_shape=(28, 28, 1))

    def _parts(self, seed):
        del seed
        return np.split(np.arange(len(self._labels)), [fractions.KNOWN_IMAGES, 60_000])


@functools.lru_cache(maxsize=1)
def _images(name):
    """Images in [0, 1] and labels: 60,000 of the training split, then 10,000 of the test split."""
    splits = tfds.load(name, split=["train", "test"], batch_size=-1, download=False)
    images, labels = (
        np.concatenate([np.asarray(split[part]) for split in splits]) for part in ("image", "label")
    )
    return images.astype("float32") / 255.0, labels


def _convnet(widths):
    return models.convnet((28, 28, 1), 10, widths)


def _mlp(widths):
    hidden = pixels = Input((784,))
    for width in widths:
        hidden = layers.Dense(width, "relu")(hidden)
    return Model(pixels, layers.Dense(10)(hidden))
