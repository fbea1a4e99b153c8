"""Distributions of what regions draw."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Ball, Patch, Segment, Simplex
from tests.references import losses as reference
from tests.regions.helpers import partners_of_many, points


def weights_of_many(region, batch=20000, dimension=1):
    return region.draw(tf.zeros((batch, dimension)), [3, 4]).lam.numpy()


SURE = 1.95


@pytest.mark.parametrize("radius", [0.25, 1.0])
@pytest.mark.parametrize("make", [Segment, Patch], ids=["segment", "patch"])
def test_lambda_is_uniform(make, radius):
    x = tf.zeros((20000, 1) if make is Segment else (1250, 4, 4, 1))
    weights = make(radius=radius).draw(x, [3, 4]).lam.numpy() / radius
    assert weights.size == 20000
    np.testing.assert_allclose(weights.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(weights.var(), 1 / 12, atol=0.002)
    assert reference.ks_distance(weights, lambda x: x) < SURE / np.sqrt(weights.size)


def test_cells_of_a_patch_are_independent():
    weights = Patch(2).draw(tf.zeros((10000, 2, 2, 1)), [3, 4]).lam.numpy().reshape(-1, 4)
    np.testing.assert_allclose(np.corrcoef(weights.T), np.eye(4), atol=0.04)


@pytest.mark.parametrize("alpha", [0.2, 1, 4.0])
def test_alpha_draws_from_a_beta_distribution(alpha):
    weights = weights_of_many(Segment(radius=0.5, alpha=alpha)) / 0.5

    # Not beyond: float32 has no numbers closer to 1 than 6e-8, where Beta(0.2, 0.2) has 2 %.
    levels = np.linspace(0.001, 0.999, 999)
    parameter = np.full_like(levels, alpha)
    expected = tf.math.betainc(parameter, parameter, levels).numpy()
    observed = (weights <= levels).mean(axis=0)
    np.testing.assert_allclose(weights.mean(), 0.5, atol=0.01)
    np.testing.assert_allclose(weights.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.03)
    assert np.abs(observed - expected).max() < SURE / np.sqrt(weights.size)


@pytest.mark.parametrize("num_partners", [1, 2, 4])
def test_coefficients_of_a_simplex_are_uniform_on_it(num_partners):
    m, radius = num_partners, 0.5
    shares = weights_of_many(Simplex(m, radius)) / radius
    shares = np.concatenate([1.0 - shares.sum(axis=1, keepdims=True), shares], axis=1)
    scale = 1.0 / ((m + 1) ** 2 * (m + 2))
    covariance = scale * ((m + 1) * np.eye(m + 1) - 1.0)
    np.testing.assert_allclose(shares.mean(axis=0), np.full(m + 1, 1 / (m + 1)), atol=0.01)
    np.testing.assert_allclose(np.cov(shares.T), covariance, atol=0.003)
    for share in shares.T:
        distance = reference.ks_distance(share, lambda x: 1.0 - (1.0 - x) ** m)
        assert distance < SURE / np.sqrt(share.size)


@pytest.mark.parametrize("region", [Segment(), Patch(2), Simplex(2)], ids=repr)
def test_partners_are_uniform_over_the_other_examples(region):
    partners = partners_of_many(region, points())
    for row in range(6):
        for column in range(partners.shape[2]):
            counts = np.bincount(partners[:, row, column], minlength=6) / len(partners)
            np.testing.assert_allclose(np.delete(counts, row), 0.2, atol=0.025)


def test_partners_of_different_examples_are_independent():
    partners = partners_of_many(Segment(), points())[..., 0]
    offsets = (partners - np.arange(6)) % 6
    np.testing.assert_allclose(np.corrcoef(offsets.T), np.eye(6), atol=0.07)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 5)])
def test_l2_ball_is_uniform(shape):
    dimension = int(np.prod(shape))
    noise = Ball(0.5).draw(tf.zeros((20000, *shape)), [1, 1]).numpy().reshape(20000, -1) / 0.5
    length = np.linalg.norm(noise, axis=1)
    assert reference.ks_distance(length, lambda r: r**dimension) < SURE / np.sqrt(20000)
    np.testing.assert_allclose(noise.mean(axis=0), np.zeros(dimension), atol=0.02)
    covariance = np.eye(dimension) / (dimension + 2)
    np.testing.assert_allclose(np.cov(noise.T), covariance.squeeze(), atol=0.01)


@pytest.mark.parametrize(
    ("norm", "variance", "cumulative"),
    [
        ("linf", 1 / 3, lambda e: (e + 1.0) / 2.0),
        ("gaussian", 1.0, lambda e: 0.5 + 0.5 * tf.math.erf(e / np.sqrt(2.0)).numpy()),
    ],
)
def test_coordinates_of_noise_are_independent(norm, variance, cumulative):
    noise = Ball(0.5, norm).draw(tf.zeros((10000, 3)), [1, 1]).numpy() / 0.5
    np.testing.assert_allclose(np.cov(noise.T), variance * np.eye(3), atol=0.05)
    for coordinate in noise.T:
        assert reference.ks_distance(coordinate, cumulative) < SURE / np.sqrt(10000)
