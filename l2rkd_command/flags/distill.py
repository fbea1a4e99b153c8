"""Flags of `l2rkd distill`."""

import os

from absl import flags

from l2rkd_command import recipes
from l2rkd_command.errors import UsageError
from l2rkd_command.flags.groups import (
    data,
    devices,
    network,
    objective,
    output,
    recipe,
    teacher,
    training,
    under,
)

SUMMARY = "Train a small student to match a teacher around each training example."
USAGE = """
l2rkd distill --teacher=runs/teacher/seed0/model.keras --fraction=0.1 --seeds=0,1,2
l2rkd distill --methods=attention_transfer,dkd --methods_at=both
l2rkd distill --recipe=cifar100_wrn_40_2_to_wrn_16_2 --method=kd
l2rkd launch --num_workers=2 -- l2rkd distill --strategy=multi_worker
"""


def define(FLAGS):
    """Defines the flags."""
    data.define(FLAGS)
    data.define_fraction(FLAGS)
    data.define_augment(FLAGS, "none")
    teacher.define(FLAGS, without="one is trained first, and kept in the output folder.")
    flags.DEFINE_string(
        "teacher_cache",
        "",
        "Directory for cached teacher outputs, which later runs use again. Empty: no cache.",
        **under("Teacher", FLAGS),
    )
    flags.DEFINE_integer(
        "cached_region_points",
        0,
        "Points in the region of each example at which the teacher is run before training, so that "
        "no step runs it; 100, say. They are kept in --teacher_cache, if it is given. 0: each step "
        "draws new points, and runs the teacher there.",
        lower_bound=0,
        **under("Teacher", FLAGS),
    )
    network.define_student_widths(FLAGS)
    network.define(FLAGS, "Student")
    objective.define(FLAGS)
    training.define_optimizer(FLAGS)
    training.define(FLAGS, epochs=15, steps_per_epoch=100, learning_rate=1e-2)
    training.define_seeds(FLAGS, "of the subset of the data, initial weights, order and draws")
    flags.DEFINE_string(
        "backup",
        "",
        "Folder for backups during training: the same command resumes an interrupted run, and no "
        "other does. Empty: none.",
        **under(training.HEADING, FLAGS),
    )
    recipe.define(FLAGS)
    devices.define(FLAGS)
    output.define(FLAGS, "runs/distill")
    output.define_tensorboard(FLAGS)


def check(FLAGS):
    """Completes the flags, and checks that they go together."""
    _apply_recipe(FLAGS)
    objective.check(FLAGS)
    if FLAGS.teacher_cache and not objective.needs_teacher(FLAGS):
        raise UsageError("teacher_cache", "needs a --method or --methods that use a teacher")
    if FLAGS.cached_region_points:
        _check_region_points(FLAGS)
    output.check(FLAGS)


def _check_region_points(FLAGS):
    if FLAGS.method != "l2rkd":
        raise UsageError("cached_region_points", "needs --method=l2rkd")
    if FLAGS.region_targets != "teacher":
        raise UsageError("cached_region_points", "needs --region_targets=teacher")
    if FLAGS.num_region_points != 1:
        raise UsageError("cached_region_points", "needs --num_region_points=1")


def _apply_recipe(FLAGS):
    chosen = recipe.apply(FLAGS, recipes.distillations())
    if chosen is None:
        return
    words = (FLAGS.recipe, FLAGS.method, *sorted(FLAGS.methods))
    FLAGS.set_default("output", recipes.output_folder(*words))
    if objective.needs_teacher(FLAGS) and not FLAGS.teacher:
        if not os.path.isfile(chosen.teacher_file):
            raise UsageError(
                "teacher",
                f"must be given, or trained first by l2rkd train-teacher "
                f"--recipe={chosen.teacher_recipe}, since there is no file {chosen.teacher_file}",
            )
        FLAGS.set_default("teacher", chosen.teacher_file)
