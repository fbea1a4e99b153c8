"""Data, models and one training run, as the programs share them."""

import time

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf import data, models
from l2rkd_tf.cli.common import optimizers

METHODS = ("none", "kd", "l2rkd")


SPLITS = ("train", "validation", "test")
#: What a teacher of small images is trained with, unless something else is said.
TEACHER = {
    "widths": (32, 64, 128),
    "convs_per_block": 2,
    "seed": 0,
    "epochs": 40,
    "learning_rate": 2e-3,
    "augment": "crop",
}


def load_splits(name, batch_size, *, fraction=1.0, seed=0, augment=None, splits=SPLITS, **kwargs):
    """Training, validation and test split, the first one a few-shot subset if asked for.

    A split whose name is empty is `None`.

    Raises:
        ValueError: If the data cannot be read, or have less than two classes.
    """
    train, *others = splits
    training = data.load(
        name, train, batch_size=batch_size, fraction=fraction, seed=seed, augment=augment,
        shuffle=True, **kwargs,
    )  # fmt: skip
    if training.class_names is None:
        raise ValueError(f"`name` must have class labels. Received: name={name}")
    if len(training.class_names) < 2:
        raise ValueError(
            f"`name` must have at least two classes. Received: name={name}, with "
            f"{training.class_names}"
        )
    return training, *(
        data.load(name, split, batch_size=256, shuffle=False, **kwargs) if split else None
        for split in others
    )


def build_network(dataset, widths, seed, convs_per_block=1, network="", mean=(), std=()):
    """A network that fits the dataset, and trains on several replicas as on one.

    Args:
        dataset: Batches from `l2rkd_tf.data.load`.
        widths: Channels of each block of a small convnet.
        seed: Seed of the initial weights.
        convs_per_block: Convolutions in each block of a small convnet.
        network: Name of a standard architecture instead, as in `l2rkd_tf.models.get`.
        mean: Mean of each channel, which the network subtracts; empty for none.
        std: Standard deviation of each channel, by which it divides.

    Returns:
        A functional `keras.Model` from images in `[0, 1]` to logits.
    """
    keras.utils.set_random_seed(seed)
    input_shape = tuple(dataset.element_spec[0].shape[1:])
    num_classes = len(dataset.class_names)
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if network:
        model = models.get(network, num_classes, input_shape, synchronized=synchronized)
    else:
        model = models.convnet(
            input_shape,
            num_classes,
            widths,
            convs_per_block=convs_per_block,
            synchronized=synchronized,
        )
    return normalized(model, mean, std) if mean else model


def normalized(network, mean, std):
    """A new network of the same layers that normalizes its images first, with fixed numbers.

    Regions are mixed and students exported in terms of images in `[0, 1]`, for which this is a
    linear layer without weights.

    Args:
        network: Functional `keras.Model` of images. It keeps its layers.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Returns:
        A functional `keras.Model`, its layers called as those of `network`, after `normalize`.

    Raises:
        ValueError: If there is not one mean and deviation for each channel.
    """
    channels = network.input_shape[-1]
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"`mean` and `std` must have one number for each of the {channels} channels. "
            f"Received: mean={mean}, std={std}"
        )
    image = keras.Input(network.input_shape[1:], name="image")
    normalize = keras.layers.Normalization(
        mean=list(mean),
        variance=[deviation**2 for deviation in std],
        dtype="float32",
        name="normalize",
    )

    def call(layer, inputs, *args, **kwargs):
        return layer(normalize(inputs) if inputs is image else inputs, *args, **kwargs)

    return keras.models.clone_model(network, input_tensors=image, call_function=call)


def build_trainee(method, teacher, student, **kwargs):
    """The model to fit: one of the student's layers, or a distiller that holds the student.

    It is the one that is compiled, so that the student's file needs no optimizer to be loaded.
    """
    if method == "none" and not kwargs.get("distillation_losses"):
        return keras.Model(student.input, student.output, name=student.name)
    if method == "none":
        kwargs |= {"hard_weight": 1.0, "kd_weight": 0.0}
    if method != "l2rkd":
        kwargs |= {"region_weight": 0.0}
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


