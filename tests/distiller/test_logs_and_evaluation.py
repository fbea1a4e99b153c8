"""What `fit` and `evaluate` of `L2RKDDistiller` report."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.distillation import FeatureDistillation, LogitsDistillation

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import (
    REGION_POINTS,
    compiled,
    example_weights,
    fit_once,
    linear_pair,
    network,
    outputs_of,
    table,
)
from tests.helpers import WEIGHTS, assert_equal_weights, convnet, cross_entropy, images
from tests.references import losses as reference

# What is logged.


@pytest.mark.parametrize(
    ("arguments", "weighted"), [({}, False), *((arguments, True) for arguments in REGION_POINTS)]
)
def test_loss_is_the_weighted_sum_of_its_terms_over_uneven_batches(arguments, weighted):
    x, y = table()
    distiller = L2RKDDistiller(
        network(0),
        network(1, kernel_regularizer=keras.regularizers.L2(0.01)),
        distillation_losses=[
            LogitsDistillation(loss=keras.losses.KLDivergence()),
            FeatureDistillation(teacher_layer_name="hidden", student_layer_name="hidden"),
        ],
        distillation_loss_weights=[0.5, 0.25],
        **WEIGHTS,
        **arguments,
    )
    logs = fit_once(
        compiled(distiller, rate=0.0), x, y, sample_weight=example_weights() if weighted else None
    )
    total = (
        WEIGHTS["hard_weight"] * logs["hard_loss"][0]
        + WEIGHTS["kd_weight"] * logs["kd_loss"][0]
        + WEIGHTS["region_weight"] * logs["region_loss"][0]
        + 0.5 * logs["logits_distillation_loss"][0]
        + 0.25 * logs["feature_distillation_loss"][0]
        + 0.01 * (distiller.student.get_weights()[0].astype("float64") ** 2).sum()
    )
    np.testing.assert_allclose(logs["loss"][0], total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("arguments", [{"num_region_points": 3}])
def test_terms_are_means_over_the_examples_of_the_epoch(arguments, weighted):
    x, y = table()
    teacher, student = linear_pair()
    weights = example_weights() if weighted else np.ones(13)
    distiller = L2RKDDistiller(
        teacher, student, region=regions.Segment(radius=1e-7), **WEIGHTS, **arguments
    )
    logs = fit_once(
        compiled(distiller, rate=0.0), x, y, sample_weight=weights if weighted else None
    )
    soft = reference.kl(outputs_of(teacher, x), outputs_of(student, x), 4.0)
    hard = -reference.log_softmax(outputs_of(student, x))[np.arange(13), y]
    np.testing.assert_allclose(logs["hard_loss"][0], (weights * hard).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["kd_loss"][0], (weights * soft).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["region_loss"][0], (weights * soft).mean(), rtol=1e-5)


# Logs, evaluation, callbacks.


@pytest.mark.parametrize("eagerly", [False, True])
def test_without_training_labels_only_validation_accuracy_is_logged(eagerly):
    x, y = table()
    distiller = L2RKDDistiller(network(0), network(1), hard_weight=0.0)
    compiled(distiller, metrics=["accuracy"], run_eagerly=eagerly)
    data = tf.data.Dataset.from_tensor_slices(x).batch(5)
    history = distiller.fit(data, validation_data=(x, y), epochs=2, verbose=0).history
    assert set(history) == {
        "loss", "hard_loss", "kd_loss", "region_loss", "val_loss", "val_hard_loss", "val_accuracy",
    }  # fmt: skip
    accuracy = np.mean(distiller.predict(x, verbose=0).argmax(axis=-1) == y)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)


class WithOwnLogs(L2RKDDistiller):
    """Logs the number of the step, and adds up the examples of an evaluation."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = keras.metrics.Sum(name="seen")

    def train_step(self, data):
        logs = super().train_step(data)
        return logs | {"steps": tf.identity(self.optimizer.iterations)}

    def test_step(self, data):
        self.seen.update_state(tf.shape(data[0])[0])
        return super().test_step(data) | {"size": tf.shape(data[0])[0], "seen": self.seen.result()}


