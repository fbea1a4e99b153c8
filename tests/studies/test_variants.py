"""Tests of the ways to choose and to weigh region points that only the bench has."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2rkd_tf
from l2rkd_tf import data, regions
from studies.harness import definitions, runs, variants
from studies.harness.definitions import Method

_NAMES = [name for name in definitions.VARIANTS if name]


@pytest.fixture
def trained(small, tmp_path, monkeypatch):
    """Trains a student with a variant; returns what was measured, and its weights."""
    trainees = []

    def fit(trainee, *arguments, **options):
        trainees.append(trainee)
        return fit_as_it_is(trainee, *arguments, **options)

    fit_as_it_is = runs.training.fit
    monkeypatch.setattr(runs.training, "fit", fit)

    def train(variant):
        options = {"region": "patch:grid=2", "replace_fraction": 0.5}
        method = Method(kind="l2rkd", options=options, variant=variant)
        methods = small.methods | {"it": method}
        study = dataclasses.replace(small, methods=methods, teacher_steps=8, measures=(), steps=40)
        place = {"pair": "pair", "fraction": 0.5, "length": 1.0}
        job = place | {"phase": "test", "method": "it", "seed": 0}
        runs.train_teacher(job, study, str(tmp_path))
        found = runs.train_student(job, study, str(tmp_path))
        return found, trainees[-1].student.get_weights()

    return train


@pytest.mark.parametrize("name", _NAMES)
def test_every_variant_trains_another_student(trained, name):
    found, weights = trained(name)
    assert 0.0 < found["accuracy"] <= 100.0
    assert found["student_points"] == found["teacher_points"]
    _, plain = trained("")
    assert not np.allclose(weights[0], plain[0], rtol=1e-3)


def test_the_hardest_point_has_the_largest_divergence_of_all():
    teacher, student = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
    )
    inner = regions.Ball(2.0, norm="gaussian")
    region = variants.Hardest(inner, teacher, student)
    inputs = tf.random.stateless_normal([6, 4], [0, 1])
    draws, chosen = region.draw(inputs, [3, 4])
    divergences = []
    for drawn in draws:
        points = inner.apply(inputs, drawn)
        (p, q) = (tf.nn.softmax(tf.cast(model(points), tf.float64)) for model in (teacher, student))
        divergences.append(np.sum(p * np.log(p / q), axis=-1))
    np.testing.assert_array_equal(chosen, np.argmax(divergences, axis=0))
    assert len(set(chosen.numpy())) > 1
    expected = [inner.apply(inputs, draws[which])[row] for row, which in enumerate(chosen.numpy())]
    np.testing.assert_array_equal(region.apply(inputs, (draws, chosen)), expected)


def test_an_own_temperature_that_equals_the_other_changes_nothing():
    def trained(change):
        keras.utils.set_random_seed(0)
        teacher, student = (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
        )
        options = change({"region": regions.Segment(), "temperature": 4.0}, teacher, student)
        distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0.0, seed=0, **options)
        distiller.compile(keras.optimizers.SGD(1.0))
        distiller.fit(np.eye(4, dtype="float32"), shuffle=False, verbose=0)
        return student.get_weights()

    same, plain, other = (
        trained(lambda *arguments, own=own: variants.own_temperature(own, *arguments))
        if own
        else trained(lambda options, *_: options)
        for own in (4.0, None, 2.0)
    )
    for one, expected in zip(same, plain, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(other[0], plain[0], rtol=1e-3)


def test_augmented_views_are_those_of_the_dataset():
    images = tf.random.stateless_uniform([5, 8, 8, 1], [0, 1])
    region = variants.Augmented("crop_flip")
    seeds = region.draw(images, [1, 2])
    views = region.apply(images, seeds)
    expected = [data.crop_flip(*one) for one in zip(images, seeds, strict=True)]
    np.testing.assert_array_equal(views, expected)
    assert not np.array_equal(views, images)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("falling weight", [1.8, 1.35, 0.9, 0.45]),
        ("data last", [0.9, 0.9, 0.9, 0.0]),
        ("growing radius", [0.25, 0.625, 1.0, 1.0]),
    ],
)
def test_what_changes_with_the_steps(name, values):
    teacher, student = (
        keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
        for _ in range(2)
    )
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, region=regions.Patch(grid=2), seed=0)
    (callback,) = variants.callbacks(name, 4)
    callback.set_model(distiller)
    seen = []
    for step in range(4):
        callback.on_train_batch_begin(step)
        radius = name == "growing radius"
        seen.append(distiller.region.radius if radius else distiller.region_weight)
    np.testing.assert_allclose(seen, values, rtol=1e-6)


def test_warm_up_rises_in_a_tenth_of_the_steps_and_ends_at_0():
    teacher, student = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)
    )
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(0.5, decay_steps=40)
    distiller.compile(keras.optimizers.SGD(rate))
    (callback,) = variants.callbacks("warm-up", 40)
    callback.set_model(distiller)
    callback.on_train_begin()
    rates = [distiller.optimizer._learning_rate(step) for step in (0, 2, 4, 22, 40)]
    np.testing.assert_allclose(rates, [0.0, 0.25, 0.5, 0.25, 0.0], rtol=1e-6, atol=1e-7)
