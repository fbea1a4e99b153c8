"""How often methods run teacher and student, and what BatchNorm sees."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import regions
from tests.distiller.methods_by_hand import (
    BATCH,
    CLASSES,
    METHODS,
    Points,
    compiled,
    data,
    distiller_of,
    fit,
    twin_of,
)
from tests.helpers import cross_entropy


class Counting(layers.Layer):
    """Counts its calls."""

    def build(self, shape):
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls"
        )

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs

    def compute_output_shape(self, shape):
        return shape


def counting_network(seed, width):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    x = Counting(name="counting")(image)
    for block, filters in enumerate((4, 3, width), start=1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv{block}")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"norm{block}")(x)
        x = layers.Activation("tanh", name=f"block{block}")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x))


def calls_of(model):
    return int(model.get_layer("counting").calls.numpy())


@pytest.mark.parametrize(
    ("at", "kd_weight"),
    [
        pytest.param("data", 0.7, marks=pytest.mark.stress),
        ("region", 0.0),
        pytest.param("both", 0.0, marks=pytest.mark.stress),
        ("each", 0.7),
    ],
)
def test_one_pass_of_each_model_for_all_methods(at, kd_weight):
    x, y = data()
    at = [("region", "data", "both")[i % 3] for i in range(len(METHODS))] if at == "each" else at
    models = counting_network(0, 5), counting_network(1, 4)
    distiller = compiled(
        distiller_of(METHODS, at, models, kd_weight=kd_weight, region_weight=0.0), rate=1e-3
    )
    before = models[0].get_weights()
    for step in (1, 2):
        distiller.train_on_batch(x, y)
        assert [calls_of(model) for model in models] == [step, step]
    models[0].get_layer("counting").calls.assign(0)  # the teacher also counts in inference
    for one, other in zip(models[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("at", ["data", "both"])
def test_statistics_of_batch_norm_move_once_a_step(at):
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    student = models[1]
    distiller = compiled(distiller_of(METHODS, at, models, region_weight=0.0), rate=0.0)
    points = Points(x, y, None, 0, regions.Segment()).parts[at][0]
    convolved = student.get_layer("conv1")(points).numpy()
    distiller.train_on_batch(x, y)
    norm = student.get_layer("norm1")
    mean, variance = convolved.mean(axis=(0, 1, 2)), convolved.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean, 0.5 * mean, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.5 + 0.5 * variance, rtol=1e-5)


def test_evaluation_touches_neither_teacher_nor_batch_norm_nor_memory():
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    distiller = compiled(distiller_of(METHODS, models=models))
    fit(distiller, x, y)
    state = [*models[0].get_weights(), *distiller.get_weights()]
    calls = calls_of(models[1])
    logs = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    distiller.predict(x, verbose=0)
    models[1].get_layer("counting").calls.assign(calls)
    after = [*models[0].get_weights(), *distiller.get_weights()]
    for one, other in zip(after, state, strict=True):
        np.testing.assert_array_equal(one, other)
    hard = cross_entropy()(y, models[1](x, training=False))
    np.testing.assert_allclose(logs["loss"], hard, rtol=1e-6)


@pytest.mark.parametrize("name", ["fit_net", "relational_kd", "attention_transfer"])
def test_features_of_a_student_with_batch_norm_are_those_of_training(name):
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    copy = keras.models.clone_model(models[1])
    copy.set_weights(models[1].get_weights())
    distiller = compiled(distiller_of([name], models=models, region_weight=0.0))
    method = twin_of(distiller.distillation_losses[0], models)
    compared = []
    for model, names, training in (
        (models[0], method.teacher_layers, False),
        (copy, method.student_layers, True),
    ):
        inner = keras.Model(model.inputs[0], [model.get_layer(layer).output for layer in names])
        found = inner(x, training=training)
        compared.append(found if len(names) > 1 else keras.tree.flatten(found)[0])
    logs = distiller.train_on_batch(x, y, return_dict=True)
    expected = method.values(*compared).numpy().mean()
    np.testing.assert_allclose(logs[f"{name}_loss"], expected, rtol=1e-5)
