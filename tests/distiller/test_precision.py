"""Half precision in the student, the teacher or the inputs; the losses stay in float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.distillation import FeatureDistillation, LogitsDistillation

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import CLASSES, cross_entropy, linear, random_weights, under_policy
from tests.references import losses as reference

FEATURES = 4
# Relative spacing of the half precisions: 2^-11 and 2^-8.
TOLERANCE = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}


def table(count=12):
    rng = np.random.default_rng(2)
    return rng.normal(size=(count, FEATURES)).astype("float32"), rng.integers(0, CLASSES, count)


def network(seed, policy="float32"):
    def make():
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(5, activation="relu", name="hidden"),
                layers.BatchNormalization(),
                layers.Dense(CLASSES),
            ]
        )

    return under_policy(policy, make)


def linear_with(policy, weights):
    return under_policy(policy, linear, (FEATURES,), weights)


def compiled(distiller, rate, **options):
    options = {"run_eagerly": True, **options}
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy(), **options)
    return distiller


@pytest.mark.covering
@pytest.mark.parametrize("mixed", ["student", "teacher", "both"])
@pytest.mark.parametrize("policy", TOLERANCE)
def test_mixed_precision_logs_and_trains_as_float32(policy, mixed):
    x, y = table()
    policies = {"student": ("float32", policy), "teacher": (policy, "float32")}
    distillers, logs = [], []
    for teacher, student in (("float32", "float32"), policies.get(mixed, (policy, policy))):
        distiller = L2RKDDistiller(network(0, teacher), network(1, student), seed=0)
        logs.append(compiled(distiller, 0.0).train_on_batch(x, y, return_dict=True))
        compiled(distiller, 0.1).train_on_batch(x, y)
        distillers.append(distiller)
    tolerance = TOLERANCE[policy]
    assert set(logs[1]) == {"loss", "hard_loss", "kd_loss", "region_loss"}
    for name, value in logs[0].items():
        # Divergences are differences of logits of size one: twice the spacing, absolute.
        np.testing.assert_allclose(logs[1][name], value, rtol=tolerance, atol=2 * tolerance)
    for one, other in zip(*(d.student.weights for d in distillers), strict=True):
        assert other.dtype == "float32"
        np.testing.assert_allclose(one, other, atol=2 * tolerance)
    moved = distillers[1].student.get_weights()[0] - network(1).get_weights()[0]
    assert np.abs(moved).max() > 1e-3


def made_under(policy, *models, **arguments):
    return under_policy(policy, lambda: L2RKDDistiller(*models, **arguments))


@pytest.mark.parametrize(
    "policy_of_the_distiller",
    ["mixed_float16", "float32"],
    ids=["distiller made under the student's policy", "distiller made under float32"],
)
def test_losses_of_a_float16_student_are_scaled(policy_of_the_distiller):
    x, y = table()
    weights = random_weights(np.random.default_rng(0), (FEATURES,))
    students = [linear_with(policy, weights) for policy in ("mixed_float16", "float32")]
    tiny = {"hard_weight": 1e-8, "kd_weight": 0.0, "region_weight": 0.0}
    for student in students:
        distiller = made_under(policy_of_the_distiller, network(0), student, **tiny)
        # Without a scale the gradients, of about 1e-8, are zero in float16.
        compiled(distiller, 1e7).train_on_batch(x, y)
        if student is students[0]:
            assert type(distiller.optimizer) is keras.optimizers.LossScaleOptimizer
    moved = [student.get_weights()[1] - weights[1] for student in students]
    assert np.abs(moved[1]).max() > 1e-3
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.02, atol=1e-4)


def test_region_points_differ_between_steps_of_a_scaled_loss():
    x, y = table()
    distiller = made_under(
        "mixed_float16", network(0), network(1, "mixed_float16"), region=regions.Segment(), seed=0
    )
    compiled(distiller, 0.0)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(3)]
    assert type(distiller.optimizer) is keras.optimizers.LossScaleOptimizer
    assert len({round(float(loss), 7) for loss in losses}) == 3


def test_a_mixed_distiller_that_was_saved_trains_on_identically(tmp_path):
    x, y = table()
    path = tmp_path / "distiller.keras"
    distiller = made_under("mixed_float16", network(0), network(1, "mixed_float16"), seed=0)
    compiled(distiller, 0.1).train_on_batch(x, y)
    distiller.save(path)
    loaded = keras.models.load_model(path)
    loaded.run_eagerly = True
    for model in (distiller, loaded):
        model.train_on_batch(x, y)
    assert loaded.dtype_policy.name == "mixed_float16"
    assert loaded.student.layers[0].compute_dtype == "float16"
    assert type(loaded.optimizer) is keras.optimizers.LossScaleOptimizer
    for one, other in zip(loaded.get_weights(), distiller.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize("policy", TOLERANCE)
def test_a_float32_student_sees_unrounded_inputs_under_a_mixed_global_policy(policy):
    x, y = table()
    assert np.abs(x - x.astype("float16")).max() > 0
    rng = np.random.default_rng(0)
    teacher, student = random_weights(rng, (FEATURES,)), random_weights(rng, (FEATURES,))
    students = []
    for global_policy in ("float32", policy):
        models = linear_with("float32", teacher), linear_with("float32", student)
        distiller = made_under(global_policy, *models, seed=0)

        def use(distiller=distiller):
            distiller.compile(
                keras.optimizers.SGD(0.5),
                cross_entropy(),
                run_eagerly=True,
                auto_scale_loss=False,
            )
            distiller.train_on_batch(x, y)
            return distiller(x), distiller.predict(x, verbose=0)

        called, predicted = under_policy(global_policy, use)
        np.testing.assert_array_equal(called, distiller.student(x))
        np.testing.assert_allclose(predicted, called, rtol=1e-6)
        students.append(distiller.student)
    for one, other in zip(*(s.get_weights() for s in students), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("divergence", ["kl", "mse", "binary_kl"])
def test_divergences_of_half_precision_logits_are_taken_in_float32(divergence):
    x, _ = table()
    rng = np.random.default_rng(0)
    models = [
        linear_with("mixed_float16", random_weights(rng, (FEATURES,), outputs=CLASSES))
        for _ in range(2)
    ]
    logits = [np.asarray(model(x)) for model in models]
    assert logits[0].dtype == np.float16
    distiller = L2RKDDistiller(*models, divergence=divergence, hard_weight=0.0)
    logs = compiled(distiller, 0.0).train_on_batch(x, return_dict=True)
    expected = getattr(reference, divergence)(*logits, 4.0).mean()
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=2e-6)


def test_the_hard_loss_of_half_precision_logits_is_taken_in_float32():
    x, y = table()
    student = linear_with("mixed_float16", random_weights(np.random.default_rng(0), (FEATURES,)))
    expected = -reference.log_softmax(np.asarray(student(x)))[np.arange(12), y].mean()
    distiller = compiled(L2RKDDistiller(network(0), student), 0.0)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["hard_loss"], expected, rtol=2e-6)


METHODS = {
    "features": (
        0,
        lambda: FeatureDistillation(teacher_layer_name="hidden", student_layer_name="hidden"),
    ),
    "logits": (1, lambda: LogitsDistillation(2.0, keras.losses.KLDivergence())),
}


@pytest.mark.parametrize("scale", [1.0, 1000.0], ids=["usual values", "squares above 65504"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_see_half_precision_features_in_float32(method, scale):
    x, y = table()
    x = (x * scale).astype("float16").astype("float32")  # the same numbers for both models
    models = [network(0), network(1, "mixed_float16")]
    features = []
    for model in models:
        both = keras.Model(model.inputs, [model.get_layer("hidden").output, model.outputs[0]])
        features.append([tf.cast(value, tf.float32) for value in both(x)])
    which, make = METHODS[method]
    distiller = L2RKDDistiller(*models, distillation_losses=make(), region_weight=0.0)
    # So that BatchNorm works as in inference, by which `features` were found.
    models[1].layers[1].trainable = False
    logs = compiled(distiller, 0.0).train_on_batch(x, y, return_dict=True)
    name = {"features": "feature_distillation_loss", "logits": "logits_distillation_loss"}[method]
    expected = make().compute_loss(features[0][which], features[1][which])
    np.testing.assert_allclose(logs[name], expected, rtol=1e-5)


@pytest.mark.parametrize("policy", TOLERANCE)
def test_huge_logits_train_without_nan(policy):
    x, y = np.eye(3, FEATURES, dtype="float32"), np.array([0, 1, 2])
    kernel = np.zeros((FEATURES, CLASSES))
    kernel[[0, 1, 2], [1, 2, 0]] = 1e4
    student = linear_with(policy, [kernel, np.zeros(CLASSES)])
    teacher = linear_with(policy, [np.roll(kernel, 1, axis=1), np.zeros(CLASSES)])
    distiller = made_under(policy, teacher, student, region=regions.Segment(), seed=0)
    logits = [np.asarray(tf.cast(model(x), tf.float32)) for model in (teacher, student)]
    compiled(distiller, 0.0)
    logs = distiller.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["kd_loss"], reference.kl(*logits, 4.0).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        logs["hard_loss"], -reference.log_softmax(logits[1])[np.arange(3), y].mean(), rtol=1e-5
    )
    before = student.get_weights()
    distiller.optimizer.learning_rate = 10.0
    for _ in range(8):  # a scale that is too large for float16 is halved in each of the first
        logs = distiller.train_on_batch(x, y, return_dict=True)
        assert np.isfinite(list(logs.values())).all()
    difference = student.get_weights()[0] - before[0]
    assert np.isfinite(difference).all()
    # At the training points `softmax(student) - softmax(teacher)` is +1 at the student's class.
    assert (difference[[0, 1, 2], [1, 2, 0]] < 0).all()
