"""`l2rkd train-teacher`: trains a teacher on all training data, once for each seed.

Each seed gets a folder with `model.keras`, `config.json`, `history.json`, `log.csv` and
`metrics.json`.
"""

import os

import numpy as np
from absl.flags import FlagValues

from l2rkd_command.errors import blame
from l2rkd_tf import models
from l2rkd_tf.cli.common import dashboard, from_flags, plan, training
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.run_folder import config_of, run_folder, save_run

__all__ = ["run"]


def run(flags: FlagValues) -> None:
    """Trains the teachers, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.train_teacher`, parsed and checked.
    """
    if flags.dry_run:
        plan.show("train-teacher", _plan(flags))
        return
    console = Console(flags.verbose, total=len(flags.seeds))
    accuracies = []
    with run_folder(flags.output) as folder:
        for seed in map(int, flags.seeds):
            seed_folder = os.path.join(folder, f"seed{seed}")
            os.makedirs(seed_folder)
            metrics = _train(flags, seed, seed_folder, console)
            accuracies.append(metrics["test"]["accuracy"])
    _report(flags, console, accuracies)


def _build(flags, dataset, seed):
    """A new teacher."""
    if flags.application:
        with blame("application", name="application"):
            return models.application(
                flags.application,
                tuple(dataset.element_spec[0].shape[1:]),
                len(dataset.class_names),
                pretrained=flags.pretrained,
                size=flags.application_size,
                trained=flags.trained,
                seed=seed,
            )
    widths = [int(width) for width in flags.widths]
    return from_flags.build_network(flags, dataset, widths, seed, flags.convs_per_block)


def _train(flags, seed, folder, console):
    """Trains, evaluates and saves the teacher of a seed; returns its metrics."""
    train, validation, test = from_flags.load_splits(flags, seed)
    teacher = _build(flags, train, seed)
    schedule = from_flags.schedule(flags, train)
    console.step(
        f"Training {teacher.name} ({teacher.count_params():,} parameters) on "
        f"{train.num_examples:,} examples of {flags.dataset}, seed {seed}: {schedule['epochs']} "
        f"epochs of {schedule['steps_per_epoch']} steps"
    )
    config = config_of("train-teacher", flags)
    config |= {"steps_per_epoch": schedule["steps_per_epoch"], "seed": seed}
    config["class_names"] = train.class_names
    board = os.path.join(flags.tensorboard, f"seed{seed}") if flags.tensorboard else ""
    trainee = training.build_trainee("none", None, teacher)
    history, step_ms = training.fit(
        trainee,
        train,
        **schedule,
        optimizer=from_flags.make_optimizer(flags),
        verbose=console.keras_verbose,
        validation_data=validation,
        callbacks=dashboard.make_callbacks(board, config, trainee),
    )
    metrics = training.measure(teacher, validation, test, step_ms)
    save_run(folder, teacher, config, history, metrics)
    return metrics


def _report(flags, console, accuracies):
    """Tells the test accuracy, where the teacher is, and how to distill it."""
    path = os.path.join(flags.output, f"seed{flags.seeds[0]}", "model.keras")
    console.result(
        f"Teacher of {flags.dataset}: test accuracy {training.percentage(np.array(accuracies))}. "
        f"It is in {path}"
        + (f", the other seeds next to it in {flags.output}." if len(accuracies) > 1 else ".")
    )
    console.next("distill", f"--teacher={path}", *from_flags.data_words(flags))


def _plan(flags):
    """The lines of `--dry_run`."""
    seed = int(flags.seeds[0])
    dataset = plan.load_or_none(flags, seed)
    rows = {"Data": plan.describe_data(flags, dataset)}
    if dataset is not None:
        rows["Teacher"] = plan.describe_model(_build(flags, dataset, seed))
        schedule = from_flags.schedule(flags, dataset)
        rows["Training"] = plan.describe_schedule(schedule, flags)
    names = "model.keras, config.json, history.json, log.csv and metrics.json"
    rows["Output"] = f"{names} in {plan.seed_folders(flags)}"
    return rows
