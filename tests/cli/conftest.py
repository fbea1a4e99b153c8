"""A teacher that took no time to train, for all tests of commands."""

import keras
import pytest

from l2rkd_tf import models


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory):
    """Keras file of a small, untrained teacher of digits, blocks of 4 and 8 channels."""
    path = tmp_path_factory.mktemp("teacher") / "model.keras"
    keras.utils.set_random_seed(0)
    models.convnet((8, 8, 1), 10, (4, 8), convs_per_block=2).save(path)
    return path
