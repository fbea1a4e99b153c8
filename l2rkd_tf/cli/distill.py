r"""Distils a teacher into a small student, once for each seed.

    python examples/distill.py --method=l2rkd --fraction=0.1 --seeds=0,1,2
    python examples/distill.py --methods=attention_transfer,dkd --methods_at=both
    python examples/distill.py --recipe=cifar100_wrn_40_2_to_wrn_16_2 --method=kd

The teacher is read from `--teacher`, or trained first. Each seed gets a folder with
`model.keras` (the student), `config.json`, `history.json`, `log.csv` and `metrics.json`.
Regions are written as `patch`, `patch:grid=8,radius=0.5`, `segment:partner="nearest"`,
`simplex:num_partners=3` or `ball:radius=0.2,norm="linf"`; `patch + segment` is a mixture.
`--methods` adds existing methods to L2RKD or KD; with `--method=none` they stand alone beside the
labels, whose weight is then 1.

With `--recipe`, settings of the literature: see `recipes.py`. The teacher is then what
train_teacher.py has made of its own recipe.

`--teacher=a.keras,b.keras` is an ensemble: the mean of the probabilities (`ensembles.py`).

With `--tensorboard=folder` the training can be watched: see docs/tensorboard.md.

With `--teacher_cache` the teacher is asked once for each training example, also over several runs;
with `--region_targets=interpolated` beside it, a step asks no teacher at all.

On several GPUs: `--strategy=mirrored`. On several workers, here two on this machine:

    python examples/launch_workers.py --num_workers=2 -- \
        python examples/distill.py --strategy=multi_worker
"""

import os
import shutil
import tempfile

import boards
import ensembles
import keras
import numpy as np
import recipe_flags
import recipes
import run_flags
import tensorflow as tf
import training
from absl import app, flags
from run_folder import check_new, run_folder, save_run

import l2rkd_tf

FLAGS = flags.FLAGS

run_flags.define_data_flags()
run_flags.define_schedule_flags(epochs=15, steps_per_epoch=100, learning_rate=1e-2)
run_flags.define_strategy_flags()
run_flags.define_widths_flag()
run_flags.define_tensorboard_flag()
recipe_flags.define(augment="none")
for module in (run_flags, recipe_flags):  # shown by --help, too
    flags.adopt_module_key_flags(module)
flags.DEFINE_enum("method", "l2rkd", training.METHODS, "How the student is trained.")
flags.DEFINE_list("methods", [], f"Methods to add, among {sorted(run_flags.METHODS)}.")
flags.DEFINE_list("method_weights", None, "A weight for each; empty for those of their papers.")
flags.DEFINE_list(
    "methods_at", ["data"], "data, region or both points, for all methods or for each."
)
flags.DEFINE_string(
    "teacher",
    "",
    "Keras file of the teacher, or files of several; one is trained first when empty.",
)
flags.DEFINE_float("fraction", 1.0, "Part of the training data to use.", 0.0, 1.0)
flags.DEFINE_list("seeds", ["0"], "Seeds: of few-shot subset, initial weights, order and draws.")
flags.DEFINE_string("region", "", "Region of --method=l2rkd; empty for the library's default.")
flags.DEFINE_enum(
    "region_targets", "teacher", ["teacher", "interpolated"], "Targets at region points."
)
flags.DEFINE_float("temperature", 4.0, "Temperature.")
flags.DEFINE_float("hard_weight", 0.1, "Weight of the labels.", lower_bound=0.0)
flags.DEFINE_float("kd_weight", 0.9, "Weight of plain distillation.", lower_bound=0.0)
flags.DEFINE_float("region_weight", 0.9, "Weight of the regions.", lower_bound=0.0)
flags.DEFINE_integer("num_region_points", 1, "Region points beside each example.", lower_bound=1)
flags.DEFINE_float(
    "replace_fraction",
    None,
    "Part of each batch that moves into its region instead, at the cost of plain distillation.",
)
flags.DEFINE_enum(
    "mixed_precision",
    "none",
    ["none", "mixed_float16", "mixed_bfloat16"],
    "Precision of the student.",
)
flags.DEFINE_enum("jit_compile", "auto", ["auto", "on", "off"], "Whether XLA compiles the steps.")
flags.DEFINE_string("output", "runs/distill", "New folder for the results.")
flags.DEFINE_string(
    "backup", "", "Folder of backups; a killed run that is started again goes on from there."
)
flags.DEFINE_string(
    "teacher_cache", "", "Folder for what the teacher says of the training examples, if any."
)
flags.register_validator("seeds", run_flags.are_seeds, "must be different integers from 0")
flags.register_validator("region", run_flags.is_region, "must be as in 'patch:grid=4,radius=0.5'")
flags.register_validator("methods", run_flags.are_methods)
flags.register_validator(
    "method_weights",
    lambda words: not words or run_flags.are_weights(words),
    "must be numbers from 0",
)
flags.register_validator(
    "methods_at",
    lambda words: set(words) <= {"data", "region", "both"},
    "must be data, region or both",
)
flags.register_multi_flags_validator(
    ["methods", "method_weights", "methods_at"],
    lambda values: (
        len(values["method_weights"] or values["methods"]) == len(values["methods"])
        and len(values["methods_at"]) in (1, len(values["methods"]))
    ),
    "--method_weights and --methods_at must have one entry for each of --methods",
)
flags.register_multi_flags_validator(
    ["teacher_cache", "method", "methods"],
    lambda values: (
        not values["teacher_cache"] or values["method"] != "none" or bool(values["methods"])
    ),
    "--teacher_cache needs a method that asks the teacher",
)
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")
flags.register_validator("temperature", lambda value: value > 0, "must be above 0")
flags.register_validator(
    "replace_fraction", lambda value: value is None or 0 < value < 1, "must be between 0 and 1"
)
flags.register_validator(
    "teacher",
    lambda paths: not paths or all(map(os.path.isfile, paths.split(","))),
    "must be an existing .keras file, or several",
)


