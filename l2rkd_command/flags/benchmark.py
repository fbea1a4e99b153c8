"""Flags of `l2rkd benchmark`."""

from absl import flags

from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import objective, output, student, teacher, under

SUMMARY = "Compare four LiteRT files of a student: size, speed, accuracy and fidelity."
USAGE = """
l2rkd benchmark --student=runs/distill/seed0/model.keras
l2rkd benchmark --student=student.keras --teacher=teacher.keras --dataset=digits
"""
_HEADING = "Measures"


def define(FLAGS):
    """Defines the flags."""
    student.define(FLAGS)
    teacher.define(FLAGS, without="that of the student's run.")
    student.define_data(FLAGS)
    _define_measures(FLAGS)
    output.define(FLAGS, "runs/benchmark")
    student.define_intended_use(FLAGS)


def _define_measures(FLAGS):
    options = under(_HEADING, FLAGS)
    objective.define_region(FLAGS, "Region in which fidelity is measured.", _HEADING)
    flags.DEFINE_integer(
        "num_points", 256, "Test examples around which fidelity is measured.", 2, **options
    )
    flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads that a call may use.", **options)
    flags.DEFINE_integer("rounds", 1000, "Timed calls of each file.", lower_bound=1, **options)
    flags.DEFINE_integer("warm_up", 100, "Calls before these.", lower_bound=0, **options)
    student.define_draw_seed(FLAGS, _HEADING)
    checks.require(
        "threads",
        lambda words: checks.are_counts(words) and len(set(map(int, words))) == len(words),
        "must be different integers above 0",
        FLAGS,
    )


def check(FLAGS):
    """Completes the flags, and checks that they go together."""
    student.complete(FLAGS, [FLAGS.student] if FLAGS.student else [], teacher=True)
    output.check(FLAGS)
