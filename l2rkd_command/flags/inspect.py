"""Flags of `l2rkd inspect`."""

import os

from absl import flags

from l2rkd_command.flags.groups import objective, output, student, teacher, under

SUMMARY = "Compare students with their teacher near the test examples, in an HTML report."
USAGE = """
l2rkd inspect --student=runs/distill/seed0/model.keras
l2rkd inspect --student=KD=runs/kd/seed0/model.keras,L2RKD=runs/l2rkd/seed0/model.keras
"""
TEACHER = "teacher"
_HEADING = "Measures"


def define(FLAGS):
    """Defines the flags."""
    flags.DEFINE_list(
        "student",
        None,
        "Keras files of students, each with or without a name in front: NAME=FILE,NAME=FILE. "
        "Without one it is the name of the folder. The config.json next to them answers for the "
        "flags of the data and the teacher that are not given.",
        **under(student.HEADING, FLAGS),
    )
    flags.register_validator("student", _are_students, flag_values=FLAGS)
    teacher.define(FLAGS, without="that of the students' runs.")
    student.define_data(FLAGS)
    options = under(_HEADING, FLAGS)
    objective.define_region(FLAGS, "Region in which fidelity is measured.", _HEADING)
    flags.DEFINE_integer(
        "num_points", 256, "Test examples to start from: the first ones of the split.", 3, **options
    )
    flags.DEFINE_integer(
        "resolution", 120, "Points along each side of the decision map.", 2, **options
    )
    student.define_draw_seed(FLAGS, _HEADING)
    output.define(FLAGS, "runs/inspect")


def check(FLAGS):
    """Completes the flags, and checks that they go together."""
    student.complete(FLAGS, [*read_students(FLAGS.student or []).values()], teacher=True)
    output.check(FLAGS)


def read_students(words):
    """Keras files by the students' names, from `NAME=FILE` or `FILE`.

    Args:
        words: Value of `--student`, a list.

    Returns:
        A dict. The name of a `FILE` is that of its folder, if it is called `model.keras`, and else
        its own without the ending.

    Raises:
        ValueError: If a file does not exist, or two students have one name.
    """
    students = {}
    for word in words:
        name, separator, path = word.partition("=")
        if not separator or os.path.isfile(word):
            name, path = _default_name(word), word
        if not os.path.isfile(path):
            raise ValueError(f"must be existing .keras files. Received: {path!r}, which is not one")
        if not name or name in (TEACHER, *students):
            raise ValueError(f"must be NAME=FILE with other names: the name {name!r} is taken")
        students[name] = path
    return students


def _default_name(path):
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.basename(folder) if name == "model.keras" else os.path.splitext(name)[0]


def _are_students(words):
    try:
        read_students(words or [])
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True
