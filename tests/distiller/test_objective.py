"""Terms of an objective, what they need of a step, and what a step costs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, methods, models, regions, teacher_cache
from l2rkd_tf.distiller.objective import Objective
from l2rkd_tf.distiller.terms import Term
from l2rkd_tf.regions.points import count_split, draw_points


class Counting(keras.Model):
    """A linear model that counts the points it is run on."""

    def __init__(self, seed):
        super().__init__()
        self.dense = keras.layers.Dense(
            3, kernel_initializer=keras.initializers.RandomNormal(seed=seed)
        )
        self.points = 0

    def call(self, inputs, training=False):
        self.points += len(inputs) if tf.executing_eagerly() else 0
        return self.dense(inputs)


def data(count):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 5)).astype("float32"), rng.integers(0, 3, count)


def counting_distiller(**options):
    teacher, student = Counting(0), Counting(1)
    for model in (teacher, student):
        model(data(2)[0])
    distiller = L2RKDDistiller(teacher, student, region=regions.Segment(), seed=0, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    teacher.points = student.points = 0
    return distiller


OPTIONS = {
    "default": {},
    "three region points": {"num_region_points": 3},
    "half replaced": {"replace_fraction": 0.5},
    "hardly any replaced": {"replace_fraction": 0.01},
    "KD": {"region_weight": 0.0},
    "no KD": {"kd_weight": 0.0},
    "labels only": {"kd_weight": 0.0, "region_weight": 0.0},
    "interpolated": {"region_targets": "interpolated", "replace_fraction": 0.3},
    "interpolated, no KD": {"region_targets": "interpolated", "kd_weight": 0.0},
    "method at both": {
        "region_weight": 0.0,
        "distillation_losses": methods.DKD(),
        "distillation_losses_at": "both",
    },
    "method only": {
        "kd_weight": 0.0,
        "region_weight": 0.0,
        "distillation_losses": methods.DKD(),
    },
}


@pytest.mark.covering
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("batch_size", [1, 8, 9])
def test_points_per_step_are_those_that_a_step_runs(options, cached, batch_size):
    distiller = counting_distiller(**options)
    x, y = data(batch_size)
    teacher, student = distiller.get_teacher(), distiller.student
    if cached:
        x = teacher_cache.CachedInputs(x, np.asarray(teacher(x)))
        teacher.points = 0
    distiller.train_step((x, y))
    assert distiller.points_per_step(batch_size, cached) == (student.points, teacher.points)


@pytest.mark.parametrize("fraction", [0.001, 0.25, 0.5, 0.75, 0.999])
def test_points_are_counted_as_they_are_drawn(fraction):
    for batch_size in (1, 2, 3, 10, 50, 51):
        x = tf.zeros((batch_size, 2))
        drawn = draw_points(regions.Segment(), x, [0, 0], replace_fraction=fraction)
        found = len(drawn.at_data(x)), len(drawn.at_region(x))
        assert found == count_split(batch_size, fraction)


def test_the_only_example_of_a_batch_stays_and_has_a_region_point():
    """TensorFlow cannot run a convolution with batch normalization on no points at all."""
    teacher, student = (models.convnet((8, 8, 1), 3, widths=(4, 8)) for _ in range(2))
    distiller = L2RKDDistiller(
        teacher, student, kd_weight=0.0, region_weight=1.0, replace_fraction=0.9, seed=0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.01), loss)
    x = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((x, np.zeros(5))).batch(4)
    with pytest.warns(UserWarning, match="no partner"):
        distiller.fit(batches.skip(1), verbose=0)  # of one example
    history = distiller.fit(batches, verbose=0).history  # of four, then of one
    assert history["region_loss"][0] > 0 and history["hard_loss"][0] > 0
    assert distiller.points_per_step(1) == (2, 1)


class Norm(Term):
    """Mean square of the student's outputs at region points: needs no teacher."""

    name, weight, weight_tensor, at, needs_teacher = "norm_loss", 0.5, 0.5, "region", False

    def values(self, batch, teacher, student):
        assert teacher is None
        return tf.reduce_mean(student[""] ** 2, axis=-1)


class WithNorm(L2RKDDistiller):
    """A distiller with one more term: one more object."""

    def _make_objective(self, methods):
        return Objective([*super()._make_objective(methods).terms, Norm()])


def test_a_term_is_one_object_and_all_else_follows():
    teacher, student = (
        keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]) for _ in range(2)
    )
    options = {"kd_weight": 0.0, "region_weight": 0.0, "hard_weight": 1.0, "seed": 0}
    x, y = data(6)
    distiller = WithNorm(teacher, student, region=regions.Ball(1e-6), **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.0), loss)
    weights = np.linspace(0.0, 2.0, 6).astype("float32")
    logs = distiller.fit(
        x, y, sample_weight=weights, batch_size=4, verbose=0, shuffle=False
    ).history
    outputs = np.asarray(student(x), np.float64)
    expected = (weights * (outputs**2).mean(axis=-1)).mean()
    np.testing.assert_allclose(logs["norm_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], logs["hard_loss"][0] + 0.5 * expected, rtol=1e-5)
    assert distiller.points_per_step(4) == (8, 0)
    assert "norm_loss" not in distiller.evaluate(x, y, verbose=0, return_dict=True)
