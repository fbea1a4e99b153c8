"""Weights of examples and penalties of the student, with the region on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import (
    FEATURES,
    REGION_POINTS,
    compiled,
    example_weights,
    fit_once,
    linear_pair,
    network,
    table,
)
from tests.helpers import (
    BATCH,
    CLASSES,
    GivenDraws,
    assert_equal_weights,
    cross_entropy,
    partner_draw,
)


def copies(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


class SquarePenalty(layers.Dense):
    """`Dense` with an `add_loss` equal to the regularizer `L2(0.05)`."""

    def call(self, inputs):
        self.add_loss(0.05 * keras.ops.sum(keras.ops.square(self.kernel)))
        return super().call(inputs)


@pytest.mark.covering
@pytest.mark.parametrize("arguments", REGION_POINTS)
@pytest.mark.parametrize(
    "penalized",
    [lambda: layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.05)),
     lambda: SquarePenalty(CLASSES)],
    ids=["regularizer", "add_loss"],
)  # fmt: skip
def test_penalties_of_the_student_add_their_gradient_once(penalized, arguments):
    x, y = table(5)
    teacher, student = linear_pair()
    weights = student.get_weights()
    with_penalty = keras.Sequential([keras.Input((FEATURES,)), penalized()])
    with_penalty.set_weights(weights)
    for model in (student, with_penalty):
        distiller = L2RKDDistiller(teacher, model, seed=0, **arguments)
        fit_once(compiled(distiller, rate=0.5), x, y)
    difference = with_penalty.get_weights()[0] - student.get_weights()[0]
    np.testing.assert_allclose(difference, -0.5 * 2 * 0.05 * weights[0], atol=1e-6)
    np.testing.assert_allclose(with_penalty.get_weights()[1], student.get_weights()[1], atol=1e-6)


@pytest.mark.parametrize("num_points", [1, 2])
def test_an_example_of_weight_zero_has_no_influence_on_any_term(num_points):
    rng = np.random.default_rng(1)
    x, y = table(BATCH)
    other_x, other_y = x.copy(), y.copy()
    other_x[0], other_y[0] = 100.0, (y[0] + 1) % CLASSES
    draws = []
    for _ in range(num_points):
        partners, weights, _ = partner_draw(rng, 1)
        # It is nobody's partner.
        draws.append(regions.Coefficients(tf.maximum(partners, 1), weights))
    weights = example_weights(BATCH) * (np.arange(BATCH) > 0)
    teacher, student = linear_pair()
    students = [student, copies(student)]
    for model, data in zip(students, [(x, y), (other_x, other_y)], strict=True):
        distiller = L2RKDDistiller(
            teacher,
            model,
            region=GivenDraws(regions.Segment(), draws),
            num_region_points=num_points,
        )
        compiled(distiller).train_on_batch(*data, sample_weight=weights)
    assert_equal_weights(*students)
    assert np.abs(students[0].get_weights()[0] - linear_pair()[1].get_weights()[0]).max() > 1e-3


@pytest.mark.parametrize("arguments", REGION_POINTS)
def test_class_weight_equals_the_sample_weights_it_stands_for(arguments):
    x, y = table()
    by_class = np.array([0.5, 1.0, 3.0], "float32")
    students = [network(1), network(1)]
    options = [{"class_weight": dict(enumerate(by_class))}, {"sample_weight": by_class[y]}]
    for student, option in zip(students, options, strict=True):
        distiller = compiled(L2RKDDistiller(network(0), student, seed=0, **arguments), rate=0.1)
        fit_once(distiller, x, y, **option)
    assert_equal_weights(*students, atol=1e-7)


def test_region_points_differ_between_batches_whose_gradients_are_accumulated():
    x, y = table()
    distiller = L2RKDDistiller(network(0), network(1), seed=0)
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=2)
    distiller.compile(optimizer, cross_entropy(), run_eagerly=True)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(4)]
    assert len({round(float(loss), 7) for loss in losses}) == 4
