"""What tests of this folder share."""

import keras
import pytest

from tests.distiller.methods_by_hand import BATCH, all_methods, data, fit


@pytest.fixture(scope="module")
def run_eagerly():
    keras.utils.set_random_seed(0)
    x, y = data(2 * BATCH)
    distiller = all_methods(run_eagerly=True)
    return fit(distiller, x, y, epochs=2), distiller.get_weights()
