"""Flags that say where results go and what is printed."""

import fnmatch
import os
import pathlib

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags.groups import under

HEADING = "Output"

# What commands write into an output folder: only a folder of such is ever replaced.
_WRITTEN = (
    "seed[0-9]*", "teacher", "search", "tuning.json", "student_saved_model", "student*.tflite",
    "student*.json", "model_card.md", "table.md", "results.json", "measures.json", "report.html",
    "decision_map.png", "fidelity.png", "linear*.png", "training_*.png", "benchmark.png",
)  # fmt: skip
# Flags of folders that a command makes.
_FOLDERS = ("output", "tensorboard", "teacher_cache", "backup")
# Flags of what a command reads, or writes outside of its output folder.
_OTHERS = (
    "student", "teacher", "dataset", "data_dir", "teacher_cache", "backup", "tensorboard",
)  # fmt: skip


def define(FLAGS, output):
    """Defines the flags.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        output: Default folder of the results.
    """
    options = under(HEADING, FLAGS)
    flags.DEFINE_string("output", output, "Folder for the results.", **options)
    flags.DEFINE_boolean(
        "overwrite", False, "Whether to replace an output folder of an earlier run.", **options
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
    """Refuses to replace an earlier run unasked, and anything else at all."""
    received = f"Received: --output={FLAGS.output}"
    if not FLAGS.output:
        raise UsageError("output", f"must be a folder. {received}")
    for name in _FOLDERS:
        _check_folder(name, FLAGS[name].value if name in FLAGS else "")
    if not os.path.lexists(FLAGS.output):
        return
    if not FLAGS.overwrite:
        raise UsageError(
            "output",
            f"must be a new folder. {received}, which exists. Choose another one, or pass "
            "--overwrite.",
        )
    foreign = sorted(filter(_is_foreign, os.listdir(FLAGS.output)))
    if foreign:
        raise UsageError(
            "output",
            f"must be a new folder, or one that holds only what a command wrote. {received}, with "
            f"{', '.join(foreign[:3])} in it. Choose another one.",
        )
    if _is_within(os.getcwd(), FLAGS.output):
        raise UsageError("output", f"must not hold the working directory. {received}")
    for name in _OTHERS:
        _check_outside(FLAGS, name)


def _check_folder(name, folder):
    """Refuses a folder that cannot be made, since a file is in its place or above it."""
    path = pathlib.Path(folder).absolute()
    lowest = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if folder and not lowest.is_dir():
        raise UsageError(
            name, f"must be a folder. Received: --{name}={folder}, but {lowest} is not one."
        )


def _is_foreign(name):
    return not any(fnmatch.fnmatchcase(name, pattern) for pattern in _WRITTEN)


def _check_outside(FLAGS, name):
    """Refuses to replace a folder with something in it that a flag names."""
    value = (FLAGS[name].value if name in FLAGS else None) or ()
    words = value.split(",") if isinstance(value, str) else value
    for path in (word.rpartition("=")[2] for word in words):
        if os.path.exists(path) and _is_within(path, FLAGS.output):
            raise UsageError(
                "output",
                f"must not hold --{name}={path}, since --overwrite replaces the folder. "
                f"Received: --output={FLAGS.output}. Choose another one.",
            )


def _is_within(path, folder):
    return pathlib.Path(path).resolve().is_relative_to(pathlib.Path(folder).resolve())
