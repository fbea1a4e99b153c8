"""Which logits and which labels methods see."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from l2rkd_tf.regions.points import draw_points
from tests.distiller.methods_by_hand import CLASSES, SEED, compiled, fit, seed_of, table
from tests.helpers import assert_equal_weights, cross_entropy
from tests.references import logits as reference

# Logits of models of probabilities.


def dense_pair(activation=None):
    models = []
    for seed in (1, 2):
        init = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        models.append(
            keras.Sequential(
                [
                    keras.Input((4,)),
                    layers.Dense(CLASSES, activation=activation, kernel_initializer=init),
                ]
            )
        )
    return models


LOGITS = {
    "dkd": methods.DKD,
    "dist": methods.DIST,
    "logit_standardization": methods.LogitStandardization,
}


@pytest.mark.covering
@pytest.mark.parametrize("at", ["data", "region", "both"])
@pytest.mark.parametrize("name", LOGITS)
def test_methods_see_the_logits_of_models_of_probabilities(name, at):
    x, y = table()
    logs, students = [], []
    for activation in (None, "softmax"):
        teacher, student = dense_pair(activation)
        distiller = L2RKDDistiller(
            teacher, student, from_logits=activation is None, distillation_losses=LOGITS[name](),
            distillation_losses_at=at, distillation_loss_weights=1.0, hard_weight=0.0, seed=SEED,
        )  # fmt: skip
        logs.append(fit(compiled(distiller), x, y, epochs=2))
        students.append(student)
    np.testing.assert_allclose(logs[1][f"{name}_loss"], logs[0][f"{name}_loss"], rtol=1e-4)
    assert_equal_weights(*students, atol=1e-5)


# Labels.


def dkd_of(teacher, student, x, labels):
    return methods.DKD().values(teacher(x), student(x), labels).numpy().mean()


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y,
        lambda y: y.astype("float32"),
        lambda y: y[:, None],
        lambda y: np.eye(CLASSES, dtype="float32")[y],
        lambda y: np.eye(CLASSES, dtype="int32")[y],
    ],
    ids=["(b,)", "float (b,)", "(b, 1)", "one-hot", "integer one-hot"],
)
def test_labels_of_any_form_are_the_target_at_data_and_the_teachers_class_elsewhere(labels):
    x, y = table()
    teacher, student = dense_pair()
    assert (teacher(x).numpy().argmax(axis=1) != y).any()
    one_hot = np.ndim(labels(y)) == 2 and labels(y).shape[1] > 1
    distiller = L2RKDDistiller(
        teacher,
        student,
        region=regions.Segment(),
        distillation_losses=[methods.DKD() for _ in range(3)],
        distillation_losses_at=["data", "region", "both"],
        seed=SEED,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if one_hot else cross_entropy()
    distiller.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    logs = fit(distiller, x, labels(y))
    near = draw_points(regions.Segment(), tf.constant(x), seed_of(0)).at_region(x)
    at_data, at_region = (
        dkd_of(teacher, student, x, y), dkd_of(teacher, student, near, None)
    )  # fmt: skip
    np.testing.assert_allclose(logs["dkd_loss"][0], at_data, rtol=1e-5)
    np.testing.assert_allclose(logs["dkd_loss_2"][0], at_region, rtol=1e-5)
    np.testing.assert_allclose(logs["dkd_loss_3"][0], (at_data + at_region) / 2, rtol=1e-5)


def test_without_labels_the_target_is_the_teachers_class():
    x, _ = table()
    teacher, student = dense_pair()
    distiller = L2RKDDistiller(teacher, student, distillation_losses=methods.DKD(), hard_weight=0.0)
    logs = fit(compiled(distiller, rate=0.0), x, None)
    expected = dkd_of(teacher, student, x, None)
    np.testing.assert_allclose(logs["dkd_loss"][0], expected, rtol=1e-5)


# Labels that are no class.


def test_several_classes_or_none_are_no_label_and_smoothed_ones_are():
    x, y = table(8)
    smoothed = 0.9 * np.eye(CLASSES)[y] + 0.1 / CLASSES
    given = np.where(np.arange(8)[:, None] < 4, smoothed, 0.0).astype("float32")
    given[6:, :2] = 1.0
    teacher, student = dense_pair()
    distiller = L2RKDDistiller(
        teacher, student, hard_weight=0.0, distillation_losses=methods.DKD(), seed=SEED
    )
    log = fit(compiled(distiller, rate=0.0), x, given)["dkd_loss"][0]
    known = np.where(np.arange(8) < 4, y, -1)
    np.testing.assert_allclose(log, dkd_of(teacher, student, x, known), rtol=1e-5)


def dense_outputs_pair():
    models = []
    for seed in (1, 2):
        init = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        models.append(
            keras.Sequential(
                [keras.Input((4, 2)), layers.Dense(CLASSES, kernel_initializer=init, name="last")]
            )
        )
    return models


def ignoring(number):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=number)


def by_partial(number):
    function = keras.losses.sparse_categorical_crossentropy
    return functools.partial(function, from_logits=True, ignore_class=number)


@pytest.mark.parametrize(
    ("number", "loss"),
    [(255, ignoring(255)), (255, by_partial(255)), (255, None), (-100, ignoring(-100)),
     (1, ignoring(1)), (1, by_partial(1))],
    ids=["255", "255 in a partial", "255 without a loss", "-100", "1", "1 in a partial"],
)  # fmt: skip
@pytest.mark.parametrize(("jit_compile", "at"), [(False, "data"), (True, "both")])
def test_dkd_takes_an_ignored_label_for_none(number, loss, jit_compile, at):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(8, 4, 2)).astype("float32")
    y = rng.integers(0, CLASSES, (8, 4))
    y[:, :2] = number
    teacher, student = dense_outputs_pair()
    classes = np.where(y == number, teacher(x).numpy().argmax(axis=-1), y)
    distiller = L2RKDDistiller(
        teacher, student, hard_weight=0.0 if loss is None else 0.1, distillation_losses_at=at,
        distillation_losses=methods.DKD(), region=regions.Ball(1e-6), seed=SEED,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(0.0), loss, jit_compile=jit_compile)
    logits = [model(x).numpy().reshape(-1, CLASSES) for model in (teacher, student)]
    targets = [classes] if at == "data" else [classes, teacher(x).numpy().argmax(axis=-1)]
    expected = [reference.dkd(*logits, one.ravel(), 1.0, 8.0, 4.0).mean() for one in targets]
    log = fit(distiller, x, y)["dkd_loss"]
    np.testing.assert_allclose(log, np.mean(expected), rtol=1e-4)


@pytest.mark.parametrize(
    ("number", "loss"), [(255, ignoring(255)), (0, ignoring(0)), (-1, None), (-2, None)]
)
@pytest.mark.parametrize("form", [(8,), (8, 1)])
def test_crd_takes_an_ignored_label_for_none(number, loss, form):
    x, y = table(8)
    y = np.where(np.arange(8) % 2, y, number)
    crd = methods.CRD("last", "last", feature_dim=2, num_negatives=8)
    models = dense_pair()
    for model in models:
        model.layers[-1].name = "last"
    distiller = L2RKDDistiller(
        *models, hard_weight=0.0 if loss is None else 0.1, distillation_losses=crd, seed=SEED
    )
    distiller.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    fit(distiller, x, y.reshape(form))
    known = np.arange(8) % 2 == 1
    if number == 0:
        known &= y != 0
    np.testing.assert_array_equal(crd.label_memory, np.where(known, y, -1))


def test_crd_takes_numbers_that_are_no_classes_for_no_labels():
    x, _ = table(8)
    crd = methods.CRD("last", "last", feature_dim=2, num_negatives=8)
    models = [keras.Sequential([keras.Input((4,)), layers.Dense(1, name="last")]) for _ in "TS"]
    distiller = L2RKDDistiller(*models, divergence="mse", distillation_losses=crd, seed=SEED)
    distiller.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    fit(distiller, x, np.linspace(0.0, 0.9, 8, dtype="float32")[:, None])
    np.testing.assert_array_equal(crd.label_memory, np.full(8, -1))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 4, 1, 1)])
def test_labels_that_are_not_one_for_each_position_are_refused(shape):
    distiller = L2RKDDistiller(
        *dense_outputs_pair(), hard_weight=0.0, distillation_losses=methods.DKD(), seed=SEED
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    message = r"`distillation_losses`: DKD .*`y` must have a class .* shape \(4, 4\)\. Received: cl"
    with pytest.raises(ValueError, match=message):
        distiller.train_on_batch(np.zeros((4, 4, 2), "float32"), np.zeros(shape, "int32"))
