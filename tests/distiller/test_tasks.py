"""Tables, regression, several labels, and models of probabilities."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_breast_cancer

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import FEATURES, fit_once, linear_pair, network, one_hot, same, table
from tests.helpers import (
    assert_equal_weights,
    cross_entropy,
)

# Tables, regression, several labels.


def test_a_table_of_patients_distils_to_a_small_student():
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    x = ((x - x[:400].mean(axis=0)) / x[:400].std(axis=0)).astype("float32")
    teacher, student = (
        keras.Sequential([keras.Input((30,)), layers.Dense(n, "relu"), layers.Dense(2)])
        for n in (32, 2)
    )
    teacher.compile(keras.optimizers.Adam(0.01), cross_entropy())
    teacher.fit(x[:400], y[:400], epochs=8, verbose=0)
    distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.Adam(0.02), cross_entropy(), metrics=["accuracy"])
    distiller.fit(x[:400], epochs=8, verbose=0)
    assert repr(distiller.region) == repr(regions.default_region(x))
    assert distiller.evaluate(x[400:], y[400:], verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
def test_a_regression_student_learns_a_linear_teacher(targets):
    x, _ = table(64)
    teacher, student = linear_pair(outputs=2)
    distiller = L2RKDDistiller(
        teacher, student, divergence="mse", hard_weight=0.0, region_targets=targets, seed=0
    )
    distiller.compile(keras.optimizers.SGD(0.3))
    losses = distiller.fit(x, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 100
    assert_equal_weights(student, teacher, atol=0.1)


def test_a_multi_label_student_agrees_with_its_teacher():
    x, _ = table(64)
    fresh = np.random.default_rng(9).normal(size=(500, FEATURES)).astype("float32")
    teacher, student = linear_pair()
    before = np.mean((teacher(fresh) > 0) == (student(fresh) > 0))
    distiller = L2RKDDistiller(teacher, student, divergence="binary_kl", hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.Adam(0.1))
    distiller.fit(x, epochs=30, batch_size=32, verbose=0)
    agreement = np.mean((teacher(fresh) > 0) == (student(fresh) > 0))
    assert before < 0.8
    assert agreement > 0.97


@pytest.mark.parametrize(
    ("activation", "divergence", "loss", "labels"),
    [
        ("softmax", "kl", keras.losses.SparseCategoricalCrossentropy, same),
        ("softmax", "kl", keras.losses.CategoricalCrossentropy, one_hot),
        ("sigmoid", "binary_kl", keras.losses.BinaryCrossentropy, one_hot),
    ],
)
def test_models_of_probabilities_train_as_those_of_logits(activation, divergence, loss, labels):
    x, y = table()
    students, histories = [], []
    for last, from_logits in ((None, True), (activation, False)):
        distiller = L2RKDDistiller(
            network(0, activation=last),
            network(1, activation=last),
            divergence=divergence,
            from_logits=from_logits,
            seed=0,
        )
        distiller.compile(
            keras.optimizers.SGD(0.5), loss(from_logits=from_logits), run_eagerly=True
        )
        histories.append(fit_once(distiller, x, labels(y), epochs=2))
        students.append(distiller.student)
    assert_equal_weights(*students, atol=1e-5)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, atol=1e-6)


# A loss that takes logits for probabilities.


@pytest.mark.parametrize(
    ("loss", "activation", "warns"),
    [
        ("sparse_categorical_crossentropy", None, True),
        (keras.losses.SparseCategoricalCrossentropy(), None, True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax", True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, False),
        ("sparse_categorical_crossentropy", "softmax", False),
        (keras.losses.MeanSquaredError(), None, False),
    ],
)
def test_a_loss_that_mistakes_the_outputs_is_warned_of(loss, activation, warns):
    x, y = table(5)
    distiller = L2RKDDistiller(
        network(0, activation=activation),
        network(1, activation=activation),
        from_logits=activation is None,
    )
    labels = one_hot(y) if isinstance(loss, keras.losses.MeanSquaredError) else y
    distiller.compile("sgd", loss, run_eagerly=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distiller.train_on_batch(x, labels)
    messages = [str(w.message) for w in caught if "from_logits" in str(w.message)]
    assert bool(messages) == warns
    assert all("`loss`" in message for message in messages)
