"""Methods of weight zero, and methods that are used twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from tests.distiller.methods_by_hand import (
    CLASSES,
    METHODS,
    SEED,
    WEIGHTS,
    Points,
    compiled,
    data,
    distiller_of,
    fit,
    layer_by_layer,
    network,
    pair,
    twin_of,
    values_of,
)
from tests.helpers import assert_equal_weights


def test_a_method_of_weight_zero_trains_nothing():
    x, y = data()
    students = [network(20, 4), network(20, 4)]
    fit(compiled(distiller_of([], models=(network(10, 5), students[0]))), x, y)
    distiller = L2RKDDistiller(
        network(10, 5), students[1], region=regions.Segment(), seed=SEED,
        distillation_losses=[methods.FitNet("block3", "block3"), methods.DIST()],
        distillation_loss_weights=[0, 0.0], **WEIGHTS,
    )  # fmt: skip
    kernel = distiller.distillation_losses[0].projector.kernel.numpy()
    fit(compiled(distiller), x, y)
    assert_equal_weights(*students, atol=1e-7)
    np.testing.assert_array_equal(distiller.distillation_losses[0].projector.kernel, kernel)


def test_a_method_of_weight_zero_is_not_computed_and_logs_zero():
    x, y = data()
    distiller = L2RKDDistiller(
        *pair(), distillation_losses=methods.DIST(), distillation_loss_weights=0.0
    )
    assert fit(compiled(distiller), x, y)["dist_loss"] == [0.0]


def test_one_method_in_two_distillers_of_like_models_shares_its_weights():
    x, y = data()
    method = methods.FitNet("block3", "block3")
    distillers = [
        compiled(L2RKDDistiller(*pair(), distillation_losses=method, seed=SEED)) for _ in range(2)
    ]
    kernel = method.projector.kernel.numpy()
    fit(distillers[0], x, y)
    assert np.abs(method.projector.kernel.numpy() - kernel).max() > 1e-3
    models = pair()
    twin, points = twin_of(method, models), Points(x, y, None, 0, regions.Segment())
    expected = tf.reduce_mean(values_of(twin, *models, points, "data"))
    logs = fit(distillers[1], x, y)
    np.testing.assert_allclose(logs["fit_net_loss"][0], expected, rtol=1e-5)


def test_one_method_without_weights_serves_distillers_of_models_with_other_layers():
    x, y = data()
    method = methods.RelationalKD()
    first = compiled(L2RKDDistiller(*pair(), distillation_losses=method, seed=SEED))
    teacher, student = dense_pair_of_images(5), dense_pair_of_images(4)
    second = compiled(L2RKDDistiller(teacher, student, distillation_losses=method, seed=SEED))
    assert second.distillation_loss_layers == {"relational_kd_loss": (("hidden",), ("hidden",))}
    assert first.distillation_loss_layers == {"relational_kd_loss": (("features",), ("features",))}
    logs = fit(first, x, y)
    features = [layer_by_layer(model, x)["features"] for model in pair()]
    expected = methods.RelationalKD().values(*features).numpy().mean()
    np.testing.assert_allclose(logs["relational_kd_loss"][0], expected, rtol=1e-5)


def dense_pair_of_images(width):
    image = keras.Input((8, 8, 1))
    x = layers.Reshape((64, 1))(image)
    x = layers.Dense(width, name="hidden")(layers.GlobalAveragePooling1D(name="mean")(x))
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x))


def test_methods_built_for_other_models_are_named():
    method = methods.FitNet("block3", "block3")
    L2RKDDistiller(*pair(), distillation_losses=method)
    other = network(10, 7), network(20, 6)
    with pytest.raises(ValueError, match="FitNet.*block3"):
        fit(compiled(L2RKDDistiller(*other, distillation_losses=method)), *data())


def test_the_summary_of_a_distiller_names_trainable_methods():
    lines = []
    distiller_of(METHODS).summary(print_fn=lambda line, **_: lines.append(line))
    assert any("fit_net" in line for line in lines)