def fit(
    model,
    dataset,
    *,
    epochs,
    steps_per_epoch,
    learning_rate,
    optimizer=optimizers.adam_on_cosine,
    callbacks=(),
    **kwargs,
):
    """Fits a model; the data repeat as often as the steps need.

    Args:
        model: Student or distiller.
        dataset: Batches from `l2rkd_tf.data.load`.
        epochs: Number of epochs.
        steps_per_epoch: Steps of an epoch, whatever the size of the data.
        learning_rate: Learning rate at the beginning.
        optimizer: Function of learning rate, epochs and steps of an epoch that makes an optimizer.
        callbacks: Callbacks of `fit`.
        **kwargs: `jit_compile` and `steps_per_execution` of `compile`, and arguments of `fit`.

    Returns:
        The history of `fit`, and the time of a step in milliseconds.
    """
    compile_options = {
        name: kwargs.pop(name) for name in ("jit_compile", "steps_per_execution") if name in kwargs
    }
    model.compile(
        optimizer(learning_rate, epochs, steps_per_epoch),
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
        shuffle=False,  # the data shuffle themselves
        **kwargs,
    )
    return history.history, timer.milliseconds


def evaluate(model, dataset):
    """Accuracy and loss of a model on a dataset, and its size; the model is not changed."""
    # Without `predict`, which traces a function for each model: TensorFlow warns of that.
    batches = [(model(inputs, training=False).numpy(), labels) for inputs, labels in dataset]
    logits = np.concatenate([outputs for outputs, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return {
        "accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
        "loss": float(cross_entropy(labels, logits)),
        "num_examples": len(labels),
    }


def measure(model, validation, test, step_ms):
    """What is reported of a trained model, as it is after the last epoch."""
    watched = {} if validation is None else {"validation": evaluate(model, validation)}
    return watched | {
        "test": evaluate(model, test),
        "parameters": model.count_params(),
        "milliseconds_per_step": step_ms,
    }


def steps_of_a_pass(dataset):
    """Steps of a pass through a dataset, and 20 where that is fewer.

    With few images, 40 passes are too few steps for BatchNorm to know the statistics that a
    teacher is used with.
    """
    return max(len(dataset), 20)


def build_teacher(
    dataset,
    seed=TEACHER["seed"],
    widths=TEACHER["widths"],
    convs_per_block=TEACHER["convs_per_block"],
):
    """A new teacher of small images, a convnet."""
    return build_network(dataset, widths, seed, convs_per_block)


def train_teacher(
    dataset,
    *,
    widths=TEACHER["widths"],
    convs_per_block=TEACHER["convs_per_block"],
    batch_size=50,
    seed=TEACHER["seed"],
    epochs=TEACHER["epochs"],
    steps_per_epoch=None,
    learning_rate=TEACHER["learning_rate"],
    data_options=None,
    **kwargs,
):
    """Trains a teacher on all of a dataset, with random crops; epochs are `steps_of_a_pass`.

    Returns:
        The teacher, the history of `fit`, and its metrics.
    """
    train, validation, test = load_splits(
        dataset, batch_size, seed=seed, augment=TEACHER["augment"], **(data_options or {})
    )
    teacher = build_teacher(train, seed, widths, convs_per_block)
    history, step_ms = fit(
        teacher,
        train,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch or steps_of_a_pass(train),
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


def percentage(accuracies):
    """Mean of accuracies as text: `97.31 ± 0.84 % (mean of 3 seeds, 95 % CI)`."""
    mean, interval = mean_and_interval(100 * np.asarray(accuracies))
    if np.isnan(interval):
        return f"{mean:.2f} %"
    return f"{mean:.2f} ± {interval:.2f} % (mean of {len(accuracies)} seeds, 95 % CI)"
