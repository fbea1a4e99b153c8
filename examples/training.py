"""Data, models and one training run, as the example programs share them."""

import time

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf import data, models

METHODS = ("none", "kd", "l2rkd")


SPLITS = ("train", "validation", "test")


def load_splits(name, batch_size, *, fraction=1.0, seed=0, augment=None, splits=SPLITS, **kwargs):
    """Training, validation and test split, the first one a few-shot subset if asked for."""
    train, *others = splits
    training = data.load(
        name, train, batch_size=batch_size, fraction=fraction, seed=seed, augment=augment,
        shuffle=True, **kwargs,
    )  # fmt: skip
    return training, *(
        data.load(name, split, batch_size=256, shuffle=False, **kwargs) for split in others
    )


def build_network(dataset, widths, seed, convs_per_block=1):
    """A convnet that fits the data set, and trains on several replicas as on one."""
    keras.utils.set_random_seed(seed)
    images = dataset.element_spec[0]
    return models.convnet(
        images.shape[1:],
        len(dataset.class_names),
        widths,
        convs_per_block=convs_per_block,
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
    )


def build_trainee(method, teacher, student, **kwargs):
    """The model to fit: the student itself, or a distiller that holds it."""
    if method == "none" and not kwargs.get("distillation_losses"):
        return student
    if method == "none":
        kwargs |= {"hard_weight": 1.0, "kd_weight": 0.0}
    if method != "l2rkd":
        kwargs |= {"region": None, "region_weight": 0.0}
    return l2rkd_tf.L2RKDDistiller(teacher, student, **kwargs)


class StepTimer(keras.callbacks.Callback):
    """Times the steps of all epochs but the first, which also traces them."""

    def __init__(self, steps_per_epoch):
        super().__init__()
        self._steps_per_epoch, self._seconds, self._start = steps_per_epoch, [], 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops the clock."""
        if epoch > 0:
            self._seconds.append(time.perf_counter() - self._start)

    @property
    def milliseconds(self):
        """Milliseconds a step in the median epoch; `nan` after less than two epochs."""
        return 1000 * float(np.median(self._seconds or [np.nan])) / self._steps_per_epoch


def fit(model, dataset, *, epochs, steps_per_epoch, learning_rate, callbacks=(), **kwargs):
    """Fits with Adam and a cosine schedule; the data repeat as often as the steps need.

    Args:
        model: Student or distiller.
        dataset: Batches from `l2rkd_tf.data.load`.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch, whatever the size of the data.
        learning_rate: Learning rate at the beginning; it falls to zero at the end.
        callbacks: Callbacks of `fit`.
        **kwargs: `jit_compile` and `steps_per_execution` of `compile`, and arguments of `fit`.

    Returns:
        The history of `fit`, and the time of a step in milliseconds.
    """
    compile_options = {
        name: kwargs.pop(name) for name in ("jit_compile", "steps_per_execution") if name in kwargs
    }
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps_per_epoch)
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_options,
    )
    timer = StepTimer(steps_per_epoch)
    history = model.fit(
        dataset.repeat(),
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        callbacks=[*callbacks, timer],
        **kwargs,
    )
    return history.history, timer.milliseconds


def evaluate(model, dataset):
    """Loss and accuracy of a model on a data set, as floats; nothing of the model is changed."""
    labels = np.concatenate([labels for _, labels in dataset.as_numpy_iterator()])
    logits = model.predict(dataset, verbose=0)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {
        "accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
        "loss": float(cross_entropy(labels, logits)),
    }


def measure(model, validation, test, step_ms):
    """What is reported of a trained model, as it is after the last epoch."""
    return {
        "validation": evaluate(model, validation),
        "test": evaluate(model, test),
        "parameters": model.count_params(),
        "milliseconds_per_step": step_ms,
    }


def train_teacher(
    dataset,
    *,
    widths=(32, 64, 128),
    convs_per_block=2,
    batch_size=50,
    seed=0,
    epochs=40,
    steps_per_epoch=20,
    learning_rate=2e-3,
    data_options=None,
    **kwargs,
):
    """Trains a teacher on all of a data set, with random crops.

    Returns:
        The teacher, the history of `fit`, and its metrics.
    """
    train, validation, test = load_splits(
        dataset, batch_size, seed=seed, augment="crop", **(data_options or {})
    )
    teacher = build_network(train, widths, seed, convs_per_block)
    history, step_ms = fit(
        teacher,
        train,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        learning_rate=learning_rate,
        **kwargs,
    )
    return teacher, history, measure(teacher, validation, test, step_ms)


def mean_and_interval(values):
    """Mean and half the width of the 95 % interval of the mean (Student's t).

    Args:
        values: At least one number; one alone has no interval (`nan`).
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
    return float(values.mean()), float(quantile * values.std(ddof=1) / np.sqrt(len(values)))
