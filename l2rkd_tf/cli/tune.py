"""`l2rkd tune`: a search for radius, region weight and temperature on a validation split.

Each trial trains one student for each of `--seeds`. What counts is their mean accuracy on the
validation split after the last epoch. The students of the best setting are then trained again and
measured on the test split, which no trial has seen. The folder of `--output` gets `tuning.json`
(all trials, the best setting and its results), and a folder for each of those students.
"""

import os
import pathlib
import shutil
import time

import keras
import numpy as np
from absl.flags import FlagValues

from l2rkd_command.errors import blame
from l2rkd_command.flags.groups.data import NAMES
from l2rkd_command.flags.tune import TUNED, with_radius
from l2rkd_tf.cli.common import backups, from_flags, plan, training
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.pages import percent
from l2rkd_tf.cli.common.parsing import parse_region
from l2rkd_tf.cli.common.run_folder import config_of, run_folder, save_run, versions
from l2rkd_tf.utils.files import write_json

__all__ = ["run"]

# Flags that `l2rkd distill` also has.
_SHARED = (
    "teacher", *NAMES, "fraction", "widths", "epochs", "steps_per_epoch", "batch_size",
    "learning_rate", "seeds",
)  # fmt: skip


def run(flags: FlagValues) -> None:
    """Tunes and measures the best setting on the test split, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.tune`, parsed and checked.
    """
    # Before anything is trained: KerasTuner is an optional dependency.
    from l2rkd_tf.cli.common.search import search

    for radius in map(float, flags.radius):
        region_of(flags, radius)
    if flags.dry_run:
        plan.show("tune", _plan(flags))
        return
    kept = os.path.join(flags.backup, "backup_of_search") if flags.backup else ""
    if kept:
        backups.begin(kept, "tune", flags)
    console = Console(flags.verbose, total=3)
    console.step(f"Loading the teacher from {flags.teacher}")
    teacher = from_flags.load_teacher(flags)
    from_flags.check_region(flags, teacher)
    # KerasTuner takes an error in a trial for a bad setting.
    dataset, *_ = from_flags.load_splits(flags, int(flags.seeds[0]))
    from_flags.check_fits("teacher", flags.teacher, teacher, dataset)
    with run_folder(flags.output) as folder:
        folder = pathlib.Path(folder)
        console.step(f"Searching: {flags.trials} trials, {len(flags.seeds)} students each")
        trials = search(
            Trials(flags, teacher, console),
            ranges(flags),
            max_trials=flags.trials,
            directory=kept or folder / "search",
            seed=flags.search_seed,
        )
        best = {name: trials[0][name] for name in TUNED}
        console.step(f"Training the students of the best setting, {in_words(best)}")
        accuracies = finish(flags, teacher, best, folder, console)
        results = {"best": best, "test_accuracies": accuracies, "trials": trials}
        results |= {"config": config_of("tune", flags), "versions": versions()}
        write_json(folder / "tuning.json", results)
    if kept:
        shutil.rmtree(kept, ignore_errors=True)
    _report(flags, trials, accuracies, console)


def ranges(flags):
    """Smallest and largest value of each number that is tuned, by its name."""
    return {name: [float(word) for word in flags[name].value] for name in TUNED}


def in_words(setting):
    """A setting as text."""
    return ", ".join(f"{name}={setting[name]!r}" for name in TUNED)


def region_of(flags, radius):
    """The region with a radius.

    Raises:
        UsageError: If there is no such region.
    """
    with blame("region", radius="radius"):
        return parse_region(with_radius(flags.region, radius))


