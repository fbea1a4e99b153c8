"""Flags that say where results go and what is printed."""

import os

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags.groups import under

HEADING = "Output"


def define(FLAGS, output, overwrite=False):
    """Defines the flags.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        output: Default folder of the results.
        overwrite: Whether an existing folder is replaced by default.
    """
    options = under(HEADING, FLAGS)
    flags.DEFINE_string("output", output, "Folder for the results.", **options)
    flags.DEFINE_boolean(
        "overwrite", overwrite, "Whether to replace an output folder that exists.", **options
    )
    flags.DEFINE_boolean(
        "dry_run", False, "Print what would be done, write nothing, and exit.", **options
    )
    define_verbose(FLAGS)


def define_verbose(FLAGS):
    """Defines the flag that says how much is printed."""
    flags.DEFINE_integer(
        "verbose",
        1,
        "0: only the result; 1: steps and progress; 2: also the log of TensorFlow, and tracebacks "
        "of errors.",
        0,
        2,
        **under(HEADING, FLAGS),
    )


def define_tensorboard(FLAGS):
    """Defines the flag that says where TensorBoard finds a run."""
    flags.DEFINE_string(
        "tensorboard",
        "",
        "Folder for the TensorBoard logs of this run; logs of an earlier run there are deleted. "
        "Empty: none.",
        **under(HEADING, FLAGS),
    )


def check(FLAGS):
    """Refuses to replace an earlier run."""
    if not FLAGS.output:
        raise UsageError("output", "must be a folder. Received: --output=")
    if os.path.exists(FLAGS.output) and not FLAGS.overwrite:
        raise UsageError(
            "output",
            f"must be a new folder. Received: --output={FLAGS.output}, which exists. Choose "
            "another one, or pass --overwrite.",
        )
