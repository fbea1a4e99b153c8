"""Schedules of weights, temperature and radius, through `fit`."""

import pickle

import keras
import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, callbacks, regions
from l2rkd_tf.callbacks import schedules
from tests.callbacks.helpers import (
    CLASSES,
    EXAMPLES,
    NUMBERS,
    RATE,
    TrainFunctions,
    data,
    linear,
    make_distiller,
    random_weights,
    train,
)
from tests.references import losses as reference


class CountedDense(keras.layers.Dense):
    """Counts how often it is called, or traced."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return super().call(inputs)


def hand_run(epochs):
    """Kernel and bias of the student after one SGD step for each dict of numbers, in float64."""
    x, y = data()
    x = x.astype("float64")
    (teacher_kernel, teacher_bias), (kernel, bias) = random_weights(1), random_weights(2)
    for number in epochs:
        near = x + number["region_radius"] * (np.roll(x, 1, axis=0) - x)

        def of_kl(points, student=(kernel, bias), temperature=number["temperature"]):
            return reference.kl_gradient(
                points @ teacher_kernel + teacher_bias,
                points @ student[0] + student[1],
                temperature,
            )

        terms = [
            (number["hard_weight"], x, reference.softmax(x @ kernel + bias) - np.eye(CLASSES)[y]),
            (number["kd_weight"], x, of_kl(x)),
            (number["region_weight"], near, of_kl(near)),
        ]
        steps = [RATE * weight / EXAMPLES * of_logits for weight, _, of_logits in terms]
        kernel = kernel - sum(points.T @ s for (_, points, _), s in zip(terms, steps, strict=True))
        bias = bias - sum(step.sum(axis=0) for step in steps)
    return kernel, bias


def scheduler_of(name, schedule):
    if name == "temperature":
        return callbacks.TemperatureScheduler(schedule)
    if name == "region_radius":
        return callbacks.RegionRadiusScheduler(schedule)
    return callbacks.LossWeightScheduler(schedule, name)


@pytest.mark.parametrize("name", NUMBERS)
def test_scheduled_numbers_train_as_by_hand_in_one_trace(name):
    values = [0.25, 0.9, 0.6]
    distiller = make_distiller(layer=CountedDense, run_eagerly=False)
    train(distiller, epochs=1, batch_size=EXAMPLES)
    distiller.student.set_weights(random_weights(2))
    traced, before = distiller.student.layers[-1].calls, distiller.train_function
    history = train(distiller, scheduler_of(name, values.__getitem__), epochs=3)
    expected = hand_run([NUMBERS | {name: value} for value in values])
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)
    assert history[name] == values
    assert distiller.train_function is before
    assert distiller.student.layers[-1].calls == traced


def test_a_weight_that_stops_being_zero_is_traced_again_once():
    distiller, functions = make_distiller(run_eagerly=False), TrainFunctions()
    scheduler = callbacks.LossWeightScheduler(schedules.start_at(1, NUMBERS["region_weight"]))
    history = train(distiller, scheduler, functions, epochs=3)
    first, second, third = functions.seen
    assert first is not second and second is third
    assert history["region_weight"] == [0.0, 1.3, 1.3]
    assert history["region_loss"][0] == 0.0 and min(history["region_loss"][1:]) > 0.0
    expected = hand_run([NUMBERS | {"region_weight": 0.0}, NUMBERS, NUMBERS])
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda epoch, value: value / 2, [1.5, 0.75]),
        (lambda epoch, scale=2.0: scale * (epoch + 1), [2.0, 4.0]),
        (keras.optimizers.schedules.ExponentialDecay(4.0, 1, 0.5), [4.0, 2.0]),
        (lambda epoch: np.float32(0.5), [0.5, 0.5]),
        (lambda epoch: 1 + epoch, [1.0, 2.0]),
    ],
    ids=["epoch and value", "default", "keras", "numpy", "integer"],
)
def test_kinds_of_schedules(schedule, expected):
    scheduler = callbacks.TemperatureScheduler(schedule)
    assert train(make_distiller(), scheduler)["temperature"] == expected


def test_a_resumed_run_uses_the_schedule_of_its_epoch():
    asked = []
    scheduler = callbacks.TemperatureScheduler(lambda epoch: asked.append(epoch) or 1.0 + epoch)
    history = train(make_distiller(), scheduler, initial_epoch=3, epochs=5)
    assert asked == [3, 4]
    assert history["temperature"] == [4.0, 5.0]


def test_an_error_inside_a_schedule_is_not_hidden():
    def schedule(epoch):
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        train(make_distiller(), callbacks.TemperatureScheduler(schedule))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("region_weight", -1.0, "Received: -1.0 for epoch 1 .*`region_weight` must be"),
        ("hard_weight", float("nan"), "Received: nan for epoch 1 .*`hard_weight` must be"),
        ("temperature", 0.0, "Received: 0.0 for epoch 1 .*`temperature` must be"),
        (
            "temperature",
            None,
            "a valid temperature.*Received: None for epoch 1 .*one number",
        ),
        ("temperature", [1.0], "Received: .1.0. for epoch 1 .*one number"),
        (
            "region_radius",
            1.5,
            "a valid region_radius.*Received: 1.5 for epoch 1 .*at most 1",
        ),
    ],
)
def test_a_wrong_value_names_number_and_epoch(name, value, message):
    scheduler = scheduler_of(name, lambda epoch: 0.5 if epoch == 0 else value)
    with pytest.raises(ValueError, match=f"`schedule` must.*{message}"):
        train(make_distiller(), scheduler)


def test_a_radius_needs_a_region_that_has_one():
    distiller = make_distiller(region=regions.Mixture([regions.Segment()]))
    scheduler = callbacks.RegionRadiusScheduler(schedules.cosine(0.1, 1.0, 2))
    with pytest.raises(ValueError, match="`region` must have a single radius.*region=Mixture"):
        train(distiller, scheduler)


def test_a_radius_needs_a_region_that_is_known():
    unbuilt = keras.Sequential([keras.layers.Dense(CLASSES)])
    distiller = L2RKDDistiller(linear(random_weights(1)), unbuilt, hard_weight=0)
    distiller.compile("sgd")
    scheduler = callbacks.RegionRadiusScheduler(schedules.cosine(0.1, 1.0, 2))
    with pytest.raises(ValueError, match="`region` must be known.*Received: region=None"):
        train(distiller, scheduler)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.linear_warmup(2.0, 4), [0.5, 1.0, 1.5, 2.0, 2.0]),
        (schedules.linear_warmup(1.0, 2, start_epoch=2), [0.0, 0.0, 0.5, 1.0, 1.0]),
        (schedules.start_at(3, 0.7), [0.0, 0.0, 0.0, 0.7, 0.7]),
        (schedules.start_at(0, 1), [1.0] * 5),
        (schedules.cosine(1.0, 0.0, 5), [1.0, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0.0]),
        (schedules.cosine(1.0, 3.0, 3), [1.0, 2.0, 3.0, 3.0, 3.0]),
        (schedules.cosine(1.0, 3.0, 1), [1.0, 3.0, 3.0, 3.0, 3.0]),
    ],
)
def test_values_of_schedules_also_after_pickling(schedule, expected):
    for function in (schedule, pickle.loads(pickle.dumps(schedule))):
        np.testing.assert_allclose([function(e) for e in range(5)], expected, atol=1e-15)