def needs_teacher():
    """Whether the student learns from more than labels."""
    return FLAGS.method != "none" or bool(FLAGS.methods)


def apply_recipe():
    """Takes from the recipe, if there is one, what no flag on the command line says."""
    recipe = recipe_flags.apply(recipes.distillations())
    if recipe is None:
        return
    FLAGS.set_default(
        "output", recipes.output_folder(FLAGS.recipe, FLAGS.method, *sorted(FLAGS.methods))
    )
    if needs_teacher() and not FLAGS.teacher:
        if not os.path.isfile(recipe.teacher_file):
            raise ValueError(
                f"`teacher` must be trained first, by train_teacher.py --recipe="
                f"{recipe.teacher_recipe}, or be passed as --teacher. Received: no --teacher, and "
                f"there is no file {recipe.teacher_file!r}"
            )
        FLAGS.set_default("teacher", recipe.teacher_file)


def get_teacher():
    """The teacher from its file, an ensemble from several, or a new one trained on all data."""
    if FLAGS.teacher:
        return ensembles.load(FLAGS.teacher.split(","))
    print("No --teacher given: training one.")
    teacher, _, metrics = training.train_teacher(
        FLAGS.dataset,
        batch_size=FLAGS.batch_size,
        data_options=run_flags.data_flags(),
        verbose=FLAGS.verbose,
    )
    print(f"The teacher's test accuracy: {metrics['test']['accuracy']:.2%}")
    return teacher


def distiller_options(seed):
    """Arguments of `L2RKDDistiller` from the flags."""
    names = ["temperature", "hard_weight", "kd_weight", "region_weight", "num_region_points"]
    names += ["replace_fraction", "region_targets"]
    options = {name: FLAGS[name].value for name in names}
    if FLAGS.methods:
        options["distillation_losses"] = run_flags.make_methods(FLAGS.methods)
        if FLAGS.method_weights:
            options["distillation_loss_weights"] = list(map(float, FLAGS.method_weights))
        at = FLAGS.methods_at
        options["distillation_losses_at"] = at[0] if len(at) == 1 else at
    return options | {"region": run_flags.parse_region(FLAGS.region), "seed": seed}


def build_student(dataset, seed):
    """A new student in the wanted precision."""
    policy = "float32" if FLAGS.mixed_precision == "none" else FLAGS.mixed_precision
    keras.config.set_dtype_policy(policy)
    widths = run_flags.student_widths(dataset)
    student = training.build_network(dataset, widths, seed, **recipe_flags.network_flags())
    keras.config.set_dtype_policy("float32")
    return student


