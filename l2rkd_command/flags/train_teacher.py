"""Flags of `l2rkd train-teacher`."""

from absl import flags

from l2rkd_command import recipes
from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import data, network, output, recipe, training, under

SUMMARY = "Train a teacher on all training data."
USAGE = """
l2rkd train-teacher --dataset=digits --output=runs/teacher
l2rkd train-teacher --dataset=FOLDER --image_size=96 --application=MobileNetV2 --pretrained
l2rkd train-teacher --recipe=cifar100_wrn_40_2 --download
"""


def define(FLAGS):
    """Defines the flags."""
    data.define(FLAGS)
    data.define_augment(FLAGS, "crop")
    _define_teacher(FLAGS)
    training.define_optimizer(FLAGS)
    training.define(FLAGS, epochs=40, steps_per_epoch=None, learning_rate=2e-3)
    training.define_seeds(FLAGS, "of initial weights, order and augmentation")
    recipe.define(FLAGS)
    output.define(FLAGS, "runs/teacher")
    output.define_tensorboard(FLAGS)


def _define_teacher(FLAGS):
    options = under("Teacher", FLAGS)
    flags.DEFINE_list(
        "widths", ["32", "64", "128"], "Channels of each block of a small convnet.", **options
    )
    flags.DEFINE_integer(
        "convs_per_block", 2, "Convolutions in each block of a small convnet.", 1, **options
    )
    network.define(FLAGS, "Teacher")
    flags.DEFINE_string(
        "application", "", "Name of a network in keras.applications to use instead.", **options
    )
    flags.DEFINE_boolean(
        "pretrained",
        False,
        "Whether --application starts with weights trained on ImageNet, which are downloaded.",
        **options,
    )
    flags.DEFINE_integer(
        "application_size",
        None,
        "Height and width that images are resized to inside --application. Not given: only those "
        "below 32 are resized, to 32.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_enum(
        "trained", "all", ["all", "head"], "Layers of --application that are trained.", **options
    )
    checks.require("widths", checks.are_counts, "must be integers above 0", FLAGS)


def check(FLAGS):
    """Completes the flags, and checks that they go together."""
    if recipe.apply(FLAGS, recipes.teachers()):
        FLAGS.set_default("output", recipes.output_folder(FLAGS.recipe))
    for name in ("pretrained", "application_size", "trained"):
        if FLAGS[name].value != FLAGS[name].default and not FLAGS.application:
            raise UsageError(name, "needs --application")
    for name in ("network", "mean"):
        if FLAGS[name].value and FLAGS.application:
            raise UsageError("application", f"must be empty if --{name} is given")
    output.check(FLAGS)