@pytest.mark.parametrize(
    "options", [{"run_eagerly": True}, {"run_eagerly": False}, {"steps_per_execution": 2}]
)
def test_steps_of_a_subclass_log_more(options):
    x, y = table()
    one, other = (
        kind(network(0), network(1), seed=0, name="distiller")
        for kind in (L2RKDDistiller, WithOwnLogs)
    )
    for distiller in (one, other):
        distiller.compile("sgd", cross_entropy(), metrics=["accuracy"], **options)
    data = {"batch_size": 5, "shuffle": False, "verbose": 0}
    arguments = {"epochs": 2, "validation_data": (x, y), "validation_batch_size": 5, **data}
    expected, found = (model.fit(x, y, **arguments).history for model in (one, other))
    assert found.pop("steps") == [3, 6]
    assert found.pop("val_size") == [3, 3]  # of the last batch
    assert (found.pop("seen"), found.pop("val_seen")) == ([0, 0], [13, 13])
    assert found == expected
    evaluated = other.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert [evaluated.pop("size"), evaluated.pop("seen")] == [3, 13]
    assert evaluated == one.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert other.train_on_batch(x, y, return_dict=True)["steps"] == 7


def test_evaluate_predict_and_call_are_those_of_the_student():
    x, y = table()
    penalty = {"kernel_regularizer": "l2", "inner": [layers.Dropout(0.5)]}
    distiller = compiled(L2RKDDistiller(network(0), network(1, **penalty)), metrics=["accuracy"])
    fit_once(distiller, x, y)
    student = distiller.student
    np.testing.assert_array_equal(distiller(x), student(x))
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    options = {"batch_size": 5, "sample_weight": example_weights(), "verbose": 0}
    expected = student.evaluate(x, y, return_dict=True, **options)
    actual = distiller.evaluate(x, y, return_dict=True, **options)
    assert {name: actual[name] for name in expected} == expected
    decay = 0.01 * (student.get_weights()[0].astype("float64") ** 2).sum()
    np.testing.assert_allclose(actual["hard_loss"] + decay, actual["loss"], rtol=1e-6)


def test_training_and_testing_on_a_batch_equal_fit_and_evaluate():
    x, y = table()
    one, other = (
        compiled(L2RKDDistiller(network(0), network(1), seed=0), metrics=["accuracy"])
        for _ in range(2)
    )
    history = one.fit(x, y, batch_size=13, shuffle=False, verbose=0).history
    logs = other.train_on_batch(x, y, return_dict=True)
    assert_equal_weights(one.student, other.student)
    assert {name: [pytest.approx(value)] for name, value in logs.items()} == history
    other.reset_metrics()  # Keras before 3.15 continues with those of the batch before
    assert other.test_on_batch(x, y, return_dict=True) == pytest.approx(
        one.evaluate(x, y, verbose=0, return_dict=True)
    )


def test_a_student_compiled_and_trained_before_does_not_mix_into_the_logs():
    x, y = table()
    student = network(1)
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    student.fit(x, y, verbose=0)
    distiller = compiled(L2RKDDistiller(network(0), student), rate=0.0, metrics=["accuracy"])
    history = fit_once(distiller, x, y)
    assert set(history) == {"accuracy", "loss", "hard_loss", "kd_loss", "region_loss"}
    accuracy = np.mean(student.predict(x, verbose=0).argmax(axis=-1) == y)
    assert history["accuracy"] == [pytest.approx(accuracy)]


def test_unlabelled_validation_reports_only_regularization():
    x, _ = images(8)
    distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), hard_weight=0.0))
    data = tf.data.Dataset.from_tensor_slices((x,)).batch(4)
    history = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert set(history) == {"loss", "hard_loss", "kd_loss", "region_loss", "val_loss"}
    assert history["val_loss"] == [0.0, 0.0]
