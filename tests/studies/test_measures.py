"""Corrupted images, and the ways of BatchNorm that the ablation compares."""

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from studies.harness import batch_norm, corruptions, measures


def test_corruptions():
    images = np.random.RandomState(1).rand(5, 6, 6, 1).astype("float32")
    noisy = corruptions.noise(np.full((200, 8, 8, 1), 0.5, "float32"), 0.1)
    assert np.std(noisy - 0.5) == pytest.approx(0.1, rel=0.03)
    np.testing.assert_array_equal(corruptions.noise(images, 0.1), corruptions.noise(images, 0.1))
    shifted = corruptions.shift(images, 1, -2)
    np.testing.assert_array_equal(shifted[:, 1:, :-2], images[:, :-1, 2:])
    np.testing.assert_array_equal(shifted[:, 0, :-2], images[:, 0, 2:])
    expected = [
        scipy.ndimage.gaussian_filter(image[..., 0], 1.0, mode="nearest") for image in images
    ]
    np.testing.assert_allclose(corruptions.blur(images, 1.0)[..., 0], expected, atol=1e-6)
    assert [len(make(images)) for make in corruptions.CORRUPTIONS.values()] == [1, 1, 1, 1, 4, 4]


def test_accuracy_is_counted_for_each_set_of_images():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    sets = [np.eye(3, dtype="float32"), np.eye(3, dtype="float32")[[0, 0, 2]]]
    found = measures.accuracies(model, sets, np.array([0, 1, 2]))
    np.testing.assert_allclose(found, [100.0, 200 / 3])


def test_recalibration_takes_statistics_from_the_data():
    student = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    images = np.random.RandomState(0).normal((3.0, -1.0), (0.5, 2.0), (64, 2)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.zeros(64))).batch(64)
    batch_norm.recalibrate(student, data)
    (layer,) = student.layers
    np.testing.assert_allclose(layer.moving_mean, images.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, images.var(axis=0), rtol=1e-3)


@pytest.mark.parametrize("frozen", [False, True])
def test_two_passes_normalize_each_half_by_itself(frozen):
    student = keras.Sequential(
        [keras.Input((1,)), keras.layers.BatchNormalization(epsilon=1e-6, momentum=0.5)]
    )
    halves = np.array([[0.0], [2.0]]), np.array([[10.0], [20.0]])
    outputs = batch_norm.TwoPasses(student, frozen)(
        np.concatenate(halves).astype("float32"), training=True
    )
    np.testing.assert_allclose(outputs[:2], [[-1.0], [1.0]], rtol=1e-5)
    if frozen:  # after the first half: mean 0.5, variance 1
        np.testing.assert_allclose(outputs[2:], [[9.5], [19.5]], rtol=1e-5)
    else:
        np.testing.assert_allclose(outputs[2:], [[-1.0], [1.0]], rtol=1e-5)
