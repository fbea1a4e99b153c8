"""Inputs on which student and teacher are evaluated in a training run, and the steps they allow."""

import math
import typing

import numpy as np

import l2rkd_tf


class PointsPerStep(typing.NamedTuple):
    """Inputs of a step.

    Attributes:
        student: Inputs of the student.
        teacher: Inputs of the teacher.
    """

    student: int
    teacher: int


def points_per_step(trainee, batch_size):
    """Inputs on which student and teacher are evaluated in a step.

    Args:
        trainee: `L2RKDDistiller`, or a model that is trained on its own.
        batch_size: Examples of the batch.
    """
    if not isinstance(trainee, l2rkd_tf.L2RKDDistiller):
        return PointsPerStep(batch_size, 0)
    return _points_of_distiller(trainee.get_config(), batch_size)


def _points_of_distiller(config, batch_size):
    methods_at = config["distillation_losses_at"]
    kd = batch_size if config["kd_weight"] or methods_at else 0
    if not config["region_weight"] and "both" not in methods_at and "region" not in methods_at:
        return PointsPerStep(batch_size, kd)
    replaced = config["replace_fraction"]
    if replaced is None:
        data, region = batch_size, batch_size * config["num_region_points"]
    else:
        region = min(max(int(batch_size * replaced + 0.5), 1), batch_size - 1)
        data = batch_size - region
    if config["region_targets"] == "interpolated":
        return PointsPerStep(data + region, batch_size)
    return PointsPerStep(data + region, region + (data if kd else 0))


def steps_of(study, method, trainee, length):
    """Steps of a method, so that no network sees more inputs than in plain distillation."""
    per_step = max(points_per_step(trainee, study.batch_size))
    return max(1, math.floor(study.steps * length * method.compute * study.batch_size / per_step))


def count_points(num_examples, steps, batch_size, trainee):
    """Inputs of student and teacher in a training run, exactly.

    Args:
        num_examples: Examples of a pass through the data; its last batch may be smaller.
        steps: Steps of the run.
        batch_size: Examples in a full batch.
        trainee: As for `points_per_step`.
    """
    sizes = np.diff([*range(0, num_examples, batch_size), num_examples])
    whole, rest = divmod(steps, len(sizes))
    per_step = {size: points_per_step(trainee, int(size)) for size in set(sizes)}
    each = np.array([per_step[size] for size in sizes])
    student, teacher = whole * each.sum(axis=0) + each[:rest].sum(axis=0)
    return {"steps": steps, "student_points": int(student), "teacher_points": int(teacher)}
