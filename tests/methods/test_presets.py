import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.methods import presets

# Enough examples for tests of distributions; every other one is at 1.
BATCH = 4000


@pytest.fixture(scope="module")
def points():
    return tf.constant(np.arange(BATCH) % 2, tf.float32)[:, None] * tf.ones((BATCH, 1))


def moved(settings, points):
    region = settings["region"]
    return region.apply(points, region.draw(points, seed=[1, 2]))


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        (presets.mixup_kd(), (0.1, 0.0, 0.9)),
        (presets.funmatch(), (0.0, 0.0, 1.0)),
        (presets.noise_kd(0.5), (0.1, 0.0, 0.9)),
        # What the authors' code expects of a step: 0.3 (0.1 hard + 0.9 KD) + 0.7 mixtures.
        (presets.pe_bkd(), (0.3 * 0.1, 0.3 * 0.9, 0.7)),
    ],
)
def test_weights_are_those_of_the_papers(settings, weights):
    names = ("hard_weight", "kd_weight", "region_weight")
    np.testing.assert_allclose([settings[name] for name in names], weights)
    assert "temperature" not in settings


@pytest.mark.parametrize(
    ("settings", "variance"),
    [
        (presets.funmatch(), 1.0 / 12.0),
        (presets.mixup_kd(), 1.0 / 12.0),
        (presets.mixup_kd(alpha=0.2), 1.0 / (4.0 * 1.4)),  # of Beta(c, c): 1 / (4 (2c + 1))
    ],
)
def test_mixtures_of_pairs_are_drawn_from_the_beta_distribution(settings, variance, points):
    # A pair of unlike points shows its lambda; a like pair stays.
    distance = tf.abs(moved(settings, points) - points).numpy().ravel()
    shares = distance[distance > 0.0]
    assert 0.4 * BATCH < len(shares) < 0.6 * BATCH
    np.testing.assert_allclose(shares.mean(), 0.5, atol=4.0 * np.sqrt(variance / len(shares)))
    np.testing.assert_allclose(shares.var(), variance, rtol=0.1)


def test_noise_is_gaussian(points):
    noise = (moved(presets.noise_kd(stddev=0.3), points) - points).numpy()
    np.testing.assert_allclose(noise.std(), 0.3, rtol=4.0 / np.sqrt(2.0 * noise.size))
    np.testing.assert_allclose(noise.mean(), 0.0, atol=4.0 * 0.3 / np.sqrt(noise.size))
    np.testing.assert_allclose((noise**4).mean() / (noise**2).mean() ** 2, 3.0, rtol=0.15)


def test_patches_are_mixed_one_by_one():
    images = tf.reshape(tf.cast(tf.range(6) % 2, tf.float32), (6, 1, 1, 1)) * tf.ones((6, 8, 8, 1))
    shares = tf.abs(moved(presets.pe_bkd(grid=2, alpha=0.5), images) - images).numpy()
    mixed = shares[shares.max(axis=(1, 2, 3)) > 0.0]
    assert len(mixed)
    patches = mixed.reshape(-1, 2, 4, 2, 4)
    first = patches[:, :, :1, :, :1]
    np.testing.assert_allclose(patches, first + np.zeros_like(patches), atol=1e-6)
    assert len(np.unique(first[0].round(5))) == 4


def test_a_call_makes_a_region_of_its_own():
    first, second = presets.funmatch(), presets.funmatch()
    first["region"].radius = 0.5
    assert second["region"].radius == 1.0


@pytest.mark.parametrize(
    ("preset", "argument", "name"),
    [
        (presets.mixup_kd, {"alpha": 0.0}, "alpha"),
        (presets.noise_kd, {"stddev": 0.0}, "stddev"),
        (presets.noise_kd, {"stddev": "0.1"}, "stddev"),
        (presets.pe_bkd, {"alpha": -1.0}, "alpha"),
        (presets.pe_bkd, {"grid": 0}, "grid"),
    ],
)
def test_wrong_arguments_are_named(preset, argument, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        preset(**argument)
