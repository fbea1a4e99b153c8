"""What `--dry_run` prints."""

import os
from collections.abc import Mapping

import keras
import tensorflow as tf
from absl.flags import FlagValues

from l2rkd_command.errors import UsageError
from l2rkd_tf.cli.common import from_flags
from l2rkd_tf.data.sources import NotPreparedError

__all__ = [
    "describe_data",
    "describe_model",
    "describe_schedule",
    "load_or_none",
    "seed_folders",
    "show",
]


def show(command: str, rows: Mapping[str, str]) -> None:
    """Prints a plan: a line for each entry of a dict."""
    print(f"l2rkd {command} would do the following. Nothing has been trained or written.")
    width = max(map(len, rows)) + 2
    for name, text in rows.items():
        print(f"  {name:<{width}}{text}")


def load_or_none(flags: FlagValues, seed: int = 0) -> tf.data.Dataset | None:
    """The training split, or `None` where only a download, which a plan does not start, brings it.

    Raises:
        UsageError: If the data cannot be read.
    """
    try:
        return from_flags.load_splits(flags, seed)[0]
    except UsageError as error:
        if flags.download and isinstance(error.__cause__, NotPreparedError):
            return None
        raise


def describe_data(flags: FlagValues, dataset: tf.data.Dataset | None) -> str:
    """One line about the training split of `--dataset`."""
    if dataset is None:
        return f"{flags.dataset}, which would be downloaded"
    shape = "x".join(map(str, dataset.element_spec[0].shape[1:]))
    return (
        f"{flags.dataset}, split {flags.splits[0]}: {dataset.num_examples:,} examples of {shape}, "
        f"{len(dataset.class_names)} classes"
    )


def describe_model(model: keras.Model) -> str:
    """One line about a model."""
    return f"{model.name}, {model.count_params():,} parameters"


def describe_schedule(schedule: Mapping[str, int], flags: FlagValues) -> str:
    """One line about the training of each seed."""
    seeds = f"seed {flags.seeds[0]}" if len(flags.seeds) == 1 else f"{len(flags.seeds)} seeds"
    return (
        f"{schedule['epochs']} epochs of {schedule['steps_per_epoch']:,} steps, batches of "
        f"{flags.batch_size}, {flags.optimizer} from a learning rate of {flags.learning_rate:g}, "
        f"{seeds}"
    )


def seed_folders(flags: FlagValues) -> str:
    """The folders that would be written."""
    return ", ".join(os.path.join(flags.output, f"seed{seed}") for seed in flags.seeds)
