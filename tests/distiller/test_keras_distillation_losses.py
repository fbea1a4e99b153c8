"""Methods of `keras.distillation` as terms of `L2RKDDistiller`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.distillation import FeatureDistillation, LogitsDistillation

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import (
    HARD_ONLY,
    MeanSquarePenalty,
    compiled,
    fit_once,
    network,
    outputs_of,
    table,
)
from tests.helpers import convnet, images
from tests.references import losses as reference


class Calls(layers.Layer):
    """Passes its input on and notes how many rows came."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def call(self, inputs, training=None):
        if tf.executing_eagerly():
            self.rows.append((len(inputs), training))
        return inputs


def test_methods_of_keras_have_their_own_values_weights_and_names():
    x, y = table()
    teacher, student = network(0), network(1)
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
        distillation_losses=[
            FeatureDistillation("mse", **hidden),
            LogitsDistillation(2.0, keras.losses.KLDivergence()),
            FeatureDistillation(keras.losses.MeanAbsoluteError()),
        ],
        distillation_loss_weights=[0.5, 2.0, 0.25],
    )
    logs = fit_once(compiled(distiller, rate=0.0), x, y)
    features = [np.maximum(outputs_of(model.layers[0], x), 0.0) for model in (teacher, student)]
    logits = [
        outputs_of(model.layers[1], values)
        for model, values in zip((teacher, student), features, strict=True)
    ]
    expected = {
        "feature_distillation_loss": np.square(features[0] - features[1]).mean(),
        "logits_distillation_loss": reference.kl(*logits, 2.0).mean(),
        "feature_distillation_loss_2": np.abs(logits[0] - logits[1]).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], [value], rtol=2e-5)
    total = sum(w * value for w, value in zip((0.5, 2.0, 0.25), expected.values(), strict=True))
    np.testing.assert_allclose(logs["loss"], [total], rtol=2e-5)


def test_a_method_trains_the_layers_up_to_the_one_it_names():
    x, y = table(5)
    teacher, student = network(0), network(1)
    kernel, bias = student.layers[0].get_weights()
    last = student.layers[1].get_weights()[0]
    target = np.maximum(outputs_of(teacher.layers[0], x), 0.0)
    own = np.maximum(outputs_of(student.layers[0], x), 0.0)
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
        distillation_losses=FeatureDistillation(
            teacher_layer_name="hidden", student_layer_name="hidden"
        ),
        distillation_loss_weights=3.0,
    )
    fit_once(compiled(distiller, rate=0.5), x, y)
    gradient = 3.0 * 2.0 * (own - target) * (own > 0) / own.size
    np.testing.assert_allclose(student.get_weights()[0], kernel - 0.5 * x.T @ gradient, atol=1e-6)
    np.testing.assert_allclose(student.get_weights()[1], bias - 0.5 * gradient.sum(0), atol=1e-6)
    np.testing.assert_array_equal(student.get_weights()[2], last)


@pytest.mark.parametrize(
    ("arguments", "teacher_rows", "student_rows"),
    [({}, 10, 10), ({"region_weight": 0.0}, 5, 5), ({"replace_fraction": 0.4}, 5, 5)],
)
def test_methods_cost_no_further_pass(arguments, teacher_rows, student_rows):
    x, y = table(5)
    calls, teacher_calls = Calls(), Calls()
    normalization = layers.BatchNormalization()
    student = network(1, inner=[calls, normalization])
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        network(0, inner=[teacher_calls]),
        student,
        region=regions.Segment(radius=1e-7),
        distillation_losses=[FeatureDistillation(**hidden), FeatureDistillation(**hidden)],
        **arguments,
    )
    features = np.maximum(outputs_of(student.layers[0], x), 0.0)
    compiled(distiller, rate=0.0).train_on_batch(x, y)
    assert calls.rows == [(student_rows, True)]
    assert teacher_calls.rows == [(teacher_rows, False)]
    moved_once = (1 - normalization.momentum) * features.mean(axis=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)
    compiled(distiller, rate=0.0).evaluate(x, y, verbose=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)
    assert len(teacher_calls.rows) == 1


