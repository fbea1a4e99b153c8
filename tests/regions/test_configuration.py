"""Radius, configuration, and the default region of inputs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import (
    Ball,
    Compose,
    Mixture,
    Patch,
    Region,
    Segment,
    Swap,
    default_region,
    get,
)
from tests.references import losses as reference
from tests.regions.helpers import ALL, BALLS, IN_BATCH, LABELS, SWAPS, assert_same, draw, points


class Towards(Region):
    """A user's own region: every example goes a part of the way to the one before it."""

    def draw(self, inputs, seed, labels=None):
        del labels
        batch = tf.shape(keras.tree.flatten(inputs)[0])[0]
        return self.radius_variable * tf.cast(tf.random.stateless_uniform([batch], seed), "float32")

    def apply(self, tensor, coefficients):
        share = tf.reshape(coefficients, [-1] + [1] * (tensor.shape.rank - 1))
        return tensor + share * (tf.roll(tensor, 1, axis=0) - tensor)


@pytest.mark.parametrize("make", (IN_BATCH | BALLS).values(), ids=IN_BATCH | BALLS)
def test_a_new_radius_takes_effect_without_a_new_trace(make):
    region, x, traces = make(), points(), []

    @tf.function
    def move():
        traces.append(1)
        return region.apply(x, region.draw(x, [1, 2], LABELS)) - x

    before = move().numpy()
    region.radius /= 2
    np.testing.assert_allclose(move().numpy(), before / 2, atol=1e-6)
    assert region.radius == make().radius / 2
    assert len(traces) == 1


@pytest.mark.parametrize("radius", [0, -0.1, 1.5, np.nan, np.inf, "1", True, None])
def test_a_wrong_radius_is_refused_and_changes_nothing(radius):
    region = Segment(0.5)
    with pytest.raises(ValueError, match=r"`radius` must be a finite number above 0 and at most 1"):
        region.radius = radius
    assert region.radius == 0.5
    assert region.radius_variable.numpy() == 0.5


@pytest.mark.parametrize("make", (ALL | SWAPS).values(), ids=ALL | SWAPS)
def test_configuration_survives_json(make):
    region = make()
    text = json.dumps(keras.saving.serialize_keras_object(region))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(copy) is type(region)
    assert copy.get_config() == region.get_config()
    assert repr(copy) == repr(region)
    assert_same(draw(copy, points()), draw(region, points()))


def test_configuration_follows_a_new_radius():
    region = Mixture([Segment(0.5), Ball(2.0)])
    region.regions[0].radius = 0.25
    copy = Mixture.from_config(region.get_config())
    assert copy.radius == (0.25, 2.0)
    assert copy.regions[0].radius_variable.numpy() == 0.25


def test_a_users_own_region_mixes_with_the_others():
    own, x = Towards(0.5), points((6, 3))
    region = Mixture([own, Segment(0.5)])
    choice, coefficients = region.draw(x, [2, 2])
    moved = region.apply(x, region.draw(x, [2, 2])).numpy()
    is_own = choice.numpy() == 0
    assert 0 < is_own.sum() < 6
    np.testing.assert_array_equal(moved[is_own], own.apply(x, coefficients[0]).numpy()[is_own])
    registered = keras.saving.register_keras_serializable("tests")(Towards)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(own))
    assert isinstance(copy, registered) and copy.radius == 0.5


def test_the_base_class_says_what_to_implement():
    with pytest.raises(NotImplementedError, match="Region must implement `draw`"):
        Region().draw(points(), [0, 0])
    with pytest.raises(NotImplementedError, match="Region must implement `apply`"):
        Region().apply(points(), None)


@pytest.fixture
def channels_first():
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (3, (6, 2, 5)),
        (2, (6, 2, 9, 7)),
        ((4, 3), (6, 2, 9, 7)),
        ((9, 7), (6, 2, 9, 7)),
        ((2, 1, 3), (6, 2, 3, 2, 4)),
    ],
)
def test_patches_with_channels_first(channels_first, grid, shape):
    region, x = Patch(grid), points(shape)
    coefficients = region.draw(x, [1, 2])
    expected = reference.move(np.moveaxis(x, 1, -1), coefficients.partners, coefficients.lam)
    moved = np.moveaxis(region.apply(x, coefficients), 1, -1)
    np.testing.assert_allclose(moved, expected, rtol=0.0, atol=1e-6)


def test_default_grid_of_images_with_channels_first(channels_first):
    assert default_region(tf.zeros((2, 1, 3, 8))).grid == (3, 4)


@pytest.mark.parametrize(
    ("inputs", "grid"),
    [
        (tf.zeros((2, 8, 8, 1)), (4, 4)),
        (tf.zeros((2, 3, 8, 1)), (3, 4)),
        (tf.zeros((2, 1, 1, 1)), (1, 1)),
        ({"image": tf.zeros((2, 8, 2, 3)), "age": tf.zeros((2, 1))}, (4, 2)),
        ([tf.zeros((2, 8, 2, 3)), tf.zeros((2, 3, 8, 3))], (3, 2)),
        (tf.zeros((2, 9, 3)), (4,)),
        (tf.zeros((2, 3, 9, 4, 1)), (3, 4, 4)),
        ({"image": tf.zeros((2, 8, 2, 3)), "sound": tf.zeros((2, 9, 1))}, (4, 2)),
    ],
)
def test_default_region_of_what_has_positions(inputs, grid):
    region = default_region(inputs)
    assert isinstance(region, Patch)
    assert region.get_config() == Patch(grid).get_config()
    moved = region.apply(inputs, region.draw(inputs, [0, 0]))
    assert_same(moved, inputs)  # all points are equal


@pytest.mark.parametrize("shape", [(None, None, 3), (8, None, 3), (None, 3)])
def test_default_region_of_symbolic_inputs(shape):
    assert default_region(keras.Input(shape)).grid == (4,) * (len(shape) - 1)


@pytest.mark.parametrize(
    "inputs",
    [
        tf.zeros((2, 5)),
        tf.zeros((2, 1)),
        {"a": tf.zeros((2, 5)), "b": tf.zeros((2, 1))},
        {"ids": tf.zeros((2, 5), tf.int32), "age": tf.zeros((2, 1))},
    ],
)
def test_default_region_of_vectors(inputs):
    noise = Ball(2.0, norm="gaussian", scale="std")
    assert repr(default_region(inputs)) == repr(Compose([Swap(), noise]))
    interpolated = default_region(inputs, interpolated=True)
    assert interpolated.get_config() == Segment().get_config()


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (keras.Input((None,), dtype="int32"), "swap"),
        (np.zeros((2, 4, 4, 1), "int64"), "swap"),
        ({"ids": tf.zeros((2, 5), tf.int32), "mask": tf.ones((2, 5), tf.bool)}, "swap"),
        (tf.constant([["a"], ["b"]]), "swap"),
        (tf.zeros((2, 5), tf.uint8), "swap"),
    ],
)
def test_default_region_of_what_cannot_be_interpolated(inputs, expected):
    assert default_region(inputs).get_config() == get(expected).get_config()
