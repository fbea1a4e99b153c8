"""`LinearRegion` in a distiller."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions
from l2rkd_tf.regions import LinearRegion
from tests.helpers import two_replicas
from tests.regions.bent_teachers import CLASSES, along, mlp, points


def distiller(teacher, region, steps_per_execution=2, **options):
    model = L2RKDDistiller(teacher, mlp(5, 6), region=region, seed=3, **options)
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return model


def fit(model, epochs=2):
    data = tf.data.Dataset.from_tensor_slices((points(32), np.arange(32) % CLASSES)).batch(8)
    return model.fit(data, epochs=epochs, verbose=0).history


@pytest.mark.parametrize(
    ("tolerance", "region_targets"),
    [pytest.param(0.0, "interpolated", marks=pytest.mark.stress), (0.1, "teacher")],
)
def test_training_repeats_with_its_seed(tolerance, region_targets):
    teacher = mlp(1, 8, 8)
    before = teacher.get_weights()
    runs = [
        distiller(teacher, LinearRegion(teacher, tolerance), region_targets=region_targets)
        for _ in range(2)
    ]
    histories = [fit(run) for run in runs]
    assert histories[0] == histories[1]
    assert histories[0]["loss"][1] < histories[0]["loss"][0]
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("tolerance", "options"),
    [
        (0.0, {"region_targets": "interpolated", "num_region_points": 2}),
        pytest.param(0.1, {"region_targets": "interpolated"}, marks=pytest.mark.stress),
        (0.1, {"region_targets": "teacher", "replace_fraction": 0.5}),
    ],
)
def test_a_linear_teacher_trains_as_with_a_segment(tolerance, options):
    teacher = mlp(1)
    expected = fit(distiller(teacher, regions.Segment(), **options | {"region_targets": "teacher"}))
    actual = fit(distiller(teacher, LinearRegion(teacher, tolerance), **options))
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-5)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda region: region, marks=pytest.mark.stress),
        lambda region: regions.Mixture([region]),
    ],
)
def test_interpolated_targets_are_the_teachers_own_within_its_linear_regions(wrap):
    teacher = mlp(1, 8, 8)
    asked, interpolated = (
        fit(distiller(teacher, wrap(LinearRegion(teacher, 0.0)), region_targets=targets))
        for targets in ("teacher", "interpolated")
    )
    np.testing.assert_allclose(interpolated["region_loss"], asked["region_loss"], rtol=1e-4)


def test_the_first_region_loss_by_hand():
    teacher = mlp(1, 8, 8)
    region, options = LinearRegion(teacher, 0.1), {"hard_weight": 0, "kd_weight": 0}
    model = distiller(teacher, region, **options, divergence="mse")
    drawn = []
    draw = region.draw
    region.draw = lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1]
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = points(16)
    logs = model.train_on_batch(x, return_dict=True)
    ((_, weights, limits, _),) = drawn
    moved = along(x, drawn[0], weights)
    expected = np.mean((teacher(moved) - model.student(moved)) ** 2)
    assert len(set(limits.numpy())) >= 3
    np.testing.assert_allclose(logs["region_loss"], expected, rtol=1e-5)


def test_the_radius_of_a_distiller_is_set_between_epochs():
    teacher = mlp(1, 8, 8)
    region = LinearRegion(teacher)
    model = distiller(teacher, region, hard_weight=0)
    fit(model, epochs=1)
    region.radius = 1e-6
    logs = fit(model, epochs=1)
    # The points no longer leave their examples: both terms compare at the same points.
    np.testing.assert_allclose(logs["region_loss"], logs["kd_loss"], rtol=1e-4)


def test_checkpoints_hold_no_teacher(tmp_path):
    teacher = mlp(1, 300)
    model = distiller(teacher, LinearRegion(teacher, 0.0))
    fit(model, epochs=1)
    model.save_weights(tmp_path / "distiller.weights.h5")
    tf.train.Checkpoint(model).save(os.fspath(tmp_path / "checkpoint"))
    variables = tf.train.list_variables(os.fspath(tmp_path))
    assert max(np.prod(shape, initial=1) for _, shape in variables[1:]) < 300
    assert os.path.getsize(tmp_path / "distiller.weights.h5") < 40_000


def test_a_saved_distiller_trains_on_with_its_own_teacher(tmp_path):
    teacher = mlp(1, 8, 8)
    model = distiller(teacher, LinearRegion(teacher, 0.0))
    fit(model, epochs=1)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert fit(loaded, epochs=1) == fit(model, epochs=1)


@pytest.mark.stress
def test_training_on_several_replicas():
    with two_replicas().scope():
        teacher = mlp(1, 8, 8)
        model = distiller(teacher, LinearRegion(teacher, 0.0), steps_per_execution=1)
    history = fit(model)
    assert history["loss"][1] < history["loss"][0]
