"""Linearity gaps and distances of input Jacobians."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry
from tests.geometry.helpers import assert_same, curved, linear, numbers, stderr

# Linearity.


def test_a_linear_model_has_no_gap():
    gap = geometry.linearity_gap(linear(), numbers(50, 4), numbers(50, 4, seed=1), batch_size=8)
    np.testing.assert_allclose(gap.relative, np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(gap.absolute, np.zeros(3), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_gap_of_a_parabola(batch_size):
    # Of x^2 the gap is f (1 - f) (x - partner)^2, here in two coordinates.
    square = keras.Sequential([keras.Input((2,)), keras.layers.Activation(tf.square)])
    x, partners, fractions = numbers(10, 2), numbers(10, 2, seed=1), np.array([0.0, 0.2, 0.5, 1.0])
    steps = np.linalg.norm((x.astype("float64") - partners) ** 2, axis=1)
    changes = np.linalg.norm(x.astype("float64") ** 2 - partners.astype("float64") ** 2, axis=1)
    expected = (fractions * (1.0 - fractions))[:, None] * steps
    arguments = square, x, partners, fractions
    gaps = geometry.linearity_gaps(*arguments, batch_size=batch_size)
    assert_same(gaps, (expected, changes), 1e-5)
    gap = geometry.linearity_gap(*arguments, batch_size=batch_size)
    np.testing.assert_allclose(gap.absolute, expected.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gap.absolute_stderr, stderr(expected.T), rtol=1e-4, atol=1e-6)
    relative = expected.mean(axis=1) / changes.mean()
    np.testing.assert_allclose(gap.relative, relative, rtol=1e-5, atol=1e-6)
    errors = stderr(expected.T - relative * changes[:, None]) / changes.mean()
    np.testing.assert_allclose(gap.relative_stderr, errors, rtol=1e-4, atol=1e-6)


def test_partners_in_the_same_place_have_no_relative_gap():
    x = numbers(5, 4)
    gap = geometry.linearity_gap(curved(), x, x)
    np.testing.assert_allclose(gap.absolute, np.zeros(3), atol=1e-6)
    assert np.isnan(gap.relative).all()


# Jacobians.


def slope_distance(teacher, student):
    difference = teacher.get_weights()[0] - student.get_weights()[0]
    return (difference**2).sum(), (teacher.get_weights()[0] ** 2).sum()


def test_whole_jacobians_are_exact():
    teacher, student = linear(1), linear(2)
    found = geometry.jacobian_distance(teacher, student, numbers(7, 4), num_projections=None)
    distance, norm = slope_distance(teacher, student)
    expected = (distance / norm, 0.0, distance, norm, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_whole_jacobians_of_a_curved_model():
    teacher, student, x = curved(1), curved(2), tf.constant(numbers(7, 4))
    jacobians = []
    for model in (teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x)
        jacobians.append(tape.batch_jacobian(outputs, x).numpy().astype("float64"))
    distances = ((jacobians[0] - jacobians[1]) ** 2).sum(axis=(1, 2))
    norms = (jacobians[0] ** 2).sum(axis=(1, 2))
    relative = distances.mean() / norms.mean()
    found = geometry.jacobian_distance(teacher, student, x, num_projections=None, batch_size=3)
    error = stderr(distances - relative * norms) / norms.mean()
    expected = relative, error, distances.mean(), norms.mean(), 7
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("num_projections", [1, 4])
def test_projections_are_unbiased_and_their_error_is_known(num_projections):
    teacher, student, x = linear(1), linear(2), numbers(2000, 4)
    found = geometry.jacobian_distance(
        teacher, student, x, num_projections=num_projections, batch_size=500
    )
    distance, norm = slope_distance(teacher, student)
    # All examples of a linear model have one Jacobian: the spread is that of the projections.
    slopes = [model.get_weights()[0].astype("float64") for model in (teacher, student)]
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    above = ((signs @ (slopes[0] - slopes[1]).T) ** 2).sum(axis=1)
    below = ((signs @ slopes[0].T) ** 2).sum(axis=1)
    np.testing.assert_allclose([above.mean(), below.mean()], [distance, norm], rtol=1e-6)
    share = 1.0 / np.sqrt(2000 * num_projections)
    assert abs(found.squared_distance - distance) < 4.0 * above.std() * share
    assert abs(found.teacher_squared_norm - norm) < 4.0 * below.std() * share
    error = (above - distance / norm * below).std() / norm * share
    assert abs(found.relative - distance / norm) < 4.0 * error
    np.testing.assert_allclose(found.relative_stderr, error, rtol=0.1)


def test_projections_depend_on_the_seed_and_not_on_batches():
    arguments = curved(1), curved(2), numbers(20, 4)
    expected = geometry.jacobian_distance(*arguments)
    assert_same(geometry.jacobian_distance(*arguments, batch_size=7), expected)
    assert geometry.jacobian_distance(*arguments, seed=1).relative != expected.relative


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 4.0), (0.5, 0.25)])
def test_a_student_that_is_a_multiple_of_its_teacher(scale, expected):
    teacher, student = linear(1), linear(1)
    student.set_weights([scale * weight for weight in teacher.get_weights()])
    found = geometry.jacobian_distance(teacher, student, numbers(5, 4))
    np.testing.assert_allclose(found.relative, expected, rtol=1e-5)
    np.testing.assert_allclose(found.relative_stderr, 0.0, atol=1e-6)


def test_outputs_without_a_gradient_are_named():
    rounding = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(tf.round)])
    with pytest.raises(ValueError, match=r"`inputs`, which has no gradient"):
        geometry.jacobian_distance(rounding, rounding, numbers(5, 4))
    constant = linear()
    constant.set_weights([0.0 * weight for weight in constant.get_weights()])
    with pytest.raises(ValueError, match=r"`teacher` must depend on its inputs"):
        geometry.jacobian_distance(constant, linear(), numbers(5, 4))
