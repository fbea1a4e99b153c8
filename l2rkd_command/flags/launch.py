"""Flags of `l2rkd launch`."""

from absl import flags

from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under

SUMMARY = "Start several copies of a command on this machine, as workers that train together."
USAGE = "l2rkd launch --num_workers=2 -- l2rkd distill --strategy=multi_worker"


def define(FLAGS):
    """Defines the flags."""
    options = under("Workers", FLAGS)
    flags.DEFINE_integer("num_workers", 2, "Copies to start.", lower_bound=1, **options)
    flags.DEFINE_float(
        "grace_seconds", 10.0, "Time between asking processes to end and killing them.", **options
    )
    flags.DEFINE_float(
        "timeout_seconds", None, "Time after which all are ended. Not given: no limit.", **options
    )
    checks.require(
        "grace_seconds", lambda value: 0 <= value < 1e9, "must be a number of seconds from 0", FLAGS
    )
    checks.require(
        "timeout_seconds",
        lambda value: 0 < value < 1e9,
        "must be a number of seconds above 0",
        FLAGS,
    )


def check(FLAGS):
    """Flags of workers go together in any way."""
