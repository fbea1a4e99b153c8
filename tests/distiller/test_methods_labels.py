"""Which logits and which labels methods see."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from l2rkd_tf.regions.points import draw_points
from tests.distiller.methods_by_hand import CLASSES, SEED, compiled, fit, seed_of, table
from tests.helpers import assert_equal_weights, cross_entropy

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
