"""Flags of `l2rkd export`."""

from absl import flags

from l2rkd_command.flags.groups import output, student, under

SUMMARY = "Export a student as a SavedModel and a LiteRT file, checked on real data."
USAGE = "l2rkd export --student=runs/distill/seed0/model.keras --quantization=int8"


def define(FLAGS):
    """Defines the flags."""
    student.define(FLAGS)
    student.define_data(FLAGS)
    flags.DEFINE_enum(
        "quantization",
        "none",
        ["none", "dynamic", "float16", "int8"],
        "Quantization of the LiteRT file. int8 is calibrated on training examples.",
        **under("Export", FLAGS),
    )
    flags.DEFINE_float(
        "min_top1_agreement",
        None,
        "Smallest accepted fraction of examples that the LiteRT file classifies as the student "
        "does. Default: 0.98, and 0.95 for int8.",
        lower_bound=0.0,
        upper_bound=1.0,
        **under("Export", FLAGS),
    )
    output.define(FLAGS, "runs/export")
    student.define_intended_use(FLAGS)


def check(FLAGS):
    """Completes the flags, and checks that they go together."""
    student.complete(FLAGS, [FLAGS.student] if FLAGS.student else [])
    output.check(FLAGS)
