"""Inputs on which student and teacher are evaluated in a training run, and the steps they allow."""

import math

import numpy as np

import l2rkd_tf


def points_per_step(trainee, batch_size):
    """Inputs on which student and teacher are evaluated in a step, a pair of numbers.

    Args:
        trainee: `L2RKDDistiller`, or a model that is trained without a teacher.
        batch_size: Examples of the batch.
    """
    if isinstance(trainee, l2rkd_tf.L2RKDDistiller):
        return tuple(trainee.points_per_step(batch_size))
    return batch_size, 0


def steps_of(study, trainee, length):
    """Steps of a method, so that no network sees more inputs than in plain distillation."""
    per_step = max(points_per_step(trainee, study.batch_size))
    return max(1, math.floor(study.steps * length * study.batch_size / per_step))


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
