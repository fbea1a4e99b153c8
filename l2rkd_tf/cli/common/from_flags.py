"""What flags ask for: data, models, schedules. Errors of the library become those of a flag."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from absl.flags import FlagValues

from l2rkd_command.errors import UsageError, blame
from l2rkd_command.flags.groups.data import NAMES
from l2rkd_command.run_config import read_config
from l2rkd_tf import models
from l2rkd_tf.cli.common import optimizers, training
from l2rkd_tf.cli.common.parsing import region_of_flag
from l2rkd_tf.utils.model_checks import input_symbols

__all__ = [
    "build_network",
    "check_fits",
    "check_region",
    "data_errors",
    "data_options",
    "data_words",
    "load_model",
    "load_splits",
    "load_teacher",
    "make_optimizer",
    "schedule",
    "student_widths",
]


def data_options(flags: FlagValues) -> dict[str, Any]:
    """Arguments of `training.load_splits`; a dry run downloads nothing."""
    options = {name: flags[name].value for name in NAMES if name != "dataset"}
    return options | {"download": flags.download and not flags.dry_run}


def data_words(flags: FlagValues) -> list[str]:
    """The flags, as words of a command line, with which another command reads the same data."""
    names = [name for name in NAMES if flags[name].value != flags[name].default]
    return [f"--{flags[name].serialize().removeprefix('--')}" for name in names]


def data_errors() -> contextlib.AbstractContextManager[None]:
    """Context in which errors of `l2rkd_tf.data.load` become those of flags."""
    names = {"name": "dataset", "split": "splits"}
    return blame("dataset", **names, image_size="image_size", fraction="fraction")


def load_splits(
    flags: FlagValues, seed: int = 0
) -> tuple[tf.data.Dataset, tf.data.Dataset | None, tf.data.Dataset]:
    """Training, validation and test split; validation is `None` if its name is empty.

    Raises:
        UsageError: If the data cannot be read, or have less than two classes.
    """
    augment = flags.augment if "augment" in flags else "none"
    with data_errors():
        return training.load_splits(
            flags.dataset,
            flags.batch_size,
            fraction=flags.fraction if "fraction" in flags else 1.0,
            seed=seed,
            augment=None if augment == "none" else augment,
            **data_options(flags),
        )


def load_model(flag: str, path: str) -> keras.Model:
    """The Keras model of a file that a flag names."""
    with blame(flag):
        return keras.models.load_model(path)


def load_teacher(flags: FlagValues) -> keras.Model:
    """The teacher of `--teacher`, or the ensemble of several."""
    teachers = [load_model("teacher", path) for path in flags.teacher.split(",")]
    with blame("teacher", teachers="teacher"):
        return teachers[0] if len(teachers) == 1 else models.ensemble(teachers)


def check_fits(flag: str, files: str, model: keras.Model, dataset: tf.data.Dataset) -> None:
    """Checks that a model takes the inputs of data, and that its outputs are their classes.

    Args:
        flag: Flag that names the files of the model.
        files: Paths of the model, or of the members of an ensemble, with commas between them.
        model: The model.
        dataset: Batches from `l2rkd_tf.data.load`.

    Raises:
        UsageError: If it was made for other data.
    """
    shape, names = dataset.element_spec[0].shape, dataset.class_names
    takes = input_symbols(model)
    if isinstance(takes, keras.KerasTensor) and not shape.is_compatible_with(takes.shape):
        raise UsageError(
            "dataset",
            f"must have the inputs that --{flag} takes, of shape {tuple(takes.shape[1:])}. "
            f"Received: inputs of shape {tuple(shape[1:])}. --image_size resizes images.",
        )
    trained_on = [read_config(file).get("class_names") for file in files.split(",")]
    others = [other for other in trained_on if other not in (None, names)]
    if names and (others or len(names) != model.output_shape[-1]):
        classes = others[0] if others else f"{model.output_shape[-1]} classes"
        raise UsageError(
            "dataset", f"must have the classes of --{flag}, {classes}. Received: {names}"
        )


def schedule(flags: FlagValues, dataset: tf.data.Dataset) -> dict[str, Any]:
    """Arguments of `training.fit` for this training split."""
    steps = flags.steps_per_epoch
    if steps is None:
        steps = training.steps_of_a_pass(dataset)
    return {
        "epochs": flags.epochs,
        "learning_rate": flags.learning_rate,
        "steps_per_epoch": steps or len(dataset),
    }


def student_widths(flags: FlagValues, dataset: tf.data.Dataset) -> list[int]:
    """Channels of each block of the student, for this training split."""
    if flags.widths:
        return [int(width) for width in flags.widths]
    side = min(dataset.element_spec[0].shape[1:3])
    return [16 * 2**block for block in range(max(1, int(math.log2(side)) - 1))]


def build_network(
    flags: FlagValues,
    dataset: tf.data.Dataset,
    widths: list[int],
    seed: int,
    convs_per_block: int = 1,
) -> keras.Model:
    """A new network, as `training.build_network`; that of `--network`, if there is this flag.

    Raises:
        UsageError: If there is no such network, or images are too small for it.
    """
    options: dict[str, Any] = {}
    if "network" in flags:
        mean, std = ([float(word) for word in words] for words in (flags.mean, flags.std))
        options = {"network": flags.network, "mean": mean, "std": std}
    blamed = "network" if options.get("network") else "widths"
    with blame(blamed, name="network", mean="mean", std="std"):
        return training.build_network(dataset, widths, seed, convs_per_block, **options)


def check_region(flags: FlagValues, model: keras.Model) -> None:
    """Checks that inputs of a model have such a region.

    Args:
        flags: Flags with `--region`.
        model: The model.

    Raises:
        UsageError: If they have not: a grid may have more cells than images have pixels.
    """
    region = region_of_flag(flags.region)
    if region is None:
        return
    two = keras.tree.map_structure(
        lambda one: tf.zeros((2, *(size or 1 for size in one.shape[1:])), one.dtype),
        input_symbols(model),
    )
    with blame("region"):
        region.draw(two, (0, 0), labels=tf.zeros(2, tf.int32))


def make_optimizer(flags: FlagValues) -> Callable[..., keras.optimizers.Optimizer]:
    """Argument `optimizer` of `training.fit`."""
    if flags.optimizer == "adam":
        return optimizers.adam_on_cosine
    return functools.partial(
        optimizers.sgd_in_steps,
        momentum=flags.momentum,
        weight_decay=flags.weight_decay,
        decay_epochs=[int(word) for word in flags.decay_epochs],
        decay_factor=flags.decay_factor,
    )
