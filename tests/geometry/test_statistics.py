"""Means and their standard errors."""

import numpy as np

from l2rkd_tf.geometry.evaluation import mean_and_stderr, ratio_and_stderr


def test_mean_and_stderr_by_hand():
    mean, error = mean_and_stderr([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    np.testing.assert_allclose(mean, [3.0, 2.0])
    np.testing.assert_allclose(error, [2.0 / np.sqrt(3.0), 2.0])


def test_ratio_and_stderr_hold_in_repeated_samples():
    generator = np.random.default_rng(0)
    below = generator.gamma(4.0, size=(4000, 50))
    above = 0.3 * below + 0.2 * generator.gamma(2.0, size=(4000, 50))
    ratio, error = ratio_and_stderr(above.T, below.T)
    assert abs(ratio.mean() - 0.4) < 0.002
    assert abs(error.mean() / ratio.std() - 1.0) < 0.05


def test_ratio_is_exact_for_proportional_values():
    ratio, error = ratio_and_stderr(3.0 * np.arange(1.0, 9.0), np.arange(1.0, 9.0))
    np.testing.assert_allclose([ratio, error], [3.0, 0.0], atol=1e-15)


def test_one_example_has_no_standard_error_and_zero_no_ratio():
    assert np.isnan(mean_and_stderr([2.0])[1])
    assert np.isnan(ratio_and_stderr([1.0, 2.0], [0.0, 0.0])).all()
