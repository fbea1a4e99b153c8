"""Flags of `l2rkd demo`."""

from absl import flags

from l2rkd_command.flags.groups import data, output, training, under

SUMMARY = "Distill a digit classifier from 100 images in minutes, and export it."
USAGE = "l2rkd demo"


def define(FLAGS):
    """Defines the flags."""
    data.define_fraction(FLAGS, 0.1)
    options = under(training.HEADING, FLAGS)
    flags.DEFINE_integer(
        "seed", 0, "Seed of the subset, initial weights and draws.", lower_bound=0, **options
    )
    flags.DEFINE_integer("epochs", 5, "Epochs of each student.", lower_bound=1, **options)
    flags.DEFINE_integer("steps_per_epoch", 800, "Steps of an epoch.", lower_bound=1, **options)
    flags.DEFINE_integer(
        "teacher_epochs", 40, "Epochs of the teacher, 20 steps each.", lower_bound=1, **options
    )
    output.define(FLAGS, "runs/demo")


def check(FLAGS):
    """Checks that the flags go together."""
    output.check(FLAGS)
