"""The search for regions in which the student is blind."""

import keras
import numpy as np
import pytest

from l2rkd_tf import callbacks, regions
from tests.callbacks.helpers import (
    FEATURES,
    HARD_ONLY,
    Along,
    TrainFunctions,
    data,
    make_distiller,
    random_weights,
    train,
)
from tests.references import losses as reference


def planted(rate=0.0, **arguments):
    """Teacher and student that differ along feature 1 only, at points where it is 0."""
    kernel, bias = random_weights(1)
    blind = kernel.copy()
    blind[1] = 0.0
    distiller = make_distiller(rate=rate, **({"region": Along(3)} | arguments))
    distiller.student.set_weights([blind, bias])
    x, _ = data(4, 30)
    x[:, 1] = 0.0
    return distiller, x, kernel, blind, bias


def test_search_finds_the_planted_blind_region():
    distiller, x, kernel, blind, bias = planted()
    candidates = [Along(0), Along(1), Along(2)]
    search = callbacks.BlindRegionSearch(candidates, x)
    history = train(distiller, search, epochs=1)
    moved = x + np.eye(FEATURES)[1]
    expected = reference.kl(moved @ kernel + bias, moved @ blind + bias).mean()
    np.testing.assert_allclose(search.divergences, [0.0, expected, 0.0], rtol=1e-5, atol=1e-9)
    assert distiller.region is candidates[1]
    assert history["blind_region"] == [1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 0, 0, 0]),
        ({"search_freq": 3}, [1, 1, 1, 0, 0]),
        ({"start_epoch": 1, "search_freq": 2}, [-1, 1, 1, 0, 0]),
        ({"start_epoch": 9}, [-1] * 5),
    ],
)
def test_search_follows_the_student_and_retraces_only_for_another_region(options, expected):
    distiller, x, kernel, _, bias = planted()
    blind_to_0 = kernel.copy()
    blind_to_0[0] = 0.0
    x[:, 0] = 0.0
    functions = TrainFunctions()
    change = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            distiller.student.set_weights([blind_to_0, bias]) if epoch == 1 else None
        )
    )
    search = callbacks.BlindRegionSearch([Along(0), Along(1)], x, **options)
    history = train(distiller, search, functions, change, epochs=5)
    assert history["blind_region"] == expected
    for epoch in range(1, 5):
        anew = functions.seen[epoch] is not functions.seen[epoch - 1]
        assert anew == (expected[epoch] != expected[epoch - 1])


def test_a_resumed_search_begins_at_once():
    distiller, x, *_ = planted()
    search = callbacks.BlindRegionSearch([Along(0), Along(1)], x, search_freq=4)
    assert train(distiller, search, initial_epoch=5, epochs=7)["blind_region"] == [1, 1]


def test_the_region_that_was_found_is_trained_in():
    distiller, x, *_ = planted(rate=0.5)
    train(distiller, callbacks.BlindRegionSearch([Along(0), Along(1)], x), epochs=1)
    other, *_ = planted(rate=0.5, region=Along(1))
    train(other, epochs=1)
    for one, wanted in zip(
        distiller.student.get_weights(), other.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, wanted)


def test_search_draws_points_batch_by_batch_and_reports(capsys):
    # Teacher and student differ in proportion to the inputs, of which two balls have two sizes.
    kernel, bias = random_weights(1)
    distiller = make_distiller(
        divergence="mse", **(HARD_ONLY | {"hard_weight": 0.0, "kd_weight": 1.0})
    )
    distiller.student.set_weights([np.zeros_like(kernel), bias])
    candidates = [regions.Ball(radius, "gaussian") for radius in (2.0, 3.0)]
    x = np.zeros((3000, FEATURES), "float32")
    search = callbacks.BlindRegionSearch(candidates, x, max_points=2000, verbose=1)
    train(distiller, search, epochs=1)
    expected = np.array([4.0, 9.0]) * (kernel**2).sum(axis=0).mean()
    np.testing.assert_allclose(search.divergences, expected, rtol=0.1)
    assert "Epoch 1: blind region 1 of divergences" in capsys.readouterr().out