def backup_folder(seed):
    """Where the backups of a student are until all students are done."""
    return os.path.join(FLAGS.backup, f"backup_of_seed{seed}")


def board_folder(seed, folder):
    """Where the board of a student is, if there is one; only the first worker's is kept."""
    if not FLAGS.tensorboard:
        return ""
    kept = run_flags.is_chief(tf.distribute.get_strategy())
    return os.path.join(FLAGS.tensorboard if kept else folder, f"seed{seed}")


def callbacks(train, validation, trainee, config, folder):
    """What watches a training."""
    seed = config["seed"]
    watching = [
        *boards.make_callbacks(board_folder(seed, folder), config, trainee, validation),
        keras.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
    ]
    if not FLAGS.backup:
        return watching
    return [*watching, l2rkd_tf.callbacks.TrainingBackup(backup_folder(seed), train, keep=True)]


def run_seed(teacher, seed, folder):
    """Trains one student and saves it; returns its metrics."""
    train, validation, test = training.load_splits(
        FLAGS.dataset,
        FLAGS.batch_size,
        fraction=FLAGS.fraction,
        seed=seed,
        augment=recipe_flags.augment(),
        **run_flags.data_flags(),
    )
    student = build_student(train, seed)
    trainee = training.build_trainee(FLAGS.method, teacher, student, **distiller_options(seed))
    if FLAGS.methods:
        for name, (of_teacher, of_student) in trainee.distillation_loss_layers.items():
            print(f"{name}: {of_teacher or 'outputs'} of the teacher, {of_student or 'outputs'}")
    schedule = run_flags.schedule_flags(train)
    config = run_flags.all_flags() | {"steps_per_epoch": schedule["steps_per_epoch"], "seed": seed}
    if FLAGS.teacher_cache:
        train = l2rkd_tf.teacher_cache.cache_teacher(
            train, teacher, FLAGS.teacher_cache, seed=seed, verbose=FLAGS.verbose > 0
        )
    history, step_ms = training.fit(
        trainee,
        train,
        **schedule,
        optimizer=recipe_flags.make_optimizer(),
        validation_data=validation,
        jit_compile={"on": True, "off": False}.get(FLAGS.jit_compile, "auto"),
        callbacks=callbacks(train, validation, trainee, config, folder),
    )
    metrics = training.measure(student, validation, test, step_ms)
    save_run(folder, student, config, history, metrics)
    return metrics


def run_seeds():
    """Trains a student for each seed; the first worker of several reports and keeps them."""
    strategy = tf.distribute.get_strategy()
    chief = run_flags.is_chief(strategy)
    if not chief:
        FLAGS.verbose = 0
    teacher = get_teacher() if needs_teacher() else None
    accuracies = []
    # All workers must save, since to read weights may take all of them.
    kept = run_folder(FLAGS.output, FLAGS.overwrite) if chief else tempfile.TemporaryDirectory()
    with kept as folder:
        for seed in map(int, FLAGS.seeds):
            seed_folder = os.path.join(folder, f"seed{seed}")
            os.makedirs(seed_folder)
            accuracies.append(run_seed(teacher, seed, seed_folder)["test"]["accuracy"])
    for seed in FLAGS.seeds if FLAGS.backup else ():
        shutil.rmtree(backup_folder(seed), ignore_errors=True)
    if chief:
        report(accuracies)


def report(accuracies):
    """Prints the mean test accuracy of the last epoch."""
    mean, interval = training.mean_and_interval(100 * np.array(accuracies))
    spread = "" if np.isnan(interval) else f" ± {interval:.2f} (95 % interval of the mean)"
    print(
        f"{FLAGS.method}, {FLAGS.fraction:.0%} of {FLAGS.dataset}, {len(accuracies)} seeds: "
        f"test accuracy {mean:.2f} %{spread}; students in {FLAGS.output}"
    )


def main(argv):
    """Distils one student for each seed and prints the test accuracy of the last epoch."""
    run_flags.start(argv)
    apply_recipe()
    check_new(FLAGS.output, FLAGS.overwrite)
    with run_flags.make_strategy().scope():
        run_seeds()


if __name__ == "__main__":
    app.run(main)
