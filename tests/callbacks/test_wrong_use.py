"""Wrong use of callbacks."""

import keras
import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, callbacks, regions
from l2rkd_tf.callbacks import schedules
from tests.callbacks.helpers import (
    FEATURES,
    Towards,
    data,
    linear,
    make_distiller,
    random_weights,
    train,
)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: callbacks.LossWeightScheduler(0.5), "schedule"),
        (lambda: callbacks.LossWeightScheduler(lambda: 1.0), "schedule"),
        (lambda: callbacks.TemperatureScheduler(lambda a, b, c: 1.0), "schedule"),
        (lambda: callbacks.LossWeightScheduler(lambda e: 1.0, "temperature"), "weight"),
        (lambda: schedules.linear_warmup(-1.0, 2), "value"),
        (lambda: schedules.linear_warmup(1.0, 0), "epochs"),
        (lambda: schedules.linear_warmup(1.0, 2, -1), "start_epoch"),
        (lambda: schedules.start_at(1.5, 1.0), "epoch"),
        (lambda: schedules.start_at(1, "1"), "value"),
        (lambda: schedules.cosine(float("inf"), 0.0, 3), "start"),
        (lambda: schedules.cosine(1.0, None, 3), "end"),
        (lambda: schedules.cosine(1.0, 0.0, 2.5), "epochs"),
        (lambda: callbacks.LocalShapeMonitor([], region="segment"), "region"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=()), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=(0.0, 1.5)), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=(0.5, 0.5)), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions="0.5"), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], measure_freq=0), "measure_freq"),
        (lambda: callbacks.LocalShapeMonitor([], max_points=0), "max_points"),
        (lambda: callbacks.LocalShapeMonitor([], seed=-1), "seed"),
        (lambda: callbacks.BlindRegionSearch([], []), "regions"),
        (lambda: callbacks.BlindRegionSearch(Towards(), []), "regions"),
        (lambda: callbacks.BlindRegionSearch([Towards()], [], search_freq=True), "search_freq"),
        (lambda: callbacks.BlindRegionSearch([Towards()], [], start_epoch=-1), "start_epoch"),
    ],
)
def test_wrong_arguments_are_named(make, argument):
    with pytest.raises(ValueError, match=f"^`{argument}` .*Received: "):
        make()


@pytest.mark.parametrize(("name", "weights_only"), [("student", False), ("student.keras", True)])
def test_a_file_name_that_does_not_fit(name, weights_only):
    with pytest.raises(ValueError, match=f"filepath={name}"):
        callbacks.StudentCheckpoint(name, save_weights_only=weights_only)


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.LossWeightScheduler(schedules.start_at(0, 1.0)),
        callbacks.TemperatureScheduler(schedules.start_at(0, 1.0)),
        callbacks.RegionRadiusScheduler(schedules.start_at(0, 1.0)),
        callbacks.StudentCheckpoint("student.keras"),
        callbacks.LocalShapeMonitor(np.zeros((3, FEATURES))),
        callbacks.BlindRegionSearch([regions.Segment()], np.zeros((3, FEATURES))),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_are_for_distillers(callback):
    model = linear(random_weights(1))
    model.compile("sgd", "mse")
    name = type(callback).__name__
    with pytest.raises(ValueError, match=f"`callbacks` may contain a {name} .* of type Sequential"):
        model.fit(*data(), callbacks=[callback], verbose=0)


def test_candidates_must_suit_interpolated_targets():
    distiller = make_distiller(region_targets="interpolated")
    search = callbacks.BlindRegionSearch([regions.Segment(), regions.Ball(0.1)], data()[0])
    with pytest.raises(ValueError, match=r"`regions` must .*Received: \[Ball"):
        train(distiller, search)


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.LocalShapeMonitor(np.zeros((4, FEATURES), "float32")),
        callbacks.BlindRegionSearch([Towards()], np.zeros((4, FEATURES), "float32")),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_several_outputs_are_refused_by_name(callback):
    def model():
        inputs = keras.Input((FEATURES,))
        return keras.Model(inputs, {name: keras.layers.Dense(3)(inputs) for name in "ab"})

    distiller = L2RKDDistiller(model(), model(), hard_weight=0.0)
    distiller.compile("sgd")
    name = type(callback).__name__
    with pytest.raises(ValueError, match=f"`callbacks` may contain a {name} only .* one output"):
        distiller.fit(np.zeros((8, FEATURES), "float32"), callbacks=[callback], verbose=0)
