"""Methods in Keras's own distiller."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import methods, regions
from tests.distiller.methods_by_hand import (
    METHODS,
    RATE,
    Points,
    data,
    fit,
    pair,
    trained_by,
    twin_of,
    values_of,
)
from tests.helpers import assert_equal_weights, cross_entropy, few

IN_KERAS = {
    "attention_transfer": lambda: methods.AttentionTransfer("block2", "block2"),
    "neuron_selectivity_transfer": lambda: methods.NeuronSelectivityTransfer("block2", "block2"),
    "vid": lambda: methods.VID("block3", "block3"),
}
NOT_IN_KERAS = ("jacobian_matching", "fsp")


def keras_distiller(method):
    distiller = keras.distillation.Distiller(*pair(), method, student_loss_weight=0.5)
    distiller.compile(keras.optimizers.SGD(RATE), cross_entropy(), run_eagerly=True)
    return distiller


# Of logits and of features, with and without weights of their own, of examples and of a batch.
FEW = ("dkd", "vid", "fit_net", "attention_transfer", "relational_kd", "crd")


@pytest.mark.parametrize("name", few(FEW, [name for name in METHODS if name not in NOT_IN_KERAS]))
def test_methods_of_logits_or_one_pair_of_layers_in_the_distiller_of_keras(name):
    x, y = data()
    distiller = keras_distiller(IN_KERAS.get(name, METHODS[name][0])())
    (method,) = distiller.distillation_losses
    models = pair()
    twin = twin_of(method, models)
    for step in range(2):
        points = Points(x, -np.ones_like(y), None, step, regions.Segment())
        with tf.GradientTape() as tape:
            expected = tf.reduce_mean(values_of(twin, *models, points, "data"))
            loss = 0.5 * expected + 0.5 * cross_entropy()(y, models[1](x))
        variables = [*models[1].trainable_variables, *trained_by(twin)]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(RATE * gradient)
        logs = fit(distiller, x, y)
        np.testing.assert_allclose(logs["distillation_loss"][0], expected, rtol=1e-5)
    assert_equal_weights(distiller.student, models[1], atol=5e-6)
    if isinstance(twin, methods.TrainableMethod):
        for one, other in zip(method.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (methods.JacobianMatching, ["JacobianMatching", "L2RKDDistiller", "gradients"]),
        *(
            (make, ["L2RKDDistiller", "keras.distillation.Distiller", "block1", "one layer"])
            for make in (
                methods.AttentionTransfer,
                methods.NeuronSelectivityTransfer,
                methods.VID,
                methods.FSP,
            )
        ),
    ],
)
def test_gradients_and_several_layers_are_refused_by_the_distiller_of_keras(make, words):
    with pytest.raises(ValueError) as error:
        fit(keras_distiller(make()), *data())
    for word in words:
        assert word in str(error.value)
