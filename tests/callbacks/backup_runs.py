"""Runs that are backed up, interrupted and resumed."""

import os

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, data, methods
from l2rkd_tf.callbacks import TrainingBackup
from tests.programs.killed_run import network

EPOCHS, BATCH = 4, 8
PASS = 8  # Batches of 60 examples; the last one has 4.


def compiled(model, steps_per_execution=1, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    return model


def distiller(**arguments):
    return L2RKDDistiller(network(8), network(6, 0.2), seed=1, **arguments)


def contrast():
    return methods.CRD(num_negatives=16)  # which has a memory


# What is trained, and the steps of an epoch, or None for a pass through the data.
RUNS = {
    "distiller": (lambda: compiled(distiller()), None),
    "method": (lambda: compiled(distiller(distillation_losses=[contrast()])), None),
    "student": (lambda: compiled(network(6, 0.5)), None),
    "accumulation": (
        lambda: compiled(distiller(), use_ema=True, gradient_accumulation_steps=3),
        None,
    ),
    "executions": (lambda: compiled(network(6, 0.5), steps_per_execution=3), None),
    "repeat": (lambda: compiled(network(6, 0.5)), 5),
    "repeat, executions": (lambda: compiled(network(6, 0.5), steps_per_execution=2), 5),
    "repeat, executions of a pass": (
        lambda: compiled(network(6, 0.5), steps_per_execution=3),
        PASS,
    ),
}


def load(digits_dir, seed=2):
    return data.load(
        "digits", "train[:60]", batch_size=BATCH, augment="crop", seed=seed, data_dir=digits_dir
    )


def noted_in(seen):
    def note(images):
        seen.append(images.tobytes())
        return images

    def noted(images, labels):
        return tf.ensure_shape(tf.numpy_function(note, [images], tf.float32), images.shape), labels

    return noted


def train(name, digits_dir, directory=None, others=(), epochs=EPOCHS, seen=None, **arguments):
    """Trains as a program that is started again does; returns the model and its history."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    build, steps_per_epoch = RUNS[name]
    model = build()
    if not model.built:
        model(np.zeros((1, 8, 8, 1)))
    train_data = load(digits_dir)
    batches = train_data.map(noted_in([] if seen is None else seen))
    if steps_per_epoch:
        batches = batches.repeat()
    if directory is not None:
        others = [*others, TrainingBackup(directory, train_data, **arguments)]
    history = model.fit(
        batches, epochs=epochs, steps_per_epoch=steps_per_epoch, callbacks=others, verbose=0
    )
    return model, history


def state(model):
    """Everything that changes when a model is trained."""
    variables = [*model.variables, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


def assert_equal_runs(found, expected):
    (model, history), (other, other_history) = found, expected
    assert history.history == other_history.history
    assert history.epoch == other_history.epoch == list(range(EPOCHS))
    for one, another in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(one, another)


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Raises, or does something else, at the end of a batch, counted over the epochs of a fit."""

    def __init__(self, batch, act=None):
        super().__init__()
        self.last, self.act, self.begun = batch, act, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.begun + batch >= self.last:
            if self.act is None:
                raise Interrupted
            self.act()
        self.of_epoch = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.begun += self.of_epoch


def names(directory):
    return sorted(os.listdir(directory))
