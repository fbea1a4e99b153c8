"""Flags that say which network is trained."""

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under

_WIDTHS = (
    "Channels of each block of a small convnet. Empty: 16, doubled in each further block, with as "
    "many blocks as leave maps of at least 4 pixels: 16,32 for images of 8x8, 16,32,64,128 for "
    "32x32."
)


def define(FLAGS, heading):
    """Defines the flags.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        heading: "Teacher" or "Student".
    """
    options = under(heading, FLAGS)
    flags.DEFINE_string(
        "network",
        "",
        "Name of a standard architecture, such as wrn_16_2, resnet20 or vgg8. Empty: a small "
        "convnet.",
        **options,
    )
    flags.DEFINE_list(
        "mean", [], "Mean of each channel, which the network subtracts; images are in [0, 1].",
        **options,
    )  # fmt: skip
    flags.DEFINE_list(
        "std", [], "Standard deviation of each channel, by which the network divides.", **options
    )
    checks.require("mean", checks.are_numbers, "must be numbers", FLAGS)
    checks.require("std", checks.are_positive, "must be numbers above 0", FLAGS)


def define_student_widths(FLAGS):
    """Defines the flag that says how large a student is."""
    flags.DEFINE_list("widths", [], _WIDTHS, **under("Student", FLAGS))
    checks.require(
        "widths",
        lambda words: not words or checks.are_counts(words),
        "must be integers above 0",
        FLAGS,
    )


def check(FLAGS):
    """Checks that the flags go together."""
    if len(FLAGS.mean) != len(FLAGS.std):
        raise UsageError(
            "std",
            "must have as many numbers as --mean. "
            f"Received: --mean={','.join(FLAGS.mean)} --std={','.join(FLAGS.std)}",
        )
