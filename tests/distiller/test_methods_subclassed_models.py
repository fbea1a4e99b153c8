"""Methods on models without a graph."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from tests.distiller.methods_by_hand import (
    BATCH,
    CLASSES,
    RATE,
    SEED,
    assert_equal_methods,
    compiled,
    fit,
    on_two,
    subclassed_pair,
    table,
)
from tests.helpers import assert_equal_weights


def functional_twin(model):
    row = keras.Input((4,))
    hidden = layers.Dense(model.width, activation="tanh", name="hidden")(row)
    twin = keras.Model(row, layers.Dense(CLASSES, name="logits")(hidden))
    twin.set_weights(model.get_weights())
    return twin


@keras.saving.register_keras_serializable("tests")
def hidden_features(model, inputs, training):
    hidden = model.hidden(inputs)
    return model.top(hidden), {"hidden": hidden}


def methods_of_hidden():
    return [
        methods.FitNet("hidden", "hidden"),
        methods.VID("hidden", "hidden"),
        methods.RelationalKD("hidden", "hidden"),
        methods.CRD("hidden", "hidden", feature_dim=3, num_negatives=8),
        methods.DKD(),
    ]


def of_hidden(models, features=None, at=("both", "data", "both", "data", "region"), **options):
    return L2RKDDistiller(
        *models,
        distillation_losses=methods_of_hidden(),
        distillation_loss_weights=[0.1, 0.1, 0.01, 0.05, 0.05],
        distillation_losses_at=list(at),
        region=regions.Segment(),
        features=features,
        seed=SEED,
        **options,
    )


def set_parts(distiller, other):
    for one, of_other in zip(distiller.distillation_losses, other.distillation_losses, strict=True):
        if isinstance(one, methods.TrainableMethod):
            one.set_weights(of_other.get_weights())


MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"run_eagerly": False, "jit_compile": False},
}


@pytest.mark.parametrize(
    ("built", "mode"),
    [
        pytest.param(True, "eager", marks=pytest.mark.stress),
        (False, "eager"),
        pytest.param(False, "graph", marks=pytest.mark.stress),
    ],
)
def test_subclassed_models_train_as_functional_ones(built, mode):
    x, y = table()
    models = subclassed_pair(built)
    one = of_hidden([functional_twin(model) for model in subclassed_pair()])
    other = of_hidden(models, hidden_features)
    for distiller in (one, other):
        compiled(distiller, rate=0.0, **MODES[mode])
        fit(distiller, x, y)  # makes the parts
    set_parts(other, one)
    logs = []
    for distiller in (one, other):
        distiller.optimizer.learning_rate = RATE
        logs.append(fit(distiller, x, y, epochs=2))
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert_equal_weights(other.student, one.student, atol=1e-6)
    twins = dict(enumerate(one.distillation_losses))
    assert_equal_methods(other, twins, atol=1e-6)
    assert logs[0]["fit_net_loss"][0] != logs[0]["fit_net_loss"][1]


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt student"])
def test_methods_built_in_the_first_step_are_trained_and_saved(built, tmp_path):
    x, y = table()
    distiller = compiled(of_hidden(subclassed_pair(built), hidden_features))
    assert not distiller.distillation_losses[0].built
    fit(distiller, x, y)
    before = distiller.distillation_losses[0].projector.kernel.numpy()
    fit(distiller, x, y)
    assert np.abs(distiller.distillation_losses[0].projector.kernel.numpy() - before).max() > 1e-5
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.run_eagerly = True
    for one, other in zip(loaded.distillation_losses, distiller.distillation_losses, strict=True):
        if isinstance(one, methods.TrainableMethod):
            for weight, saved in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(weight, saved)
    expected, actual = fit(distiller, x, y), fit(loaded, x, y)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-6, err_msg=name)
    assert_equal_weights(loaded.student, distiller.student, atol=1e-7)


def test_weights_are_restored_before_the_first_step_builds_the_methods(tmp_path):
    x, y = table()
    saved, fresh = (compiled(of_hidden(subclassed_pair(), hidden_features)) for _ in range(2))
    for _ in range(2):
        fit(saved, x, y)
    saved.save_weights(tmp_path / "distiller.weights.h5")
    with pytest.raises(ValueError, match=r"distiller.build\(input_shape\)"):
        fresh.load_weights(tmp_path / "distiller.weights.h5")
    fresh.build(x.shape)
    fresh.load_weights(tmp_path / "distiller.weights.h5")
    projectors = []
    for distiller in (saved, fresh):
        distiller.optimizer.learning_rate = 0.0
        fit(distiller, x, y)
        projectors.append(distiller.distillation_losses[0].projector.kernel.numpy())
    np.testing.assert_array_equal(*projectors)


def test_methods_built_in_the_first_step_on_two_replicas():
    x, y = table()

    def make():
        return compiled(
            L2RKDDistiller(
                *subclassed_pair(),
                distillation_losses=methods.FitNet("hidden", "hidden"),
                distillation_loss_weights=0.5,
                features=hidden_features,
                region_weight=0.0,
                seed=SEED,
            ),
            rate=0.0,
            run_eagerly=False,
            jit_compile=False,
        )

    one, two = make(), on_two(make)
    for distiller in (one, two):
        fit(distiller, x, y)
    set_parts(two, one)
    for distiller in (one, two):
        distiller.optimizer.learning_rate = RATE
        fit(distiller, x, y)
    assert_equal_weights(two.student, one.student, atol=1e-6)
    assert_equal_methods(two, {"fit_net": one.distillation_losses[0]}, atol=1e-6)


def test_features_is_called_once_for_each_pass():
    x, y = table()
    calls = []

    def counted(model, inputs, training):
        calls.append((model.name, training, len(inputs)))
        return hidden_features(model, inputs, training)

    models = subclassed_pair()
    distiller = compiled(of_hidden(models, counted))
    distiller.build(x.shape)  # a symbolic call, which makes the parts
    calls.clear()
    distiller.train_on_batch(x, y)
    assert calls == [(models[0].name, False, 2 * BATCH), (models[1].name, True, 2 * BATCH)]


WRONG_FEATURES = {
    "no pair": (lambda model, x, training: model(x), ["`features` must return (outputs"]),
    "three things": (
        lambda model, x, training: (model(x), {}, {}),
        ["`features` must return (outputs"],
    ),
    "no dict": (
        lambda model, x, training: (model(x), model.hidden(x)),
        ["`features` must return (outputs"],
    ),
    "other names": (
        lambda model, x, training: (model(x), {"b": model.hidden(x), "a": model.hidden(x)}),
        ["['hidden']", "does not return", "['a', 'b']"],
    ),
}


@pytest.mark.parametrize("name", WRONG_FEATURES)
def test_wrong_returns_of_features_are_named(name):
    wrong, words = WRONG_FEATURES[name]
    distiller = compiled(
        L2RKDDistiller(
            *subclassed_pair(),
            distillation_losses=methods.RelationalKD("hidden", "hidden"),
            features=wrong,
        )
    )
    with pytest.raises(ValueError) as error:
        distiller.train_on_batch(*table())
    for word in words:
        assert word in str(error.value)


def test_a_model_without_a_graph_needs_features():
    with pytest.raises(ValueError, match=r"\['hidden'\].*not connected in a graph.*`features"):
        L2RKDDistiller(
            *subclassed_pair(), distillation_losses=methods.RelationalKD("hidden", "hidden")
        )


def test_features_win_over_the_layers_of_functional_models():
    """`features` returns twice what the layer of that name outputs, and nothing is left out."""
    x, y = table()
    models = [functional_twin(model) for model in subclassed_pair()]

    def doubled(model, inputs, training):
        hidden = model.get_layer("hidden")(inputs)
        return model.get_layer("logits")(hidden), {"hidden": 2.0 * hidden}

    def vid(features):
        return L2RKDDistiller(
            *models,
            distillation_losses=methods.VID("hidden", "hidden"),
            features=features,
            region=regions.Segment(),
            seed=0,
        )

    values = []
    for features in (None, doubled):
        distiller = compiled(vid(features), rate=0.0)
        distiller.build(x.shape)
        (method,) = distiller.distillation_losses
        for weight in method.trainable_weights[1:]:
            weight.assign(0.0 * weight)  # a mean of 0
        values.append(fit(distiller, x, y)["vid_loss"][0])
    variance = np.logaddexp(0.0, method.predictions[0].alpha.numpy()) + method.epsilon
    squares = models[0].get_layer("hidden")(x).numpy() ** 2
    expected = 0.5 * (3.0 * squares / variance).mean()
    np.testing.assert_allclose(values[1] - values[0], expected, rtol=1e-4)


def test_with_features_layers_must_be_named():
    message = r"`teacher_layer_name` and `student_layer_name` must be given to FitNet.*`features`"
    with pytest.raises(ValueError, match=message):
        L2RKDDistiller(
            *[functional_twin(model) for model in subclassed_pair()],
            distillation_losses=methods.FitNet(),
            features=hidden_features,
        )
