"""The fidelity profile."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry
from l2rkd_tf.regions import Ball, Mixture, Patch, Region, Segment, Simplex, Swap
from tests.geometry.helpers import assert_same, curved, logits, numbers, stderr
from tests.references import losses as reference

FRACTIONS = (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("region", "temperature"),
    [(Patch(grid=2), 4.0), (Ball(0.5), 1.0), (Mixture([Simplex(), Segment(0.8)]), 2.0)],
    ids=["patch", "ball", "mixture"],
)
def test_profile_equals_a_loop(region, temperature):
    teacher, student = curved(1, (4, 4, 1)), curved(2, (4, 4, 1))
    x = numbers(13, 4, 4, 1)
    profile = geometry.fidelity_profile(
        teacher, student, x, region, FRACTIONS, temperature=temperature, batch_size=5, seed=3
    )
    for column, fraction in enumerate(FRACTIONS):
        divergences, alike = [], []
        for number in range(3):
            batch = tf.constant(x[5 * number : 5 * number + 5])
            drawn = region.draw(batch, [3, number])
            points = region.apply(batch, region.at_fraction(drawn, fraction))
            t, s = logits(teacher, points), logits(student, points)
            divergences.extend(reference.kl(t, s, temperature) / temperature**2)
            alike.extend(t.argmax(axis=1) == s.argmax(axis=1))
        np.testing.assert_allclose(profile.kl[column], np.mean(divergences), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            profile.kl_stderr[column], stderr(divergences), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(profile.agreement[column], np.mean(alike), rtol=1e-6)
        np.testing.assert_allclose(profile.agreement_stderr[column], stderr(alike), rtol=1e-6)
    assert profile.num_points == 13
    np.testing.assert_array_equal(profile.fractions, np.float32(FRACTIONS))


def test_profile_of_token_ids_equals_a_loop():
    ids, region = np.random.default_rng(0).integers(0, 5, (7, 6)).astype("int32"), Swap()

    def embedding(seed):
        keras.utils.set_random_seed(seed)
        pooled = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
        return keras.Sequential(
            [keras.Input((6,), dtype="int32"), keras.layers.Embedding(5, 4, "normal"), *pooled]
        )

    teacher, student = embedding(0), embedding(1)
    profile = geometry.fidelity_profile(teacher, student, ids, region, FRACTIONS, seed=3)
    drawn = region.draw(tf.constant(ids), [3, 0])
    for column, fraction in enumerate(FRACTIONS):
        points = region.apply(tf.constant(ids), region.at_fraction(drawn, fraction))
        divergences = reference.kl(logits(teacher, points), logits(student, points), 1.0)
        np.testing.assert_allclose(profile.kl[column], np.mean(divergences), rtol=1e-5, atol=1e-7)
    assert len(set(profile.kl)) == 3


@pytest.mark.parametrize("divergence", ["kl", "binary_kl"])
def test_a_model_is_faithful_to_itself(divergence):
    teacher = curved()
    profile = geometry.fidelity_profile(
        teacher, teacher, numbers(9, 4), Segment(), divergence=divergence
    )
    np.testing.assert_array_equal(profile.kl, np.zeros(5))
    np.testing.assert_array_equal(profile.kl_stderr, np.zeros(5))
    np.testing.assert_array_equal(profile.agreement, np.ones(5))
    np.testing.assert_array_equal(profile.agreement_stderr, np.zeros(5))


@pytest.mark.covering
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("divergence", ["binary_kl", "mse"])
def test_other_divergences(divergence, temperature):
    teacher, student, x = curved(1), curved(2), numbers(9, 4)
    profile = geometry.fidelity_profile(
        teacher, student, x, Ball(1.0), (0.0,), divergence=divergence, temperature=temperature
    )
    t, s = logits(teacher, x), logits(student, x)
    expected = getattr(reference, divergence)(t, s, temperature)
    expected /= 1.0 if divergence == "mse" else temperature**2
    np.testing.assert_allclose(profile.kl, [expected.mean()], rtol=1e-5, atol=1e-7)
    alike = ((t > 0) == (s > 0)).mean() if divergence == "binary_kl" else np.nan
    np.testing.assert_allclose(profile.agreement, [alike], rtol=1e-6)


def test_profile_of_probabilities_is_that_of_the_logits():
    x = numbers(9, 4)
    with_logits, with_softmax = (
        geometry.fidelity_profile(
            curved(1, activation=end), curved(2, activation=end), x, Segment(), from_logits=not end
        )
        for end in (None, "softmax")
    )
    assert_same(with_softmax, with_logits, 1e-5)


def test_draws_depend_only_on_the_seed():
    arguments = curved(1), curved(2), numbers(30, 4), Segment()
    first, same, other = (
        geometry.fidelity_profile(*arguments, (1.0,), seed=seed).kl for seed in (0, 0, 1)
    )
    assert first == same != other


@pytest.mark.parametrize("batch_size", [3, 30, 1000])
def test_profile_of_a_direction_without_partners_does_not_depend_on_batches(batch_size):
    class Upward(Region):
        def draw(self, inputs, seed, labels=None):
            return self.radius_variable.read_value()

        def at_fraction(self, coefficients, fraction):
            return coefficients * fraction

        def apply(self, tensor, coefficients):
            return tensor + coefficients

    arguments = curved(1), curved(2), numbers(30, 4), Upward(0.5)
    profile = geometry.fidelity_profile(*arguments, batch_size=batch_size)
    assert_same(profile, geometry.fidelity_profile(*arguments, batch_size=7))
