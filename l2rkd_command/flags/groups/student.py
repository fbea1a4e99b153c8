"""Flags of trained students, and what their runs answer in place of the command line."""

import os

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import data, under
from l2rkd_command.run_config import read_config

HEADING = "Student"


def define(FLAGS):
    """Defines the flag of one student."""
    flags.DEFINE_string(
        "student",
        None,
        "Keras file of the student. The config.json next to it answers for the flags of the data "
        "and the teacher that are not given.",
        **under(HEADING, FLAGS),
    )
    checks.require("student", os.path.isfile, "must be an existing .keras file", FLAGS)


def define_data(FLAGS):
    """Defines the flags of the data that a student's run answers for."""
    data.define(FLAGS)
    FLAGS.set_default("dataset", None)
    FLAGS["dataset"].help += " Not given: that of the student's run."
    flags.DEFINE_integer(
        "batch_size", 50, "Examples in a batch.", lower_bound=1, **under(data.HEADING, FLAGS)
    )


def define_draw_seed(FLAGS, heading):
    """Defines the flag of the seed of a measure."""
    flags.DEFINE_integer(
        "draw_seed", 0, "Seed of the random draws.", lower_bound=0, **under(heading, FLAGS)
    )


def define_intended_use(FLAGS):
    """Defines the flag of what only people know about a model."""
    flags.DEFINE_string(
        "intended_use", "", "What the model is for, in words, for its model card.",
        **under("Output", FLAGS),
    )  # fmt: skip


def complete(FLAGS, files, *, teacher=False):
    """Takes what is not on the command line from the runs that wrote students.

    Args:
        FLAGS: Parsed `absl.flags.FlagValues`.
        files: Keras files of the students.
        teacher: Whether the command needs `--teacher`.

    Raises:
        UsageError: If there is no student; if neither the command line nor a run says the dataset,
            or the teacher where it is needed; or if the runs differ in what the command line does
            not say.
    """
    if not files:
        raise UsageError("student", "must be given")
    configs = {file: read_config(file) for file in files}
    for name in (*data.NAMES, "teacher") if teacher else data.NAMES:
        if FLAGS[name].using_default_value:
            _take(FLAGS, name, configs)
    if not FLAGS.dataset:
        raise UsageError("dataset", f"must be given. {_without(files)} says which one")
    if teacher and not FLAGS.teacher:
        raise UsageError("teacher", f"must be given. {_without(files)} says which one")


def _take(FLAGS, name, configs):
    values = {file: config[name] for file, config in configs.items() if name in config}
    first = next(iter(values), None)
    if first is None:
        return
    for file, value in values.items():
        if value != values[first]:
            raise UsageError(
                name,
                f"must be given, since the students' runs differ in it: {values[first]} for "
                f"{first}, {value} for {file}",
            )
    try:
        setattr(FLAGS, name, values[first])
    except flags.IllegalFlagValueError as error:
        raise UsageError(
            name,
            f"must be given, since the run of {first} cannot answer for it: {values[first]} "
            "is not there any more, or cannot be used",
        ) from error


def _without(files):
    return f"No config.json next to {' or '.join(files)}"
