"""At which points methods compare."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import methods, regions
from l2rkd_tf.regions.points import draw_points
from tests.distiller.methods_by_hand import (
    METHODS,
    WEIGHTS,
    Points,
    compiled,
    data,
    distiller_of,
    fit,
    hand_step,
    pair,
    seed_of,
    twin_of,
)
from tests.helpers import assert_equal_weights


@pytest.mark.parametrize("at", ["region", "both"])
def test_a_method_at_region_points_draws_them_where_nothing_else_does(at):
    x, y = data()
    distiller = distiller_of(
        ["dkd", "fit_net"],
        [at, "data"],
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
    )
    names = ["dkd", "fit_net"]
    settings = WEIGHTS | {"hard_weight": 0.0, "kd_weight": 0.0, "region_weight": 0.0}
    models = pair()
    twins = [
        {n: twin_of(m, models) for n, m in zip(names, distiller.distillation_losses, strict=True)}
    ]
    points = Points(x, y, None, 0, regions.Segment())
    weights = {name: METHODS[name][1] for name in names}
    places = {"dkd": at, "fit_net": "data"}
    expected = hand_step(models, twins, weights, places, [points], settings)
    logs = fit(compiled(distiller), x, y)
    for name in ("dkd_loss", "fit_net_loss", "loss"):
        np.testing.assert_allclose(logs[name][0], expected[name], rtol=1e-5)
    assert logs["kd_loss"] == logs["region_loss"] == logs["hard_loss"] == [0.0]
    assert_equal_weights(distiller.student, models[1], atol=1e-6)


def test_only_a_method_at_region_points_needs_neither_labels_nor_a_compiled_loss():
    x, _ = data()
    distiller = distiller_of(
        ["logit_standardization"], "region", hard_weight=0.0, kd_weight=0.0, region_weight=0.0
    )
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = distiller.train_on_batch(x, return_dict=True)
    teacher, student = pair()
    near = draw_points(regions.Segment(), tf.constant(x), seed_of(0)).at_region(x)
    expected = methods.LogitStandardization().values(teacher(near), student(near)).numpy().mean()
    np.testing.assert_allclose(logs["logit_standardization_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], METHODS["logit_standardization"][1] * expected, rtol=1e-5
    )


def test_methods_at_data_are_unchanged_by_interpolated_targets():
    x, y = data()
    names = ["dkd", "fit_net", "jacobian_matching"]
    logs = []
    for targets in ("teacher", "interpolated"):
        distiller = distiller_of(names, region_targets=targets, replace_fraction=0.4)
        logs.append(fit(compiled(distiller, rate=0.0), x, y))
    for name in names:
        np.testing.assert_allclose(logs[1][f"{name}_loss"], logs[0][f"{name}_loss"], rtol=1e-5)
