"""Limits in which `L2RKDDistiller` equals a plainer training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    BATCH,
    RATE,
    assert_equal_weights,
    batches,
    compiled,
    convnet,
    cross_entropy,
    images,
    linear,
    random_weights,
)


def test_without_region_it_is_plain_distillation_written_by_hand():
    x, y = images(13)
    distiller = L2RKDDistiller(convnet(0, 8), convnet(1), region_weight=0.0, temperature=2.0)
    compiled(distiller).fit(batches(x, y), epochs=2, verbose=0)

    teacher, student = convnet(0, 8), convnet(1)
    optimizer = keras.optimizers.SGD(RATE)
    for _ in range(2):
        for inputs, labels in batches(x, y):
            with tf.GradientTape() as tape:
                logits = student(inputs, training=True)
                soft = tf.nn.softmax(teacher(inputs, training=False) / 2.0)
                kl = keras.losses.kl_divergence(soft, tf.nn.softmax(logits / 2.0))
                loss = 0.1 * cross_entropy()(labels, logits) + 0.9 * 4.0 * tf.reduce_mean(kl)
            variables = student.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    assert_equal_weights(distiller.student, student, atol=1e-6)


def test_hard_labels_only_equals_student_fit_bit_for_bit():
    x, y = images(13)
    optimizer = {"learning_rate": 0.1, "momentum": 0.9}

    def metrics():
        return ["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True)]

    student = convnet(1, kernel_regularizer="l2")
    student.compile(keras.optimizers.SGD(**optimizer), cross_entropy(), metrics=metrics())
    expected = student.fit(batches(x, y), epochs=3, verbose=0)

    distiller = L2RKDDistiller(
        convnet(0, 8), convnet(1, kernel_regularizer="l2"),
        hard_weight=1.0, kd_weight=0.0, region_weight=0.0,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(**optimizer), cross_entropy(), metrics=metrics())
    actual = distiller.fit(batches(x, y), epochs=3, verbose=0)

    assert_equal_weights(distiller.student, student)  # BatchNorm statistics are among them
    for one, other in zip(distiller.optimizer.variables, student.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, values in expected.history.items():
        assert actual.history[name] == values


def test_degenerate_region_equals_distillation_with_both_weights():
    x, y = images(8)
    teacher, student = convnet(0, 8), convnet(1)
    student.layers[1].trainable = False  # joint batches have the same statistics, up to 1e-6
    near = L2RKDDistiller(
        teacher, student, region=regions.Segment(radius=1e-6), hard_weight=0.0, kd_weight=0.4,
        region_weight=0.5,
    )  # fmt: skip
    other_student = convnet(1)
    other_student.layers[1].trainable = False
    plain = L2RKDDistiller(
        teacher, other_student, hard_weight=0.0, kd_weight=0.9, region_weight=0.0
    )
    for distiller in (near, plain):
        compiled(distiller).fit(batches(x, y), epochs=3, verbose=0)
    assert_equal_weights(near.student, plain.student, atol=1e-5)


@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
def test_student_equal_to_a_linear_teacher_has_no_loss_and_no_gradient(targets):
    rng = np.random.default_rng(5)
    x, weights = rng.normal(size=(BATCH, 5)).astype("float32"), random_weights(rng, (5,))
    teacher, student = linear((5,), weights), linear((5,), weights)
    distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, region_targets=targets)
    history = compiled(distiller).fit(x, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["kd_loss"], 0.0, atol=1e-6)
    np.testing.assert_allclose(history["region_loss"], 0.0, atol=1e-5)
    assert_equal_weights(student, teacher, atol=1e-5)
