"""What a step of `L2RKDDistiller` runs, and what it must never touch."""

import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    CallCountingModel,
    batches,
    compiled,
    convnet,
    cross_entropy,
    images,
)


def test_teacher_is_bit_identical_after_fit():
    x, y = images(12)
    teacher = convnet(0, 8)
    teacher.layers[0].trainable = False
    teacher.compile("adam", cross_entropy(), metrics=["accuracy"])
    teacher.evaluate(x, y, verbose=0)
    weights = [w.copy() for w in teacher.get_weights()]
    flags = [layer.trainable for layer in teacher.layers]
    metric = [float(m.result()) for m in teacher.metrics if m.name == "loss"]

    distiller = compiled(L2RKDDistiller(teacher, convnet(1)), metrics=["accuracy"])
    distiller.fit(batches(x, y), validation_data=(x, y), epochs=2, verbose=0)

    for before, after in zip(weights, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert teacher.trainable
    assert [float(m.result()) for m in teacher.metrics if m.name == "loss"] == metric


def test_evaluate_never_runs_the_teacher_and_changes_no_state():
    x, y = images(9)
    teacher = CallCountingModel(convnet(0, 8))
    distiller = compiled(L2RKDDistiller(teacher, convnet(1)), metrics=["accuracy"])
    before = [w.copy() for w in distiller.student.get_weights()]
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert teacher.calls == []
    for one, other in zip(before, distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    student = convnet(1)
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    expected = student.evaluate(x, y, verbose=0, return_dict=True)
    assert logs == {**expected, "hard_loss": expected["loss"]}


@pytest.mark.parametrize(
    ("arguments", "teacher_rows", "student_rows"),
    [
        ({}, [8], [8]),
        ({"num_region_points": 3}, [16], [16]),
        ({"replace_fraction": 0.5}, [4], [4]),
        ({"region_targets": "interpolated"}, [4], [8]),
        ({"region_weight": 0.0}, [4], [4]),
        ({"kd_weight": 0.0}, [4], [8]),
        ({"kd_weight": 0.0, "region_weight": 0.0}, [], [4]),
    ],
)
def test_rows_of_teacher_and_student_in_one_step(arguments, teacher_rows, student_rows):
    x, y = images(4)
    teacher, student = CallCountingModel(convnet(0, 8)), CallCountingModel(convnet(1))
    distiller = compiled(L2RKDDistiller(teacher, student, **arguments), run_eagerly=True)
    distiller.train_on_batch(x, y)
    assert teacher.calls == [(rows, False) for rows in teacher_rows]
    assert student.calls == [(rows, True) for rows in student_rows]


def test_batchnorm_statistics_move_exactly_once_a_step_over_the_joint_batch():
    x, y = images(8)
    student = convnet(1)
    normalization = student.layers[1]
    convolved = student.layers[0](x).numpy()
    distiller = compiled(
        L2RKDDistiller(convnet(0, 8), student, region=regions.Segment(radius=1e-6)), rate=0.0
    )
    distiller.train_on_batch(x, y)
    momentum = normalization.momentum
    mean = (1 - momentum) * convolved.mean(axis=(0, 1, 2))
    variance = momentum + (1 - momentum) * convolved.var(axis=(0, 1, 2))
    np.testing.assert_allclose(normalization.moving_mean, mean, atol=1e-6)
    np.testing.assert_allclose(normalization.moving_variance, variance, atol=1e-6)