class Trials:
    """What a setting is worth: the mean accuracy of its students on the validation split.

    Args:
        flags: Flags of the command.
        teacher: Keras model.
        console: `Console` that is told of each trial.
    """

    def __init__(self, flags, teacher, console):
        self._flags, self._teacher, self._console = flags, teacher, console
        self._accuracies, self._start = [], time.monotonic()

    def __call__(self, setting):
        """The accuracy of a setting, a dict of numbers by name."""
        found = []
        for seed in map(int, self._flags.seeds):
            dataset, validation, _ = from_flags.load_splits(self._flags, seed)
            student, *_ = train(self._flags, self._teacher, setting, seed, dataset)
            found.append(training.evaluate(student, validation)["accuracy"])
            keras.backend.clear_session()  # of the many models of a search
        accuracy = float(np.mean(found))
        self._tell(setting, accuracy)
        return accuracy

    def _tell(self, setting, accuracy):
        self._accuracies.append(accuracy)
        done, total = len(self._accuracies), self._flags.trials
        left = (time.monotonic() - self._start) / done * max(0, total - done) / 60
        self._console.note(
            f"Trial {done} of {total}: {in_words(setting)}: validation accuracy "
            f"{percent(accuracy)}, best so far {percent(max(self._accuracies))}, about "
            f"{left:.0f} minutes left"
        )


def train(flags, teacher, setting, seed, dataset, verbose=0):
    """A student trained with a setting; its history; milliseconds a step."""
    widths = from_flags.student_widths(flags, dataset)
    student = from_flags.build_network(flags, dataset, widths, seed)
    distiller = training.build_trainee(
        "l2rkd",
        teacher,
        student,
        region=region_of(flags, setting["radius"]),
        region_weight=setting["region_weight"],
        temperature=setting["temperature"],
        seed=seed,
    )
    schedule = from_flags.schedule(flags, dataset)
    return student, *training.fit(distiller, dataset, **schedule, verbose=verbose)


def finish(flags, teacher, setting, folder, console):
    """Trains and saves the students of the best setting; returns their test accuracies."""
    accuracies = []
    for seed in map(int, flags.seeds):
        dataset, validation, test = from_flags.load_splits(flags, seed)
        student, history, step_ms = train(
            flags, teacher, setting, seed, dataset, console.keras_verbose
        )
        metrics = training.measure(student, validation, test, step_ms)
        (folder / f"seed{seed}").mkdir()
        # As `l2rkd distill` would have written it, so that later commands read it.
        config = config_of("tune", flags) | setting | {"seed": seed}
        config["class_names"] = dataset.class_names
        config["region"] = with_radius(flags.region, setting["radius"])
        save_run(folder / f"seed{seed}", student, config, history, metrics)
        accuracies.append(metrics["test"]["accuracy"])
    return accuracies


def _report(flags, trials, accuracies, console):
    """Tells the best setting and what it is worth, where its students are, and how to use it."""
    best = trials[0]
    console.result(
        f"The best of {len(trials)} trials is {in_words(best)}: validation accuracy "
        f"{percent(best['val_accuracy'])}, test accuracy {training.percentage(accuracies)}."
    )
    console.note(f"All trials: {os.path.join(flags.output, 'tuning.json')}; students next to it")
    given = [name for name in _SHARED if flags[name].value != flags[name].default]
    words = [f"--{flags[name].serialize().removeprefix('--')}" for name in given]
    words += [f"--region={with_radius(flags.region, best['radius'])}"]
    words += [f"--{name}={best[name]!r}" for name in ("region_weight", "temperature")]
    console.next("distill", *words)


def _plan(flags):
    """The lines of `--dry_run`."""
    dataset = plan.load_or_none(flags, int(flags.seeds[0]))
    teacher = from_flags.load_teacher(flags)
    from_flags.check_region(flags, teacher)
    tried = {name: " to ".join(words) for name in TUNED if (words := flags[name].value)}
    return {
        "Data": plan.describe_data(flags, dataset),
        "Teacher": f"{plan.describe_model(teacher)}, from {flags.teacher}",
        "Search": ", ".join(f"{name} {values}" for name, values in tried.items()),
        "Training": f"{flags.trials} trials, then the best one again; {len(flags.seeds)} students "
        f"each, {flags.epochs} epochs",
        "Output": f"{os.path.join(flags.output, 'tuning.json')}, {plan.seed_folders(flags)}",
    }
