"""Agreement, calibration and the spread of logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry
from l2rkd_tf.regions import Ball, Segment
from tests.geometry.helpers import curved, logits, numbers
from tests.references import losses as reference


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_decision_agreement_counts(batch_size):
    teacher, student, x = curved(1), curved(2), numbers(40, 4)
    expected = (logits(teacher, x).argmax(axis=1) == logits(student, x).argmax(axis=1)).mean()
    assert 0.0 < expected < 1.0
    assert geometry.top1_agreement(teacher, student, x, batch_size=batch_size) == expected
    softmax = curved(2, activation="softmax")
    assert geometry.top1_agreement(teacher, softmax, x) == expected


def of_nans():
    model = curved(2)
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    return model


def with_one_nan():
    x = numbers(9, 4)
    x[5, 2] = np.nan
    return x


@pytest.mark.parametrize(
    "measure",
    [
        geometry.top1_agreement,
        lambda *a: geometry.fidelity_profile(*a, Ball(0.1)).agreement,
        lambda *a: geometry.fidelity_profile(*a, Ball(0.1), divergence="binary_kl").agreement,
        lambda *a: geometry.fidelity_profile(*a, Ball(0.1)).kl,
        lambda *a: geometry.jacobian_distance(*a).relative,
        lambda teacher, student, x: geometry.teacher_stddev(student, x, Ball(0.1), num_draws=2),
        lambda teacher, student, x: geometry.linearity_gap(student, x, x[::-1]).absolute,
    ],
)
@pytest.mark.parametrize(
    ("student", "x"),
    [(of_nans, lambda: numbers(9, 4)), (lambda: curved(2), with_one_nan)],
    ids=["student of NaN", "one NaN among the inputs"],
)
def test_measures_of_nan_are_nan(measure, student, x):
    assert np.isnan(measure(curved(1), student(), x())).all()


def test_agreement_of_dense_outputs_with_a_nan_is_nan():
    inputs = keras.Input((2, 2, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    x = numbers(4, 2, 2, 3)
    assert geometry.top1_agreement(model, model, x) == 1.0
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(geometry.top1_agreement(model, model, x))


def test_infinite_logits_decide():
    teacher, student = (
        keras.Sequential([keras.Input((3,)), keras.layers.Rescaling(scale)]) for scale in (1, 2)
    )
    x = np.array([[-np.inf, 0.0, 1.0], [np.inf, 0.0, 1.0]], "float32")
    assert geometry.top1_agreement(teacher, student, x) == 1.0


@pytest.mark.parametrize(
    ("probabilities", "labels", "num_bins", "expected"),
    [
        ([[1.0, 1e-30]] * 4, [0, 0, 0, 1], 15, 0.25),
        ([[0.5, 0.5]] * 2, [0, 1], 10, 0.0),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 1, 0.2),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 2, 0.2),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 10, 0.4),
        ([[0.8, 0.2], [0.3, 0.7]], [1, 1], 2, 0.25),
        ([[0.8, 0.2], [0.3, 0.7]], [1, 1], 4, 0.55),
        ([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]], [[0], [2]], 5, 0.4),
        ([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]], [[1, 0, 0], [0, 0, 1]], 5, 0.4),
    ],
)
def test_calibration_by_hand(probabilities, labels, num_bins, expected):
    error = geometry.expected_calibration_error(np.log(probabilities), labels, num_bins)
    np.testing.assert_allclose(error, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_calibration_equals_a_loop(temperature):
    z, labels = 3.0 * numbers(500, 4), np.random.default_rng(1).integers(0, 4, 500)
    p = reference.softmax(z / temperature)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    found = geometry.expected_calibration_error(z, labels, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_stddev_equals_a_loop():
    teacher, x, region = curved(), numbers(20, 4), Segment(0.9)
    found = geometry.teacher_stddev(
        teacher, x, region, num_draws=6, num_points=15, temperature=2.0, batch_size=8, seed=4
    )
    generator = np.random.default_rng(4)
    rows = np.concatenate([generator.permutation(20) for _ in range(5)])[:90].reshape(6, 15)
    means = []
    for draw, chosen in enumerate(rows):
        z = []
        for half, part in enumerate((chosen[:8], chosen[8:])):
            batch = tf.constant(x[part])
            drawn = region.draw(batch, [4, 2 * draw + half])
            z += [logits(teacher, batch), logits(teacher, region.apply(batch, drawn))]
        means.append(reference.softmax(np.concatenate(z) / 2.0).mean(axis=0))
    np.testing.assert_allclose(found, np.std(means, axis=0, ddof=1).mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("region", "independent_points"), [(Ball(1e-6), 50), (Ball(1e4, "linf"), 100)]
)
def test_stddev_is_lower_where_region_points_add_something(region, independent_points):
    # Probabilities are 0 or 1: their mean is a binomial share. Far noise is a fresh draw.
    teacher = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    teacher.set_weights([np.float32([[50.0, -50.0]])])
    x = np.sign(numbers(100000, 1))
    score = geometry.teacher_stddev(teacher, x, region, num_points=50, num_draws=500, batch_size=50)
    np.testing.assert_allclose(score, 0.5 / np.sqrt(independent_points), rtol=0.1)


def test_draws_of_all_examples_leave_the_randomness_of_the_region():
    arguments = dict(num_draws=4, num_points=40)
    teacher, x = curved(), numbers(20, 4)
    assert geometry.teacher_stddev(teacher, x, Ball(1e-9), **arguments) < 1e-6
    assert geometry.teacher_stddev(teacher, x, Ball(1.0), **arguments) > 1e-3
