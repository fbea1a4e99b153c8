"""With hard labels only, `L2RKDDistiller` trains as `student.fit` does."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller
from tests.distiller.helpers import (
    HARD_ONLY,
    MeanSquarePenalty,
    example_weights,
    network,
    one_hot,
    same,
    table,
)
from tests.helpers import assert_equal_weights, cross_entropy, two_replicas

STUDENTS = {
    "add_loss": lambda seed: network(seed, inner=[MeanSquarePenalty()]),
    "activity_regularizer": lambda seed: network(seed, activity_regularizer="l2"),
    "regularizers": lambda seed: network(seed, kernel_regularizer="l2", bias_regularizer="l1"),
    "dropout": lambda seed: network(seed, inner=[layers.Dropout(0.5, seed=3)]),
    "softmax": lambda seed: network(seed, activation="softmax"),
    "plain": network,
}


@pytest.mark.parametrize(
    ("student", "loss", "labels", "compile_options", "fit_options"),
    [
        ("add_loss", cross_entropy, same, {}, {}),
        ("activity_regularizer", cross_entropy, same, {}, {}),
        ("regularizers", cross_entropy, same, {}, {}),
        ("dropout", cross_entropy, same, {}, {}),
        ("softmax", lambda: "sparse_categorical_crossentropy", same, {"metrics": ["acc"]}, {}),
        ("plain", cross_entropy, same, {}, {"sample_weight": example_weights()}),
        ("plain", cross_entropy, same, {}, {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}}),
        ("plain", cross_entropy, same, {"loss_weights": 0.5}, {}),
        ("plain", cross_entropy, lambda y: y[:, None], {"metrics": ["accuracy"]}, {}),
        (
            "plain",
            lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            one_hot,
            {"metrics": ["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top2")]},
            {},
        ),
        (
            "plain",
            cross_entropy,
            same,
            {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
            {"sample_weight": example_weights()},
        ),
    ],
)
def test_hard_labels_only_equals_student_fit(student, loss, labels, compile_options, fit_options):
    x, y = table()
    alone, distilled = STUDENTS[student](1), STUDENTS[student](1)
    distiller = L2RKDDistiller(
        STUDENTS[student](0),
        distilled,
        from_logits=student != "softmax",
        **HARD_ONLY,
    )
    histories = []
    for model in (alone, distiller):
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), loss(), run_eagerly=True, **compile_options
        )
        histories.append(
            model.fit(
                x, labels(y), batch_size=5, epochs=2, shuffle=False, verbose=0, **fit_options
            ).history
        )
    assert_equal_weights(distilled, alone)
    for name, values in histories[0].items():
        assert histories[1][name] == values


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", [None, "none", "sum", "mean", "mean_with_sample_weight"])
def test_every_reduction_of_a_loss_is_logged_as_by_keras(reduction, weighted):
    x, y = table()
    options = {"batch_size": 5, "sample_weight": example_weights() if weighted else None}
    students = [network(1), network(1), network(1)]
    distiller = L2RKDDistiller(network(0), students[0], **HARD_ONLY)
    losses = [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=one)
        for one in (reduction, reduction, "sum_over_batch_size")
    ]
    logs = []
    for model, loss in zip((distiller, *students[1:]), losses, strict=True):
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
        logs.append(model.evaluate(x, y, verbose=0, return_dict=True, **options)["loss"])
        logs += model.fit(x, y, shuffle=False, verbose=0, **options).history["loss"]
    np.testing.assert_allclose(logs[:1], logs[2:3], rtol=1e-6)
    # Without a reduction Keras logs the mean, but trains with the gradient of the sum.
    is_reduced = reduction not in (None, "none")
    np.testing.assert_allclose(logs[1], logs[3 if is_reduced else 5], rtol=1e-6)
    assert_equal_weights(students[0], students[1 if is_reduced else 2], atol=1e-6)


def test_a_loss_without_a_reduction_on_two_replicas_equals_one_device():
    x, y = table()
    data = tf.data.Dataset.from_tensor_slices((x, y, example_weights())).batch(5)
    found = []
    for strategy in (tf.distribute.get_strategy(), two_replicas()):
        with strategy.scope():
            student = network(1)
            distiller = L2RKDDistiller(network(0), student, **HARD_ONLY)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
            distiller.compile(keras.optimizers.SGD(0.1), loss)
        found.append((student, distiller.fit(data, verbose=0).history["hard_loss"]))
    assert_equal_weights(found[0][0], found[1][0], atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


@pytest.mark.parametrize("reduction", [None, "sum", "mean", "mean_with_sample_weight"])
def test_every_reduction_of_losses_of_several_outputs(reduction):
    x, y = table()
    inputs = keras.Input(x.shape[1:])
    labels, weights = {"a": y, "b": y[::-1].copy()}, example_weights()
    student, teacher = (
        keras.Model(inputs, {name: layers.Dense(3, name=name)(inputs) for name in labels})
        for _ in range(2)
    )
    distiller, found = L2RKDDistiller(teacher, student, **HARD_ONLY), []
    for model in (distiller, student):
        loss = {
            name: keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
            for name in labels
        }
        model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
        options = {"batch_size": 5, "verbose": 0, "sample_weight": weights}
        logs = model.fit(x, labels, shuffle=False, **options).history
        found.append([logs[name][0] for name in ("loss", "a_loss", "b_loss")])
        logs = model.evaluate(x, labels, return_dict=True, **options)
        found[-1] += [logs[name] for name in ("loss", "a_loss", "b_loss")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_confidently_wrong_softmax_student_learns_as_in_student_fit():
    x, y = table()[0], np.ones(13, "int32")
    students = [network(1, activation="softmax") for _ in range(2)]
    for student in students:
        student.layers[-1].bias.assign([40.0, 0.0, 0.0])
    distiller = L2RKDDistiller(
        network(0, activation="softmax"), students[0], from_logits=False, **HARD_ONLY
    )
    for model in (distiller, students[1]):
        model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
        model.train_on_batch(x, y)
    np.testing.assert_allclose(students[1].layers[-1].bias, [39.0, 1.0, 0.0], atol=1e-4)
    assert_equal_weights(*students, atol=1e-6)
