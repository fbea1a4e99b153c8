"""Regions one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf import callbacks
from l2rkd_tf.cli.common.parsing import parse_region
from l2rkd_tf.regions import Ball, Compose, Mixture, Patch, Segment, Swap, get
from l2rkd_tf.regions.draws import split
from tests.regions.helpers import draw, points


def swap_then_noise():
    return Compose([Swap(), Ball(0.5, "gaussian", scale="std")])


def test_each_moves_the_points_to_which_the_one_before_it_went():
    region = Compose([Segment(0.5), Patch(grid=2)])
    x = points((6, 4, 4, 1))
    found = region.apply(x, draw(region, x)).numpy().astype("float64")
    seeds = split([1, 2], 2)
    first, second = (
        member.draw(x, seed, np.zeros(6))
        for member, seed in zip(region.regions, seeds, strict=True)
    )
    x = x.numpy().astype("float64")
    partners, share = first.partners.numpy()[:, 0], first.lam.numpy()[:, 0]
    middle = x + share[:, None, None, None] * (x[partners] - x)
    partners, cells = second.partners.numpy()[:, 0], second.lam.numpy()[:, 0]
    each = np.repeat(np.repeat(cells, 2, axis=1), 2, axis=2)[..., None]
    np.testing.assert_allclose(found, middle + each * (middle[partners] - middle), atol=1e-6)


def test_the_scale_is_that_of_the_examples():
    x = points((6, 5))
    region = swap_then_noise()
    swapped, noise = draw(region, x)
    expected = region.regions[1].draw(x, split([1, 2], 2)[1])
    np.testing.assert_array_equal(noise, expected)
    moved = region.regions[0].apply(x, swapped)
    np.testing.assert_allclose(region.apply(x, (swapped, noise)), moved + noise, rtol=1e-6)


def test_categories_are_swapped_and_numbers_swapped_and_noisy():
    x = {"number": points((6, 3)), "kind": tf.constant([[1], [2], [3], [4], [5], [6]])}
    region = swap_then_noise()
    moved = region.apply(x, region.draw(x, [1, 2]))
    assert moved["kind"].dtype == tf.int32 and set(moved["kind"].numpy().ravel()) <= set(range(7))
    assert not np.isin(moved["number"], x["number"]).any()


def test_the_way_to_a_point_is_straight():
    x = points((6, 5))
    region = Compose([Segment(), Ball(0.3, "gaussian")])
    drawn = draw(region, x)
    start, middle, end = (
        region.apply(x, region.at_fraction(drawn, fraction)) for fraction in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(start, x, atol=1e-6)
    np.testing.assert_allclose(middle, (x + end) / 2.0, atol=1e-6)
    crooked = Compose([Segment(), Patch(2)])
    with pytest.raises(NotImplementedError, match="`at_fraction` of a Compose needs balls"):
        crooked.at_fraction(draw(crooked, points()), 0.5)


def test_config_and_saving():
    region = Compose([Swap(0.3), Mixture([Ball(0.1), Segment()])])
    copy = get(keras.saving.serialize_keras_object(region))
    assert repr(copy) == repr(region) and copy.radius == (0.3, (0.1, 1.0))
    assert not copy.interpolates_targets and Compose([Swap(), Segment()]).interpolates_targets


def test_targets_and_masks_go_the_same_way():
    x = points((6, 5))
    region = Compose([Segment(0.5), Segment(0.5)])
    first, second = draw(region, x)
    logits = points((6, 3), seed=1)
    one = region.regions[0].targets(logits, first)
    np.testing.assert_array_equal(
        region.targets(logits, (first, second)), region.regions[1].targets(one, second)
    )
    mask = points((6, 5)) > 0.1
    moved = region.regions[1].move_mask(region.regions[0].move_mask(mask, first), second)
    np.testing.assert_array_equal(region.move_mask(mask, (first, second)), moved)


def test_text():
    region = parse_region('swap:radius=0.4 then ball:radius=2,norm="gaussian" + segment')
    assert repr(region.regions[0].regions) == repr([Swap(0.4), Ball(2.0, "gaussian")])
    assert isinstance(region, Mixture) and isinstance(region.regions[1], Segment)


@pytest.mark.parametrize("regions", [[], Swap(), [Swap(), "ball"], None])
def test_members_must_be_regions(regions):
    with pytest.raises(ValueError, match="`regions` must be a sequence of at least one region"):
        Compose(regions)


def test_a_radius_scheduler_says_where_the_radii_are():
    with pytest.raises(ValueError, match=r"set `region.regions\[i\].radius`"):
        swap_then_noise().radius = 0.5
    models = [keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]) for _ in range(2)]
    scheduler = callbacks.RegionRadiusScheduler(lambda epoch: 0.5)
    scheduler.set_model(l2rkd_tf.L2RKDDistiller(*models, region=swap_then_noise()))
    with pytest.raises(ValueError, match="must have a single radius"):
        scheduler.on_epoch_begin(0)
