"""Measures, callbacks, ranking and caches draw the points that training draws."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, callbacks, geometry, plots, rank_regions, regions
from l2rkd_tf.regions.default import regions_to_try
from l2rkd_tf.regions.padding import mask_values, padded
from l2rkd_tf.regions.points import RegionPoints
from l2rkd_tf.teacher_cache import cache_regions
from tests.references import losses as reference

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 8, 8, 1)).astype("float32")
CHANNELS_FIRST = IMAGES.transpose(0, 3, 1, 2)


def pooled(seed, data_format="channels_last", channels=1):
    keras.utils.set_random_seed(seed)
    shape = (8, 8, channels) if data_format == "channels_last" else (channels, 8, 8)
    pool = layers.GlobalMaxPooling2D(data_format=data_format)
    return keras.Sequential([keras.Input(shape), pool, layers.Dense(3)])


def distiller_of(teacher, student, **options):
    distiller = L2RKDDistiller(teacher, student, **{"hard_weight": 0.0, "seed": 0} | options)
    distiller.compile(keras.optimizers.SGD(1e-6))
    return distiller


# Where images have their channels.


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_that_is_ranked_is_that_of_a_distiller(channels):
    student = pooled(1, "channels_first", channels)
    default = L2RKDDistiller(pooled(0, "channels_first", channels), student).region
    tried = regions_to_try(tf.TensorSpec((None, channels, 8, 8)), student)
    assert default.grid == tried[1].grid == (4, 4)
    assert [one.grid for one in tried if isinstance(one, regions.Swap)] == [(4, 4)]


@pytest.mark.parametrize("make", ["blind", "monitor"])
def test_callbacks_cut_channels_first_images_along_their_positions(make):
    region = regions.Patch(grid=4)  # of one channel, there are no four cells
    callback = {
        "blind": lambda: callbacks.BlindRegionSearch([region], CHANNELS_FIRST),
        "monitor": lambda: callbacks.LocalShapeMonitor(CHANNELS_FIRST, region=region),
    }[make]()
    distiller = distiller_of(pooled(0, "channels_first"), pooled(1, "channels_first"))
    distiller.fit(CHANNELS_FIRST, callbacks=[callback], verbose=0)
    moved = region.apply(CHANNELS_FIRST, region.draw(CHANNELS_FIRST, [0, 0]))
    last = regions.Patch(grid=4)
    expected = last.apply(IMAGES, last.draw(IMAGES, [0, 0]))
    np.testing.assert_allclose(np.transpose(moved, (0, 2, 3, 1)), expected, atol=1e-6)


def flat(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Reshape((64,)), layers.Dense(3)])


@pytest.mark.parametrize("has_teacher", [True, False])
def test_defaults_of_bank_and_distiller_agree_where_only_the_student_has_a_format(has_teacher):
    teacher = flat(0)
    bank = cache_regions(tf.data.Dataset.from_tensor_slices((IMAGES,)).batch(6), teacher)
    distiller = distiller_of(teacher if has_teacher else None, pooled(1))
    assert np.isfinite(distiller.fit(bank, verbose=0).history["region_loss"][0])


# Padding.


def masked(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((10, 2)),
            layers.Masking(),
            layers.Dense(5, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


def sequences():
    x = RNG.normal(size=(16, 10, 2)).astype("float32")
    for row in x:
        row[RNG.integers(2, 10) :] = 0.0
    return x


def test_measures_mask_padding_of_a_shorter_partner_as_training_does():
    teacher, student, x = masked(0), masked(1), sequences()
    region = regions.Patch(grid=5)
    reached = region.at_fraction(region.draw(tf.constant(x), [0, 0]), 1.0)
    points = with_padding(region, x, reached, teacher)
    assert (points != region.apply(x, reached)).numpy().any()
    expected = [reference.kl(teacher(z), student(z)).mean() for z in (x, points)]
    profile = geometry.fidelity_profile(teacher, student, x, region, (0.0, 1.0))
    np.testing.assert_allclose(profile.kl, expected, rtol=1e-4)


def with_padding(region, x, coefficients, model):
    drawn = RegionPoints(region, [coefficients])
    moved = drawn.at_region(tf.constant(x))
    return padded(moved, tf.constant(x), mask_values(x, model), drawn)


def test_the_blind_region_is_looked_for_at_points_with_padding():
    teacher, student, x = masked(0), masked(1), sequences()
    region = regions.Patch(grid=5)
    search = callbacks.BlindRegionSearch([region], x)
    distiller_of(teacher, student).fit(x, callbacks=[search], verbose=0)
    teacher, student = masked(0), masked(1)
    points = with_padding(region, x, region.draw(tf.constant(x), [0, 0]), teacher)
    expected = reference.kl(teacher(points), student(points)).mean()
    np.testing.assert_allclose(search.divergences, [expected], rtol=1e-4)


# Models whose only output has a name.


def named(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    return keras.Model(inputs, {"kind": layers.Dense(3)(inputs)})


VECTORS = RNG.normal(size=(12, 4)).astype("float32")


def test_callbacks_take_the_divergence_of_a_named_output():
    distiller = distiller_of(named(0), named(1), divergence={"kind": "kl"})
    monitor = callbacks.LocalShapeMonitor(VECTORS, fractions=(0.0,))
    search = callbacks.BlindRegionSearch([regions.Segment()], VECTORS)
    log = distiller.fit(VECTORS, callbacks=[monitor, search], verbose=0).history
    expected = reference.kl(named(0)(VECTORS)["kind"], named(1)(VECTORS)["kind"]).mean()
    np.testing.assert_allclose(log["val_fidelity_kl_0.0"], [expected], rtol=1e-3)
    assert search.divergences.shape == (1,)


def test_ranking_takes_the_divergence_of_a_named_output():
    candidates, options = [None, regions.Segment()], {"steps": 2, "rounds": 1, "verbose": False}
    found = [
        rank_regions(
            named(0), named(1), VECTORS[:6], VECTORS[6:], candidates, divergence=one, **options
        )
        for one in ("kl", {"kind": "kl"})
    ]
    assert found[0][0].divergence == pytest.approx(found[1][0].divergence)


def test_maps_take_a_named_output():
    figure = plots.decision_map({"teacher": named(0)}, VECTORS[:3], resolution=8)
    assert figure.axes


def test_banks_take_labels_of_a_named_output():
    labels = {"kind": np.arange(12) % 3}
    data = tf.data.Dataset.from_tensor_slices((VECTORS, labels)).batch(6)
    bank = cache_regions(data, named(0), regions.Segment(partner="same_class"), verbose=False)
    for (x, y), (plain, _) in zip(bank, data, strict=True):
        assert (x.region_points.numpy() != plain.numpy()).any()
        assert set(y) == {"kind"}
