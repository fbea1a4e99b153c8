"""Noise in units of the standard deviation of each coordinate or channel."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import regions
from l2rkd_tf.cli.common.parsing import parse_region

ROWS = 4000


def draw(x, data_format=None, seed=(0, 1)):
    region = regions.Ball(0.5, "gaussian", scale="std")
    region.set_data_format(data_format)
    return region.draw(x, list(seed))


def test_each_column_has_noise_of_its_own_size():
    deviations = np.array([1.0, 100.0, 1e-3, 0.0])
    x = (5.0 + deviations * np.random.RandomState(0).normal(size=(ROWS, 4))).astype("float32")
    noise = draw(tf.constant(x)).numpy()
    np.testing.assert_allclose(noise.std(0)[:3], 0.5 * x.std(0)[:3], rtol=0.05)
    assert not noise[:, 3].any()  # a constant column stays
    unit = regions.Ball(0.5, "gaussian").draw(tf.constant(x), [0, 1]).numpy()
    np.testing.assert_allclose(noise, unit * x.std(0, dtype="float64"), rtol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("positions", [(7,), (4, 3), (2, 3, 2)])
def test_each_channel_has_one_size(positions, data_format):
    x = np.random.RandomState(0).normal(size=(50, *positions, 2)) * [1.0, 30.0] + 3.0
    expected = x.reshape(-1, 2).std(0)
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    noise = draw(tf.constant(x.astype("float32")), data_format).numpy()
    unit = regions.Ball(0.5, "gaussian").draw(tf.constant(x), [0, 1]).numpy()
    if data_format == "channels_first":
        noise, unit = np.moveaxis(noise, 1, -1), np.moveaxis(unit, 1, -1)
    np.testing.assert_allclose(noise, unit * expected, rtol=1e-4, atol=1e-6)


def test_several_inputs_ids_and_fixed_ones():
    x = {
        "a": tf.constant(np.random.normal(size=(ROWS, 1)).astype("float32") * 7.0),
        "b": tf.random.normal((ROWS, 2)),
        "id": tf.zeros((ROWS, 1), tf.int32),
    }
    region = regions.Ball(0.5, "gaussian", scale="std", fixed=("b",))
    moved = region.apply(x, region.draw(x, [0, 0]))
    assert 3.2 < np.std(moved["a"] - x["a"]) < 3.8
    np.testing.assert_array_equal(moved["b"], x["b"])
    np.testing.assert_array_equal(moved["id"], x["id"])


def test_grey_images_have_noise_in_their_own_units():
    x = tf.constant(np.random.RandomState(0).randint(0, 256, (30, 8, 8, 1)).astype("uint8"))
    noise = draw(x).numpy()
    assert noise.dtype == "float32"
    np.testing.assert_allclose(noise.std(), 0.5 * np.std(x.numpy().astype("float64")), rtol=0.05)


def test_config_and_text():
    region = regions.get(regions.Ball(2.0, "gaussian", scale="std"))
    config = region.get_config()
    assert config == {"radius": 2.0, "norm": "gaussian", "scale": "std"}
    assert regions.Ball.from_config(config).scale == "std"
    assert parse_region('ball:radius=2,norm="gaussian",scale="std"').get_config() == config
    assert "scale" not in regions.Ball(2.0).get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l2", "scale": "std"}, "`scale` must be None for balls with a boundary"),
        ({"norm": "gaussian", "scale": "variance"}, "`scale` must be one of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        regions.Ball(0.5, **arguments)
