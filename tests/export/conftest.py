"""What tests of this folder share."""

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fresh_state():
    keras.utils.set_random_seed(7)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def images():
    return np.random.default_rng(0).random((40, 8, 8, 1), dtype="float32")
