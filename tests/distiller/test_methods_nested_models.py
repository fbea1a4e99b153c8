"""Methods on nested models and transformers: what they train, tell and save."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods
from tests.distiller.helpers import HARD_ONLY, compiled
from tests.helpers import assert_equal_weights, few

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 255, size=(6, 4, 4, 3)).astype("float32")
Y = np.arange(6) % 3


def idiom(seed, width=2, trainable=True):
    """Rescaling, a nested backbone, pooling and a head."""
    keras.utils.set_random_seed(seed)
    inner = image = keras.Input((4, 4, 3))
    x = layers.Conv2D(width, 3, padding="same", name="conv1")(inner)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2D(width, 3, strides=2, padding="same", name="conv2")(
        layers.ReLU(name="relu")(x)
    )
    backbone = keras.Model(inner, x, name="backbone")
    backbone.trainable = trainable
    image = keras.Input((4, 4, 3))
    x = backbone(layers.Rescaling(1 / 255)(image))
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, layers.Dense(3, name="top")(x), name=f"idiom_{seed}")


def pair(**options):
    return idiom(0, width=3, **options), idiom(1)


def trained(models, losses, **options):
    options = {"seed": 0, **HARD_ONLY, **options}
    distiller = compiled(L2RKDDistiller(*models, distillation_losses=losses, **options), rate=0.01)
    logs = distiller.fit(X, Y, batch_size=6, shuffle=False, verbose=0).history
    return distiller, logs


def test_fitnet_without_names_trains_the_backbone_of_the_transfer_learning_idiom():
    without, _ = trained(pair(), [])
    distiller, logs = trained(pair(), methods.FitNet())
    layers_of_hint = distiller.distillation_loss_layers["fit_net_loss"]
    assert layers_of_hint == (("backbone/relu",), ("backbone/relu",))
    assert logs["fit_net_loss"][0] > 1e-3
    kernels = [
        d.student.get_layer("backbone").get_layer("conv1").kernel for d in (without, distiller)
    ]
    assert np.abs(np.subtract(*kernels)).max() > 1e-4


def test_fitnet_on_an_inner_layer_takes_the_step_by_hand():
    """By hand: hint and hard loss in one pass, so that BatchNorm moves once."""
    teacher, student = pair()
    keras.utils.set_random_seed(5)
    method = methods.FitNet("backbone/conv1", "conv1")
    distiller = compiled(
        L2RKDDistiller(
            teacher, student, distillation_losses=method, distillation_loss_weights=2.0,
            seed=0, **HARD_ONLY,
        ),
        rate=0.1,
    )  # fmt: skip
    twin = idiom(1)
    projector = [weight.numpy() for weight in method.trainable_weights]
    hint = teacher.get_layer("backbone").get_layer("conv1")(X / 255)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    with tf.GradientTape() as tape:
        maps = twin.get_layer("backbone").get_layer("conv1")(X / 255)
        distance = tf.reduce_mean((hint - maps @ projector[0] - projector[1]) ** 2)
        total = loss(Y, twin(X, training=True)) + 2.0 * distance
    gradients = tape.gradient(total, [weight.value for weight in twin.trainable_weights])
    for weight, gradient in zip(twin.trainable_weights, gradients, strict=True):
        weight.assign_sub(0.1 * gradient)
    distiller.fit(X, Y, batch_size=6, shuffle=False, verbose=0)
    assert method.teacher_layers == method.student_layers == ("backbone/conv1",)
    assert_equal_weights(student, twin, atol=1e-6)


def test_a_frozen_backbone_of_the_teacher_serves_and_stays():
    teacher, student = pair(trainable=False)
    before = [weight.numpy() for weight in teacher.weights]
    distiller, logs = trained((teacher, student), methods.AttentionTransfer())
    assert distiller.distillation_losses[0].teacher_layers[-1] == "backbone/conv2"
    assert logs["attention_transfer_loss"][0] > 1e-6
    for weight, value in zip(teacher.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_penalties_of_layers_in_a_nested_backbone_count_once():
    def penalized(seed):
        model = idiom(seed)
        backbone = model.get_layer("backbone")
        for name in ("conv1", "conv2"):
            backbone.get_layer(name).activity_regularizer = keras.regularizers.L2(0.5)
            backbone.get_layer(name).kernel_regularizer = keras.regularizers.L1(0.1)
        return model

    student = penalized(1)
    twin = penalized(1)
    _, logs = trained((idiom(0), student), methods.FitNet("backbone/conv2", "conv1"),
                      distillation_loss_weights=0.0)  # fmt: skip
    twin(X, training=True)
    penalty = float(sum(twin.losses))
    assert penalty > 0.1
    expected = logs["hard_loss"][0] + penalty
    np.testing.assert_allclose(logs["loss"], [expected], rtol=1e-5)


def test_a_saved_distiller_of_nested_models_resumes(tmp_path):
    distiller, _ = trained(pair(), [methods.VID("conv1", "backbone/conv2"), methods.FitNet()])
    assert len(distiller.student.weights) == len(idiom(1).weights)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.run_eagerly = True
    assert loaded.distillation_loss_layers == distiller.distillation_loss_layers
    logs = [
        d.fit(X, Y, batch_size=6, shuffle=False, verbose=0).history for d in (distiller, loaded)
    ]
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5, err_msg=name)
    assert_equal_weights(loaded.student, distiller.student, atol=1e-6)


def test_losses_of_keras_compare_layers_of_nested_models():
    loss = keras.distillation.FeatureDistillation(
        teacher_layer_name="backbone/conv1", student_layer_name="conv1"
    )
    teacher, student = idiom(0), idiom(1)
    of_teacher, of_student = (
        model.get_layer("backbone").get_layer("conv1")(X / 255) for model in (teacher, student)
    )
    expected = np.mean((of_teacher - of_student) ** 2)
    _, logs = trained((teacher, student), loss)
    np.testing.assert_allclose(logs["feature_distillation_loss"], [expected], rtol=1e-5)


# What `fit` tells.


def telling(verbose, **options):
    distiller = compiled(
        L2RKDDistiller(
            *pair(),
            distillation_losses=[methods.FitNet("backbone/conv2", "conv1"), methods.PKT()],
            seed=0,
            **options,
        ),
        rate=1e-5,
    )
    distiller.fit(X, Y, batch_size=3, epochs=2, verbose=verbose)


TOLD = [
    "FitNet compares teacher 'backbone/conv2' (None, 2, 2, 3) with student 'backbone/conv1' "
    "(None, 4, 4, 2)",
    "PKT compares teacher 'pooled' (None, 3) with student 'pooled' (None, 2)",
]


@pytest.mark.parametrize("verbose", few(["auto"], ["auto", 1, 2]))
def test_fit_tells_once_which_layers_are_compared(verbose, capsys):
    telling(verbose)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if " compares " in line] == TOLD


def test_fit_tells_nothing_with_verbose_0(capsys):
    telling(0)
    assert capsys.readouterr().out == ""


def test_fit_tells_that_a_frozen_backbone_of_the_student_learns_nothing(capsys):
    teacher, student = pair(trainable=False)[0], idiom(1, trainable=False)
    losses = [methods.FitNet("conv1", "conv1"), methods.PKT("pooled", "top")]
    distiller = L2RKDDistiller(teacher, student, distillation_losses=losses, seed=0)
    note = "; the student's ['backbone/conv1'] are frozen and learn nothing from it"
    for trainable in (False, True):
        student.get_layer("backbone").trainable = trainable
        compiled(distiller, rate=1e-5).fit(X, Y, verbose=2)
        told = [line for line in capsys.readouterr().out.splitlines() if " compares " in line]
        assert told[0].endswith("(None, 4, 4, 2)" + ("" if trainable else note))
        assert "frozen" not in told[1]


def test_a_method_without_weight_is_not_told(capsys):
    telling(2, distillation_loss_weights=[0.0, 1.0])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if " compares " in line] == TOLD[1:]


def test_features_that_a_function_returns_are_told_by_name(capsys):
    def features(model, inputs, training):
        pooled = keras.ops.mean(inputs, axis=(1, 2))
        return model(inputs, training=training), {"mine": pooled}

    distiller = L2RKDDistiller(
        *pair(), distillation_losses=methods.PKT("mine", "mine"), features=features, seed=0
    )
    compiled(distiller).fit(X, Y, verbose=2)
    assert "PKT compares teacher 'mine' with student 'mine'\n" in capsys.readouterr().out


# Hidden states.


def transformer(channels, seed):
    keras.utils.set_random_seed(seed)
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(channels, 2, strides=2)(layers.Rescaling(1 / 255)(image))
    x = layers.Reshape((4, channels))(x)
    y = layers.LayerNormalization()(x)
    x = layers.Add(name="residual")([x, layers.MultiHeadAttention(2, channels // 2)(y, y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(3)(x))


def test_every_method_of_features_trains_a_transformer():
    losses = [
        methods.FitNet(),
        methods.VID(),
        methods.AttentionTransfer(),
        methods.NeuronSelectivityTransfer(),
        methods.SimilarityPreserving(),
        methods.RelationalKD("residual", "residual"),
        methods.CorrelationCongruence("residual", "residual"),
        methods.PKT("residual", "residual"),
        methods.CRD("residual", "residual", feature_dim=3, num_negatives=8),
    ]
    models = transformer(6, 0), transformer(4, 1)
    start = [weight.numpy() for weight in models[1].weights]
    distiller, _ = trained(models, losses, distillation_loss_weights=[0.01] * len(losses))
    _, logs = distiller, distiller.fit(X, Y, batch_size=6, shuffle=False, verbose=0).history
    assert set(distiller.distillation_loss_layers.values()) == {(("residual",), ("residual",))}
    assert all(values[0] != 0.0 for name, values in logs.items() if name.endswith("_loss")
               and name not in ("kd_loss", "region_loss"))  # fmt: skip
    assert any(np.abs(w - old).max() > 0 for w, old in zip(models[1].weights, start, strict=True))
