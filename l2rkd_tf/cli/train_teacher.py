r"""Trains a teacher on all of a data set and saves it.

    python examples/train_teacher.py --output=runs/teacher
    python examples/train_teacher.py --recipe=cifar100_wrn_40_2 --data_dir=... --download

    python examples/train_teacher.py --dataset=... --application=MobileNetV2 --pretrained \
        --trained=head

With `--recipe`, settings of the literature: see `recipes.py`. With `--application`, a network of
`keras.applications`: see `applications.py`. With `--tensorboard=folder` the training can be
watched: see docs/tensorboard.md. The folder holds `model.keras`,
`config.json`, `history.json`, `log.csv` and `metrics.json`.
"""

import os

import applications
import boards
import keras
import recipe_flags
import recipes
import run_flags
import training
from absl import app, flags
from run_folder import check_new, run_folder, save_run

FLAGS = flags.FLAGS

run_flags.define_data_flags()
run_flags.define_schedule_flags(epochs=40, steps_per_epoch=None, learning_rate=2e-3)
run_flags.define_tensorboard_flag()
recipe_flags.define(augment="crop")
for module in (run_flags, recipe_flags):  # shown by --help, too
    flags.adopt_module_key_flags(module)
flags.DEFINE_list("widths", ["32", "64", "128"], "Channels of each block.")
flags.DEFINE_integer("convs_per_block", 2, "Convolutions in each block.", lower_bound=1)
flags.DEFINE_string("application", "", "Network of keras.applications instead, by its name.")
flags.DEFINE_boolean(
    "pretrained", False, "Whether --application begins with ImageNet's weights, which are fetched."
)
flags.DEFINE_integer(
    "application_size", None, "Side that images are resized to inside --application.", 1
)
flags.DEFINE_enum("trained", "all", ["all", "head"], "Layers of --application that are trained.")
flags.DEFINE_integer("seed", 0, "Seed of initial weights, order and augmentation.", lower_bound=0)
flags.DEFINE_string("output", "runs/teacher", "New folder for the results.")
flags.register_validator("widths", run_flags.are_counts, "must be integers above 0")
flags.register_validator(
    "application",
    lambda name: not name or name in applications.names(),
    f"must be one of {applications.names()}",
)
flags.register_multi_flags_validator(
    ["application", "pretrained", "application_size", "trained", "network", "mean"],
    lambda values: (
        not values["network"] and not values["mean"]
        if values["application"]
        else not values["pretrained"]
        and values["application_size"] is None
        and values["trained"] == "all"
    ),
    "--pretrained, --application_size and --trained need --application, which goes without "
    "--network and --mean",
)


def build_teacher(dataset):
    """A new teacher."""
    if FLAGS.application:
        return applications.build(
            FLAGS.application,
            tuple(dataset.element_spec[0].shape[1:]),
            len(dataset.class_names),
            pretrained=FLAGS.pretrained,
            size=FLAGS.application_size,
            trained=FLAGS.trained,
            seed=FLAGS.seed,
        )
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
    config = run_flags.all_flags() | {"steps_per_epoch": schedule["steps_per_epoch"]}
    trainee = training.build_trainee("none", None, teacher)
    history, step_ms = training.fit(
        trainee,
        train,
        **schedule,
        optimizer=recipe_flags.make_optimizer(),
        validation_data=validation if FLAGS.tensorboard else None,
        callbacks=[
            *boards.make_callbacks(FLAGS.tensorboard, config, trainee),
            keras.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
        ],
    )
    metrics = training.measure(teacher, validation, test, step_ms)
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
