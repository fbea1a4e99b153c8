"""With hard labels only, `L2RKDDistiller` trains as `student.fit` does."""

import keras
import numpy as np
import pytest
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
from tests.helpers import assert_equal_weights, cross_entropy

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
