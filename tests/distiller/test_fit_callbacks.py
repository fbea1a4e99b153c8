"""Values that change between epochs, and standard callbacks."""

import csv
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import compiled, fit_once, network, table
from tests.helpers import (
    TraceCountingDistiller,
    assert_equal_weights,
)


@pytest.mark.parametrize(
    ("start", "name", "value", "new_traces"),
    [
        ({}, "temperature", 1.5, 0),
        pytest.param({}, "hard_weight", 0.7, 0, marks=pytest.mark.stress),
        ({}, "kd_weight", 0.2, 0),
        pytest.param({}, "region_weight", 3.0, 0, marks=pytest.mark.stress),
        ({}, "radius", 0.2, 0),
        ({"hard_weight": 0.0}, "hard_weight", 0.5, 1),
        pytest.param({"kd_weight": 0.0}, "kd_weight", 0.5, 1, marks=pytest.mark.stress),
        pytest.param({"region_weight": 0.0}, "region_weight", 0.5, 1, marks=pytest.mark.stress),
        ({}, "region_weight", 0.0, 1),
        pytest.param({}, "region", regions.Ball(0.5), 1, marks=pytest.mark.stress),
    ],
)
def test_a_value_changed_between_epochs_takes_effect(start, name, value, new_traces):
    x, y = table(12)
    teacher = network(0)

    def distil(student, radius=1.0, **arguments):
        arguments = {"region": regions.Segment(radius), **arguments}
        distiller = TraceCountingDistiller(teacher, student, seed=0, **arguments)
        return compiled(distiller, rate=0.1, run_eagerly=False, jit_compile=False)

    before = []

    def change(epoch, logs=None):
        if epoch == 1:
            before.extend([distiller.student.get_weights(), distiller.traces])
            if name == "radius":
                distiller.region.radius = value
            else:
                setattr(distiller, name, value)

    distiller = distil(network(1), **start)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=change)
    history = distiller.fit(x, y, epochs=2, callbacks=[callback], **options).history

    fresh = distil(network(1), **{**start, name: value})
    fresh.student.set_weights(before[0])
    fresh.optimizer.build(fresh.student.trainable_variables)
    fresh.optimizer.iterations.assign(3)
    logs = fresh.fit(x, y, epochs=1, **options).history

    assert distiller.traces - before[1] == new_traces
    assert_equal_weights(distiller.student, fresh.student)
    assert {key: values[1:] for key, values in history.items()} == logs


def test_standard_callbacks_see_the_documented_values(tmp_path):
    x, y = table()
    distiller = compiled(
        L2RKDDistiller(network(0), network(1), seed=0), rate=0.5, metrics=["accuracy"]
    )
    states = []
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_accuracy", mode="max", save_best_only=True
        ),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: states.append(distiller.student.get_weights())
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        # Nothing improves by 100: the first epoch stays the best.
        keras.callbacks.EarlyStopping(
            "val_loss", min_delta=100.0, patience=2, restore_best_weights=True
        ),
    ]
    history = fit_once(distiller, x, y, validation_data=(x, y), epochs=9, callbacks=callbacks)
    assert set(history) == {
        "loss", "hard_loss", "kd_loss", "region_loss", "accuracy",
        "val_loss", "val_hard_loss", "val_accuracy",
    }  # fmt: skip
    assert [len(values) for values in history.values()] == [3] * 8
    for restored, state in zip(distiller.student.get_weights(), states[0], strict=True):
        np.testing.assert_array_equal(restored, state)
    best = keras.models.load_model(tmp_path / "best.keras").student.get_weights()
    for restored, state in zip(best, states[np.argmax(history["val_accuracy"])], strict=True):
        np.testing.assert_array_equal(restored, state)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == pytest.approx(values)


def test_a_dataset_is_fitted_without_a_warning_of_shuffle():
    x, y = table(12)
    distiller = compiled(L2RKDDistiller(network(0), network(1), seed=0))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*shuffle.*")
        distiller.fit(tf.data.Dataset.from_tensors((x, y)), verbose=0)
