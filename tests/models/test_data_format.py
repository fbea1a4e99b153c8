"""Networks take `(batch, height, width, channels)`, whatever Keras's global data format is."""

import keras
import pytest

from l2rkd_tf import models

BUILDERS = {
    "convnet": models.convnet,
    "resnet8": lambda *args: models.resnet(*args, depth=8),
    "resnet50": models.resnet50,
    "wide_resnet": lambda *args: models.wide_resnet(*args, depth=10, width=1),
    "vgg": lambda *args: models.vgg(*args, depth=8),
    "mobilenet_v2": lambda *args: models.mobilenet_v2(*args, width=0.25),
    "shufflenet_v1": models.shufflenet_v1,
    "shufflenet_v2": lambda *args: models.shufflenet_v2(*args, width=0.5),
}


@pytest.fixture
def channels_first():
    """Sets the global data format."""
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format("channels_last")


@pytest.fixture
def configs():
    """Configs of the networks with the usual data format."""
    return {name: build((32, 32, 3), 10).get_config() for name, build in BUILDERS.items()}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_network_is_that_of_channels_last(configs, channels_first, name):
    assert BUILDERS[name]((32, 32, 3), 10).get_config() == configs[name]


def test_pretrained_networks_say_what_they_need(channels_first):
    with pytest.raises(ValueError, match=r"image_data_format.*Received: 'channels_first'"):
        models.application("MobileNet", (8, 8, 1), 10)
