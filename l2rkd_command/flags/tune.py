"""Flags of `l2rkd tune`."""

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import data, network, objective, output, teacher, training, under

SUMMARY = "Search for radius, region weight and temperature on a validation split."
USAGE = """
l2rkd tune --teacher=runs/teacher/seed0/model.keras --trials=20
l2rkd tune --teacher=... --region=ball --radius=0.01,0.5 --temperature=4
"""
#: Flags that hold the smallest and the largest value of what is tuned.
TUNED = ("radius", "region_weight", "temperature")
_HEADING = "Search"


def define(FLAGS):
    """Defines the flags."""
    data.define(FLAGS)
    data.define_fraction(FLAGS)
    teacher.define(FLAGS)
    network.define_student_widths(FLAGS)
    _define_search(FLAGS)
    training.define(FLAGS, epochs=15, steps_per_epoch=100, learning_rate=1e-2)
    training.define_seeds(FLAGS, "a trial's accuracy is the mean over them")
    output.define(FLAGS, "runs/tune")


def _define_search(FLAGS):
    options = under(_HEADING, FLAGS)
    objective.define_region(FLAGS, "Region without its radius.", _HEADING, "patch:grid=4")
    for name, default, meaning in (
        ("radius", ["0.25", "1"], "radius of the region"),
        ("region_weight", ["0.3", "3"], "weight of distillation on the region points"),
        ("temperature", ["1", "8"], "temperature of the softmax"),
    ):
        text = f"Smallest and largest {meaning} to try, or one value to keep."
        flags.DEFINE_list(name, default, text, **options)
        checks.require(name, _is_range, "must be one or two numbers above 0, in order", FLAGS)
    flags.DEFINE_integer("trials", 20, "Settings to try.", lower_bound=1, **options)
    flags.DEFINE_integer("search_seed", 0, "Seed of the search.", lower_bound=0, **options)
    flags.DEFINE_string(
        "backup",
        "",
        "Folder for the trials: the same command resumes an interrupted search. Empty: none.",
        **options,
    )


def check(FLAGS):
    """Checks that the flags go together."""
    if not FLAGS.teacher:
        raise UsageError("teacher", "must be given")
    if not FLAGS.splits[1]:
        raise UsageError("splits", "must have a second one, on which trials are measured")
    if not FLAGS.region or _has_radius(FLAGS.region):
        raise UsageError("region", "must be a region without a radius, which --radius tunes")
    output.check(FLAGS)


def with_radius(region, radius):
    """The text of a region with a radius, which all parts of a mixture share."""

    def with_it(one):
        return f"{one}{',' if ':' in one else ':'}radius={radius!r}"

    parts = [[one.strip() for one in part.split(" then ")] for part in region.split("+")]
    return " + ".join(" then ".join(map(with_it, part)) for part in parts)


def _has_radius(region):
    return any("radius" in given for part in checks.read_region(region) for _, given in part)


def _is_range(words):
    if not checks.are_positive(words) or len(words) not in (1, 2):
        return False
    values = [float(word) for word in words]
    return values == sorted(values)
