"""Flags that say what a student learns from its teacher."""

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under

HEADING = "Objective"


def define(FLAGS):
    """Defines the flags of the objective."""
    options = under(HEADING, FLAGS)
    flags.DEFINE_enum(
        "method",
        "l2rkd",
        ["none", "kd", "l2rkd"],
        "l2rkd: match the teacher on the training examples and in a region around each; kd: only "
        "on the examples; none: learn from the labels and --methods.",
        **options,
    )
    define_region(FLAGS, "Region of --method=l2rkd.")
    _define_points(FLAGS)
    flags.DEFINE_enum(
        "teacher_dtype",
        "float32",
        ["float32", "bfloat16", "float16"],
        "What the teacher computes in; half precision takes less time on processors made for it.",
        **options,
    )
    flags.DEFINE_float("temperature", 4.0, "Temperature of the softmax.", **options)
    _define_weights(FLAGS)
    _define_methods(FLAGS)
    checks.require("temperature", lambda value: value > 0, "must be above 0", FLAGS)


def _define_points(FLAGS):
    options = under(HEADING, FLAGS)
    flags.DEFINE_integer(
        "num_region_points", 1, "Region points for each example and step.", lower_bound=1, **options
    )
    flags.DEFINE_enum(
        "region_targets",
        "teacher",
        ["teacher", "interpolated"],
        "Targets at region points: the teacher's outputs there, or interpolated between its "
        "outputs on the examples, so that a step never runs the teacher if these are cached.",
        **options,
    )
    flags.DEFINE_float(
        "replace_fraction",
        None,
        "Fraction of each batch that is moved into its region, in place of extra region points: a "
        "step then costs as much as with --method=kd.",
        **options,
    )
    checks.require(
        "replace_fraction", lambda value: 0 < value < 1, "must be between 0 and 1", FLAGS
    )


def _define_weights(FLAGS):
    for name, default, meaning in (
        ("hard_weight", 0.1, "the labels' cross-entropy"),
        ("kd_weight", 0.9, "distillation on the training examples"),
        ("region_weight", 0.9, "distillation on the region points"),
    ):
        flags.DEFINE_float(
            name, default, f"Weight of {meaning}.", lower_bound=0.0, **under(HEADING, FLAGS)
        )


def _define_methods(FLAGS):
    options = under(HEADING, FLAGS)
    flags.DEFINE_list(
        "methods",
        [],
        f"Published methods to add: any of {', '.join(checks.METHODS)}. With --method=none the "
        "labels have weight 1.",
        **options,
    )
    flags.DEFINE_list(
        "method_weights", None, "Weight of each of --methods. Not given: those of their papers.",
        **options,
    )  # fmt: skip
    flags.DEFINE_list(
        "methods_at",
        ["data"],
        "Where --methods compare teacher and student: data, region or both; one word for all "
        "methods, or one for each.",
        **options,
    )
    checks.require("methods", checks.are_methods, "", FLAGS)
    checks.require("method_weights", checks.are_weights, "must be numbers from 0", FLAGS)
    checks.require(
        "methods_at",
        lambda words: set(words) <= {"data", "region", "both"},
        "must be data, region or both",
        FLAGS,
    )


def define_region(FLAGS, meaning, heading=HEADING, default=""):
    """Defines the flag of a region.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        meaning: What the region is for, a sentence.
        heading: Heading on the help page.
        default: Default of the flag.
    """
    flags.DEFINE_string(
        "region",
        default,
        f"{meaning} Written as patch:grid=8,radius=0.5 or segment:partner=\"nearest\" or "
        "simplex:num_partners=3 or ball:radius=0.2,norm=\"linf\"; patch + segment is a mixture, "
        "swap then ball:radius=0.2 one after the other."
        + ("" if default else " Empty: the library's default for the inputs."),
        **under(heading, FLAGS),
    )  # fmt: skip
    checks.require("region", checks.is_region, "must be as in patch:grid=4,radius=0.5", FLAGS)


def needs_teacher(FLAGS):
    """Whether a student learns from more than labels."""
    return FLAGS.method != "none" or bool(FLAGS.methods)


def without_effect(FLAGS):
    """Names of the flags that were given, but that nothing uses with this `--method`.

    They are told, not refused, so that one command line can compare methods.
    """
    names = []
    if FLAGS.method != "l2rkd":
        names += ["region_weight"]
    if FLAGS.method != "l2rkd" and not (FLAGS.methods and set(FLAGS.methods_at) - {"data"}):
        names += ["region", "num_region_points", "region_targets", "replace_fraction"]
    if FLAGS.method == "none":
        names += ["hard_weight", "kd_weight"]
    if not needs_teacher(FLAGS):
        names += ["teacher", "teacher_dtype", "temperature"]
    if not FLAGS.methods:
        names += ["methods_at"]
    return [name for name in names if FLAGS[name].present]


def check(FLAGS):
    """Checks that the flags go together."""
    count = len(FLAGS.methods)
    if FLAGS.method_weights and len(FLAGS.method_weights) != count:
        raise UsageError(
            "method_weights",
            f"must have one entry for each of --methods. Received: "
            f"--methods={','.join(FLAGS.methods)} "
            f"--method_weights={','.join(FLAGS.method_weights)}",
        )
    if len(FLAGS.methods_at) not in (1, count):
        raise UsageError(
            "methods_at",
            "must have one entry, or one entry for each of --methods. Received: "
            f"--methods={','.join(FLAGS.methods)} --methods_at={','.join(FLAGS.methods_at)}",
        )