def added_layer_by_layer(model, path):
    other = keras.Sequential()
    other.add(keras.Input(model.input_shape[1:]))
    for layer in model.layers:
        other.add(type(layer).from_config(layer.get_config()))
    return other


def saved_and_loaded(model, path):
    model.save(path)
    return keras.models.load_model(path)


ORIGINS = {
    "constructor": lambda model, path: model,
    "add": added_layer_by_layer,
    "clone_model": lambda model, path: keras.models.clone_model(model),
    "from_config": lambda model, path: keras.Sequential.from_config(model.get_config()),
    "load_model": saved_and_loaded,
    "functional": lambda model, path: keras.Model(model.inputs, model.outputs),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_with_a_method_batchnorm_moves_once_wherever_the_student_comes_from(origin, tmp_path):
    x, y = table(5)
    make = ORIGINS[origin]
    inner = [layers.BatchNormalization(), layers.ReLU(name="normalized")]
    student = make(network(1, inner=inner), tmp_path / "student.keras")
    names = {"teacher_layer_name": "hidden", "student_layer_name": "normalized"}
    distiller = L2RKDDistiller(
        network(0),
        student,
        region=regions.Segment(radius=1e-7),
        distillation_losses=FeatureDistillation(**names),
    )
    normalization = next(
        layer for layer in student.layers if isinstance(layer, layers.BatchNormalization)
    )
    features = np.maximum(outputs_of(student.get_layer("hidden"), x), 0.0)
    compiled(distiller, rate=0.0).train_on_batch(x, y)
    moved_once = (1 - normalization.momentum) * features.mean(axis=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)


def test_losses_of_earlier_steps_are_forgotten_with_a_method_that_names_layers():
    x, y = table(5)
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        network(0),
        network(1, activity_regularizer="l2", inner=[MeanSquarePenalty()]),
        distillation_losses=FeatureDistillation(**hidden),
        distillation_loss_weights=0.0,
        **HARD_ONLY,
    )
    plain = L2RKDDistiller(
        network(0),
        network(1, activity_regularizer="l2", inner=[MeanSquarePenalty()]),
        **HARD_ONLY,
    )
    for _ in range(2):
        losses = [
            compiled(model, rate=0.0).train_on_batch(x, y, return_dict=True)
            for model in (distiller, plain)
        ]
        assert losses[0]["loss"] == losses[1]["loss"]


def test_convolutional_features_of_another_layer_name():
    x, y = images(5)
    teacher, student = convnet(0), convnet(1)
    names = {
        "teacher_layer_name": teacher.layers[0].name,
        "student_layer_name": student.layers[0].name,
    }
    distiller = L2RKDDistiller(teacher, student, distillation_losses=FeatureDistillation(**names))
    logs = compiled(distiller, rate=0.0).train_on_batch(x, y, return_dict=True)
    difference = np.float64(teacher.layers[0](x)) - np.float64(student.layers[0](x))
    np.testing.assert_allclose(
        logs["feature_distillation_loss"], np.square(difference).mean(), rtol=1e-5
    )


class KD(keras.distillation.DistillationLoss):
    """A method whose name in the logs would be that of a term of the distiller."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return tf.reduce_mean(tf.square(teacher_outputs - student_outputs))


def test_a_method_does_not_take_the_name_of_a_term():
    x, y = images(8)
    distiller = compiled(
        L2RKDDistiller(convnet(0, 8), convnet(1), distillation_losses=[KD(), KD()])
    )
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert {"kd_loss", "kd_loss_2", "kd_loss_3"} <= set(logs)
    assert logs["kd_loss"] != logs["kd_loss_2"] == logs["kd_loss_3"]
