"""`l2rkd distill`: distills a teacher into a small student, once for each seed.

The teacher is read from `--teacher`, or trained first and kept in the folder `teacher`. Each seed
gets a folder with `model.keras` (the student), `config.json`, `history.json`, `log.csv` and
`metrics.json`. Of several workers the first one reports and keeps the results.
"""

import os
import shutil
import tempfile

import keras
import tensorflow as tf
from absl.flags import FlagValues

import l2rkd_tf
from l2rkd_command.errors import blame
from l2rkd_command.flags.groups.data import NAMES
from l2rkd_command.flags.groups.objective import needs_teacher, without_effect
from l2rkd_tf.cli.common import backups, dashboard, devices, from_flags, plan, training
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.parsing import make_methods, region_of_flag
from l2rkd_tf.cli.common.run_folder import config_of, run_folder, save_run

__all__ = ["run"]

_NAMES = {"none": "student trained on labels", "kd": "KD student", "l2rkd": "L2RKD student"}


def run(flags: FlagValues) -> None:
    """Distills, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.distill`, parsed and checked.
    """
    region_of_flag(flags.region)  # refused before anything is read or trained
    with devices.make_strategy(flags).scope():
        if flags.dry_run:
            plan.show("distill", _plan(flags))
        else:
            _distill(flags)


def _distill(flags):
    """Trains a student for each seed, and reports."""
    chief = devices.is_chief(tf.distribute.get_strategy())
    console = Console(flags.verbose, len(flags.seeds) + needs_teacher(flags), chief)
    if without_effect(flags):
        console.note(f"Without effect: {_without_effect(flags)}")
    for seed in flags.seeds if flags.backup else ():
        backups.begin(_backup_folder(flags, seed), "distill", flags)
    # All workers must save, since to read weights may take all of them.
    kept = run_folder(flags.output) if chief else tempfile.TemporaryDirectory()
    with kept as folder:
        teacher = _get_teacher(flags, folder, console)
        accuracies = [
            _run_seed(flags, teacher, int(seed), folder, console)["test"]["accuracy"]
            for seed in flags.seeds
        ]
    for seed in flags.seeds if flags.backup else ():
        shutil.rmtree(_backup_folder(flags, seed), ignore_errors=True)
    _report(flags, console, accuracies)


# The teacher.


def _get_teacher(flags, folder, console):
    """The teacher of the flags, or a new one that is kept in the folder; `None` without need."""
    if not needs_teacher(flags):
        return None
    if flags.teacher:
        console.step(f"Reading the teacher from {flags.teacher}")
        return from_flags.load_teacher(flags)
    _plan(flags)  # refuses what does not go together before a teacher is trained
    console.step(f"No --teacher: training one on all examples of {flags.dataset}")
    with from_flags.data_errors():
        teacher, history, metrics = training.train_teacher(
            flags.dataset,
            batch_size=flags.batch_size,
            data_options=from_flags.data_options(flags),
            verbose=console.keras_verbose,
        )
    console.note(f"The teacher's test accuracy: {metrics['test']['accuracy']:.2%}")
    teacher_folder = os.path.join(folder, "teacher")
    os.makedirs(teacher_folder)
    save_run(teacher_folder, teacher, _config_of_teacher(flags), history, metrics)
    return teacher


def _config_of_teacher(flags):
    """What the teacher is trained with: data of the flags, but not the student's settings."""
    config = {"command": "distill", "batch_size": flags.batch_size, "fraction": 1.0}
    return config | training.TEACHER | {name: flags[name].value for name in NAMES}


def _teacher_path(flags):
    """Where later commands find the teacher."""
    if flags.teacher or not needs_teacher(flags):
        return flags.teacher
    return os.path.join(flags.output, "teacher", "model.keras")


# A student.


def _options(flags, seed):
    """Arguments of `L2RKDDistiller`."""
    names = ["temperature", "hard_weight", "kd_weight", "region_weight", "num_region_points"]
    names += ["replace_fraction", "region_targets"]
    options = {name: flags[name].value for name in names}
    options["teacher_dtype"] = None if flags.teacher_dtype == "float32" else flags.teacher_dtype
    if flags.methods:
        options["distillation_losses"] = make_methods(flags.methods)
        if flags.method_weights:
            options["distillation_loss_weights"] = list(map(float, flags.method_weights))
        at = flags.methods_at
        options["distillation_losses_at"] = at[0] if len(at) == 1 else at
    return options | {"region": region_of_flag(flags.region), "seed": seed}


def _build_student(flags, dataset, seed):
    """A new student in the wanted precision."""
    policy = "float32" if flags.mixed_precision == "none" else flags.mixed_precision
    keras.config.set_dtype_policy(policy)
    widths = from_flags.student_widths(flags, dataset)
    student = from_flags.build_network(flags, dataset, widths, seed)
    keras.config.set_dtype_policy("float32")
    from_flags.check_region(flags, student)
    return student


def _build_trainee(flags, teacher, student, seed):
    """What is compiled: the student or a distiller."""
    layers = dict.fromkeys(("teacher_layer_names", "student_layer_names"), "methods")
    with blame(None, **layers):
        return training.build_trainee(flags.method, teacher, student, **_options(flags, seed))


