"""Tasks whose examples are in memory and are divided by a seed."""

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import data
from l2rkd_tf.cli.common import training
from l2rkd_tf.data.augmentation import AUGMENTATIONS

#: Shares of the examples for training and for validation; the rest is for the test.
SHARES = (0.6, 0.15)


class Batches:
    """Batches of arrays: those of training in a new order in each pass.

    Args:
        inputs: Array with a row for each example, or a dict of such.
        labels: Array with a row for each example.
        batch_size: Examples of a batch.
        seed: Seed of the order; `None` for the order of the arrays.
        augment: Name of an augmentation of `l2rkd_tf.data`, of images; empty for none.
    """

    def __init__(self, inputs, labels, batch_size, seed=None, augment=""):
        self.num_examples = len(labels)
        batches = tf.data.Dataset.from_tensor_slices((inputs, labels))
        if seed is not None:
            batches = batches.shuffle(self.num_examples, seed)
        if augment:
            seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
            batches = tf.data.Dataset.zip(batches, seeds).map(_augmented_by(augment))
        self.dataset = batches.batch(batch_size)

    def __iter__(self):
        return iter(self.dataset)

    def repeat(self):
        """The batches without an end."""
        return self.dataset.repeat()


def _augmented_by(name):
    def augment(example, seed):
        image, label = example
        return AUGMENTATIONS[name](image, seed), label

    return augment


class Arrays:
    """A task of examples in memory.

    Args:
        inputs: Array with a row for each example, or a dict of such.
        labels: Classes, shape `(examples, ...)`.
        build: Function of the widths of a network that builds it, for these inputs.
        groups: What belongs to one part together, such as a text in several languages: a number
            for each example, or `None`.
        dense: Whether labels are classes of positions; then the score is the mean intersection over
            union, and no class of an example balances the parts.
    """

    def __init__(self, inputs, labels, build, groups=None, dense=False):
        self._inputs, self._labels, self._build = inputs, labels, build
        self._groups, self._dense = groups, dense

    def load(self, batch_size, fraction=1.0, seed=0, augment=""):
        """Training, validation and test examples, of the first a balanced `fraction`."""
        train, validation, test = self._parts(seed)
        if fraction < 1:
            classes = np.zeros(len(train), int) if self._dense else self._labels[train]
            train = train[data.class_balanced_subset(classes, fraction, seed)]
        return (
            self._batches(train, batch_size, seed, augment),
            self._batches(validation, 256),
            self._batches(test, 256),
        )

    def _parts(self, seed):
        """Rows of the three parts."""
        groups = np.arange(len(self._labels)) if self._groups is None else self._groups
        order = np.random.RandomState(seed).permutation(groups.max() + 1)
        place = np.argsort(order)[groups] / len(order)  # from 0 to 1, the same within a group
        bounds = np.cumsum([0.0, *SHARES, 1.0 - sum(SHARES)])
        bounds[-1] = np.inf
        return [
            np.flatnonzero((low <= place) & (place < high))
            for low, high in zip(bounds, bounds[1:], strict=False)
        ]

    def _batches(self, rows, batch_size, seed=None, augment=""):
        inputs = keras.tree.map_structure(lambda array: array[rows], self._inputs)
        return Batches(inputs, self._labels[rows], batch_size, seed, augment)

    def build(self, network, seed):
        """A network with these widths, from initial weights of this seed."""
        keras.utils.set_random_seed(seed)
        return self._build(network.widths)

    def train_teacher(self, study, network, seed, fraction=1.0):
        """A teacher, trained on the training examples of this seed, all or a fraction."""
        train, *_ = self.load(study.teacher_batch_size, fraction, seed, study.teacher_augment)
        teacher = self.build(network, seed)
        training.fit(
            teacher,
            train,
            epochs=1,
            steps_per_epoch=study.teacher_steps,
            learning_rate=study.teacher_learning_rate,
            steps_per_execution=min(10, study.teacher_steps),
            verbose=0,
        )
        return teacher

    def measure(self, model, split, names=(), teacher=None):
        """The score in percent: accuracy, or the mean intersection over union of dense labels."""
        pairs = [(model(inputs, training=False), labels) for inputs, labels in split]
        predicted = np.concatenate([np.argmax(outputs, axis=-1) for outputs, _ in pairs])
        labels = np.concatenate([labels for _, labels in pairs])
        score = mean_iou(labels, predicted) if self._dense else np.mean(predicted == labels)
        return {"accuracy": 100 * float(score)}


def mean_iou(labels, predicted):
    """Mean over the classes of intersection over union, of two arrays of classes."""
    overlaps = [
        np.sum((labels == c) & (predicted == c)) / np.sum((labels == c) | (predicted == c))
        for c in np.union1d(labels, predicted)
    ]
    return float(np.mean(overlaps))
