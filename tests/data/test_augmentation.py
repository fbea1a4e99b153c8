"""Augmentation."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from l2rkd_tf import data
from tests.data.helpers import arrays


def shifts(image, padding):
    """Every crop of the zero-padded image, keyed by its bytes."""
    rows, columns = image.shape[:2]
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    return {
        padded[i : i + rows, j : j + columns].tobytes(): (i, j)
        for i in range(2 * padding + 1)
        for j in range(2 * padding + 1)
    }


def random_image(*shape):
    return np.random.RandomState(0).rand(*shape).astype(np.float32)


@pytest.mark.parametrize(("side", "padding", "expected"), [(8, None, 1), (8, 2, 2), (20, None, 2)])
def test_crop_draws_every_shift(side, padding, expected):
    image = random_image(side, side, 2)
    offsets = shifts(image, expected)
    drawn = [offsets[data.crop(image, [0, i], padding).numpy().tobytes()] for i in range(300)]
    assert set(drawn) == set(offsets.values())


def test_crop_is_uniform():
    # The only pixel tells where the crop began.
    image = np.pad([[[1.0]]], [(1, 1), (1, 1), (0, 0)])
    seeds = tf.data.Dataset.range(9000).map(lambda i: tf.cast([i, 0], tf.int32))
    crops = seeds.map(lambda seed: data.crop(image, seed)).batch(9000).get_single_element()
    counts = crops.numpy().sum(axis=0).ravel()
    # Each of 9 places 1000 times, with a standard deviation of 30.
    assert counts.sum() == 9000
    assert np.abs(counts - 1000).max() < 130


def test_crop_flip_mirrors_half_of_the_crops():
    image = random_image(8, 8, 3)
    flipped = 0
    for i in range(200):
        shifted = data.crop(image, [3, i]).numpy()
        found = data.crop_flip(image, [3, i]).numpy()
        is_flipped = np.array_equal(found, shifted[:, ::-1])
        assert is_flipped or np.array_equal(found, shifted)
        flipped += is_flipped
    assert 70 < flipped < 130


@pytest.mark.parametrize("augment", [data.affine, data.crop, data.crop_flip])
def test_augmentation_is_fixed_by_its_seed(augment):
    image = random_image(32, 32, 3)
    compiled = tf.function(augment)
    for i in range(5):
        np.testing.assert_array_equal(augment(image, [i, 1]), compiled(image, tf.constant([i, 1])))


def test_crop_without_padding_is_the_image():
    image = random_image(4, 5, 1)
    np.testing.assert_array_equal(data.crop(image, [0, 0], padding=0), image)


@pytest.mark.parametrize(
    ("image", "padding", "message"),
    [
        (np.zeros((2, 4, 4, 1)), None, r"`image` .* Received: image of shape \(2, 4, 4, 1\)"),
        (np.zeros((4, 4, 1)), -1, "`padding` .* Received: padding=-1"),
        (np.zeros((4, 4, 1)), 0.5, "`padding`"),
    ],
)
def test_augmentation_arguments_out_of_range(image, padding, message):
    with pytest.raises(ValueError, match=message):
        data.crop(image, [0, 0], padding)


def affine_of_scipy(image, seed, degrees, zoom, shift):
    """The same in float64: each pixel of the new image looks up its place in the old one."""
    turn, larger, *shifts = tf.random.stateless_uniform([4], seed, -1.0, 1.0, alg="philox").numpy()
    angle = np.radians(turn * degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix /= 1 + larger * zoom
    size = np.array(image.shape[:2])
    centre = (size - 1) / 2
    offset = centre + shifts * size * shift - matrix @ centre
    planes = [
        scipy.ndimage.affine_transform(plane, matrix, offset, order=1, mode="grid-constant")
        for plane in np.moveaxis(image.astype("float64"), -1, 0)
    ]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize(
    "bounds", [(15.0, 0.15, 0.1), (0.0, 0.0, 0.3), (90.0, 0.0, 0.0), (0.0, 0.5, 0.0)]
)
def test_affine_equals_scipy(bounds):
    image = random_image(9, 12, 2)
    for i in range(4):
        found = data.affine(image, [i, 7], *bounds)
        np.testing.assert_allclose(found, affine_of_scipy(image, [i, 7], *bounds), atol=1e-5)


def test_affine_within_no_bounds_is_the_image():
    image = random_image(4, 5, 1)
    np.testing.assert_allclose(data.affine(image, [0, 0], 0, 0, 0), image, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "bounds", "message"),
    [
        (np.zeros((4, 4)), {}, r"`image` .* Received: image of shape \(4, 4\)"),
        (
            np.zeros((4, 4, 1)),
            {"degrees": -1},
            "`degrees` must be a number from 0 to 180. Received",
        ),
        (
            np.zeros((4, 4, 1)),
            {"zoom": 1.0},
            "`zoom` must be a number from 0 to 0.99. Received: zoom=1.0",
        ),
        (np.zeros((4, 4, 1)), {"degrees": "15"}, "`degrees` .* Received: degrees='15'"),
        (np.zeros((4, 4, 1)), {"shift": np.nan}, "`shift` .* Received: shift=nan"),
    ],
)
def test_affine_arguments_out_of_range(image, bounds, message):
    with pytest.raises(ValueError, match=message):
        data.affine(image, [0, 0], **bounds)


def test_loaded_affine_changes_every_image(digits_dir):
    originals, labels = arrays(load_augmented(digits_dir, None))
    images, same = arrays(load_augmented(digits_dir, "affine"))
    np.testing.assert_array_equal(labels, same)
    assert np.abs(images - originals).mean(axis=(1, 2, 3)).min() > 0.01


def load_augmented(digits_dir, augment, **arguments):
    return data.load(
        "digits", "validation", batch_size=64, augment=augment, data_dir=digits_dir, **arguments
    )


def test_loaded_crops_change_with_example_and_epoch(digits_dir):
    originals, labels = arrays(load_augmented(digits_dir, None))
    dataset = load_augmented(digits_dir, "crop", seed=1)
    epochs = [arrays(dataset) for _ in range(2)]
    offsets = [
        [shifts(o, 1)[c.tobytes()] for o, c in zip(originals, images, strict=True)]
        for images, _ in epochs
    ]
    np.testing.assert_array_equal(epochs[0][1], labels)
    assert len(set(offsets[0])) == 9
    assert offsets[0] != offsets[1]
    again = load_augmented(digits_dir, "crop", seed=1)
    for images, _ in epochs:
        np.testing.assert_array_equal(arrays(again)[0], images)
    assert not np.array_equal(arrays(load_augmented(digits_dir, "crop", seed=2))[0], epochs[0][0])


def test_loaded_crop_flip_mirrors_some(digits_dir):
    originals, _ = arrays(load_augmented(digits_dir, None))
    found, _ = arrays(load_augmented(digits_dir, "crop_flip"))
    mirrored = 0
    for original, image in zip(originals, found, strict=True):
        if image.tobytes() not in shifts(original, 1):
            assert image.tobytes() in shifts(original[:, ::-1], 1)
            mirrored += 1
    assert 60 < mirrored < 140


def test_function_as_augmentation_gets_scaled_images_and_new_seeds(digits_dir):
    def show_seed(image, seed):
        assert image.dtype == tf.float32 and image.shape == (8, 8, 1)
        assert seed.dtype == tf.int32 and seed.shape == (2,)
        return tf.concat([tf.reduce_max(image)[None], tf.cast(seed, tf.float32)], axis=0)

    dataset = load_augmented(digits_dir, show_seed)
    found = np.concatenate([arrays(dataset)[0] for _ in range(2)])
    assert found[:, 0].max() == 1.0
    assert len(np.unique(found[:, 1:], axis=0)) == 400
    assert (found[:, 1:] < 0).any()
