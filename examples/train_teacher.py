"""Trains a teacher on all of a data set and saves it.

    python examples/train_teacher.py --output=runs/teacher
    python examples/train_teacher.py --recipe=cifar100_wrn_40_2 --data_dir=... --download

With `--recipe`, settings of the literature: see `recipes.py`. The folder holds `model.keras`,
`config.json`, `history.json`, `log.csv` and `metrics.json`.
"""

import os

import keras
import recipe_flags
import recipes
import run_flags
import training
from absl import app, flags
from run_folder import check_new, run_folder, save_run

FLAGS = flags.FLAGS

run_flags.define_data_flags()
run_flags.define_schedule_flags(epochs=40, steps_per_epoch=20, learning_rate=2e-3)
recipe_flags.define(augment="crop")
for module in (run_flags, recipe_flags):  # shown by --help, too
    flags.adopt_module_key_flags(module)
flags.DEFINE_list("widths", ["32", "64", "128"], "Channels of each block.")
flags.DEFINE_integer("convs_per_block", 2, "Convolutions in each block.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of initial weights, order and augmentation.", lower_bound=0)
flags.DEFINE_string("output", "runs/teacher", "New folder for the results.")
flags.register_validator("widths", run_flags.are_counts, "must be integers above 0")


def build_teacher(dataset):
    """A new teacher."""
    widths = [int(width) for width in FLAGS.widths]
    network = recipe_flags.network_flags()
    return training.build_network(dataset, widths, FLAGS.seed, FLAGS.convs_per_block, **network)


def run(folder):
    """Trains, evaluates and saves the teacher; returns its metrics."""
    train, validation, test = training.load_splits(
        FLAGS.dataset,
        FLAGS.batch_size,
        seed=FLAGS.seed,
        augment=recipe_flags.augment(),
        **run_flags.data_flags(),
    )
    teacher = build_teacher(train)
    schedule = run_flags.schedule_flags(train)
    history, step_ms = training.fit(
        training.build_trainee("none", None, teacher),
        train,
        **schedule,
        optimizer=recipe_flags.make_optimizer(),
        callbacks=[keras.callbacks.CSVLogger(os.path.join(folder, "log.csv"))],
    )
    metrics = training.measure(teacher, validation, test, step_ms)
    config = run_flags.all_flags() | {"steps_per_epoch": schedule["steps_per_epoch"]}
    save_run(folder, teacher, config, history, metrics)
    return metrics


def main(argv):
    """Trains a teacher and prints its test accuracy after the last epoch."""
    run_flags.start(argv)
    if recipe_flags.apply(recipes.teachers()):
        FLAGS.set_default("output", recipes.output_folder(FLAGS.recipe))
    check_new(FLAGS.output, FLAGS.overwrite)
    with run_folder(FLAGS.output, FLAGS.overwrite) as folder:
        metrics = run(folder)
    print(f"Teacher in {FLAGS.output}: test accuracy {metrics['test']['accuracy']:.2%}")


if __name__ == "__main__":
    app.run(main)