def _run_seed(flags, teacher, seed, folder, console):
    """Trains one student and saves it; returns its metrics."""
    folder = os.path.join(folder, f"seed{seed}")
    os.makedirs(folder)
    train, validation, test = from_flags.load_splits(flags, seed)
    if teacher and flags.teacher:
        from_flags.check_fits("teacher", flags.teacher, teacher, train)
    student = _build_student(flags, train, seed)
    trainee = _build_trainee(flags, teacher, student, seed)
    schedule = from_flags.schedule(flags, train)
    console.step(
        f"Training the {_NAMES[flags.method]} ({student.count_params():,} parameters) on "
        f"{train.num_examples:,} examples, seed {seed}: {schedule['epochs']} epochs of "
        f"{schedule['steps_per_epoch']} steps"
    )
    config = config_of("distill", flags) | {"teacher": _teacher_path(flags), "seed": seed}
    config |= {"steps_per_epoch": schedule["steps_per_epoch"], "class_names": train.class_names}
    train = _with_teacher_outputs(flags, train, trainee, seed, console.keras_verbose == 1)
    history, step_ms = training.fit(
        trainee,
        train,
        **schedule,
        optimizer=from_flags.make_optimizer(flags),
        verbose=console.keras_verbose,
        validation_data=validation,
        jit_compile={"on": True, "off": False}.get(flags.jit_compile, "auto"),
        callbacks=_callbacks(flags, train, validation, trainee, config, folder),
    )
    metrics = training.measure(student, validation, test, step_ms)
    save_run(folder, student, config, history, metrics)
    return metrics


def _with_teacher_outputs(flags, train, trainee, seed, verbose):
    """The training data, with outputs of the teacher where flags ask for them."""
    path, options = flags.teacher_cache or None, {"seed": seed, "verbose": verbose}
    if flags.cached_region_points:
        return l2rkd_tf.teacher_cache.cache_regions(
            train,
            trainee.get_teacher(),
            trainee.region,
            flags.cached_region_points,
            path,
            **options,
        )
    if path:
        return l2rkd_tf.teacher_cache.cache_teacher(train, trainee.get_teacher(), path, **options)
    return train


def _callbacks(flags, train, validation, trainee, config, folder):
    """What watches a training."""
    seed = config["seed"]
    board = _board_folder(flags, seed, folder)
    watching = dashboard.make_callbacks(board, config, trainee, validation)
    if not flags.backup:
        return watching
    backup = l2rkd_tf.callbacks.TrainingBackup(
        _backup_folder(flags, seed), train, delete_checkpoint=False
    )
    return [*watching, backup]


def _backup_folder(flags, seed):
    """Where the backups of a student are until all students are done."""
    return os.path.join(flags.backup, f"backup_of_seed{seed}")


def _board_folder(flags, seed, folder):
    """Where the board of a student is, if there is one; only the first worker's is kept."""
    if not flags.tensorboard:
        return ""
    kept = devices.is_chief(tf.distribute.get_strategy())
    return os.path.join(flags.tensorboard if kept else folder, f"seed{seed}")


# What is told.


def _without_effect(flags):
    """Flags that were given and are not used, and with which method."""
    names = ", ".join(f"--{name}" for name in without_effect(flags))
    methods = f" --methods={','.join(flags.methods)}" if flags.methods else ""
    return f"{names} with --method={flags.method}{methods}"


def _report(flags, console, accuracies):
    """Tells the test accuracy, where the students are, and how to export one."""
    student = os.path.join(flags.output, f"seed{flags.seeds[0]}", "model.keras")
    methods = "".join(f" + {name}" for name in flags.methods)
    console.result(
        f"{_NAMES[flags.method]}{methods}, {flags.fraction:.0%} of {flags.dataset}: test accuracy "
        f"{training.percentage(accuracies)}; students in {flags.output}"
    )
    if needs_teacher(flags) and not flags.teacher:
        console.note(f"Teacher: {_teacher_path(flags)}")
    console.next("export", f"--student={student}", "--quantization=int8")


def _plan(flags):
    """The lines of `--dry_run`."""
    seed = int(flags.seeds[0])
    dataset = plan.load_or_none(flags, seed)
    rows = {"Data": plan.describe_data(flags, dataset)}
    if dataset is not None:
        teacher = from_flags.load_teacher(flags) if flags.teacher else None
        if needs_teacher(flags) and not teacher:
            teacher = training.build_teacher(dataset)
            rows["Teacher"] = f"{plan.describe_model(teacher)}, which would be trained first"
        elif needs_teacher(flags):
            from_flags.check_fits("teacher", flags.teacher, teacher, dataset)
            rows["Teacher"] = f"{plan.describe_model(teacher)}, from {flags.teacher}"
        student = _build_student(flags, dataset, seed)
        rows["Student"] = plan.describe_model(student)
        # Also refuses what does not go together.
        trainee = _build_trainee(flags, teacher, student, seed)
        if needs_teacher(flags):
            cached = "regions" if flags.cached_region_points else bool(flags.teacher_cache)
            cost = trainee.points_per_step(flags.batch_size, cached=cached)
            rows["Step"] = f"{cost.student} inputs to the student, {cost.teacher} to the teacher"
        schedule = from_flags.schedule(flags, dataset)
        rows["Training"] = f"{_NAMES[flags.method]}, {plan.describe_schedule(schedule, flags)}"
    names = "model.keras, config.json, history.json, log.csv and metrics.json"
    rows["Output"] = f"{names} in {plan.seed_folders(flags)}"
    if without_effect(flags):
        rows["Without effect"] = _without_effect(flags)
    return rows
