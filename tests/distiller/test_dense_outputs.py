"""Outputs for each pixel or moment: one SGD step against NumPy, replicas, masks and weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, geometry, methods, regions, teacher_cache
from tests.helpers import (
    BATCH,
    CLASSES,
    RATE,
    TEMPERATURE,
    WEIGHTS,
    GivenDraws,
    compiled,
    partner_draw,
    random_weights,
    two_replicas,
)
from tests.references import losses as reference

PAD = 9.0


def dense_model(shape, weights, masked=False):
    """A linear map of the channels of each position."""
    inner = [layers.Masking(PAD)] if masked else []
    model = keras.Sequential(
        [keras.Input(shape), *inner, layers.Dense(weights[0].shape[-1], name="each")]
    )
    model.set_weights(weights)
    return model


def hand_step(x, y, teacher, student, draw, weights, is_data, near_is_data):
    """Kernel and bias of the student after a step; weights and masks of shape `(batch, ...)`."""
    ask = lambda points, model: points @ model[0] + model[1]  # noqa: E731
    near = reference.move(x, draw.partners.numpy(), draw.lam.numpy())
    near = np.where(near_is_data[..., None], near, PAD)
    classes = student[0].shape[-1]
    flat = lambda tensor: tensor.reshape(-1, tensor.shape[-1])  # noqa: E731
    kernel, bias = (np.array(weight, np.float64) for weight in student)

    def update(points, of_logits, weight, counted):
        shares = weight * np.where(counted, weights, 0.0) / counted.sum()
        of_logits = flat(of_logits) * shares.reshape(-1, 1)
        kernel[...] -= RATE * flat(points).T @ of_logits
        bias[...] -= RATE * of_logits.sum(axis=0)

    at_x, at_near = ask(x, student), ask(near, student)
    soft = reference.kl_gradient(flat(ask(x, teacher)), flat(at_x), TEMPERATURE)
    local = reference.kl_gradient(flat(ask(near, teacher)), flat(at_near), TEMPERATURE)
    update(x, reference.softmax(flat(at_x)) - np.eye(classes)[y.ravel()], 0.3, is_data)
    update(x, soft, 0.7, is_data)
    update(near, local, 1.3, near_is_data)
    return kernel, bias


@pytest.mark.covering
@pytest.mark.parametrize("shape", [(4, 2), (3, 2, 2)])
@pytest.mark.parametrize("weighted", ["no", "examples", "positions", "positions, last axis 1"])
def test_one_sgd_step_equals_weights_derived_by_hand(shape, weighted):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BATCH, *shape)).astype("float32")
    y = rng.integers(0, CLASSES, (BATCH, *shape[:-1]))
    given, weights = None, np.ones(y.shape)
    if weighted == "examples":
        given = rng.uniform(0.5, 2.0, BATCH)
        weights = np.broadcast_to(given.reshape(-1, *[1] * (y.ndim - 1)), y.shape)
    elif weighted != "no":
        given = weights = rng.uniform(0.5, 2.0, y.shape)
        given = given[..., None] if "last" in weighted else given
    teacher, student = (random_weights(rng, shape[-1:]) for _ in range(2))
    draw = partner_draw(rng, 1)
    distiller = compiled(
        L2RKDDistiller(
            dense_model(shape, teacher),
            dense_model(shape, student),
            region=GivenDraws(regions.Segment(), [draw]),
            temperature=TEMPERATURE,
            **WEIGHTS,
        ),
        weighted_metrics=["sparse_categorical_accuracy"],
    )
    logs = distiller.fit(x, y, BATCH, sample_weight=given, shuffle=False, verbose=0).history
    everywhere = np.ones(y.shape, bool)
    expected = hand_step(x, y, teacher, student, draw, weights, everywhere, everywhere)
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)
    is_right = (x @ student[0] + student[1]).argmax(-1) == y
    accuracy = (is_right * weights).sum() / weights.sum()
    np.testing.assert_allclose(logs["sparse_categorical_accuracy"], accuracy, atol=1e-6)


def padded_sequences(rng, shape=(5, 2)):
    """Sequences with padding at their ends, classes of all moments, and which ones are data."""
    x = rng.normal(size=(BATCH, *shape)).astype("float32")
    lengths = np.array([5, 2, 3, 5, 1, 4])
    is_data = np.arange(shape[0]) < lengths[:, None]
    x[~is_data] = PAD
    return x, rng.integers(0, CLASSES, (BATCH, shape[0])), is_data


@pytest.mark.parametrize("weighted", [False, True])
def test_masked_positions_do_not_count(weighted):
    rng = np.random.default_rng(2)
    x, y, is_data = padded_sequences(rng)
    given = rng.uniform(0.5, 2.0, BATCH) if weighted else None
    weights = np.ones(y.shape) if given is None else np.broadcast_to(given[:, None], y.shape)
    teacher, student = (random_weights(rng, (2,)) for _ in range(2))
    draw = partner_draw(rng, 1)
    distiller = compiled(
        L2RKDDistiller(
            dense_model((5, 2), teacher, masked=True),
            dense_model((5, 2), student, masked=True),
            region=GivenDraws(regions.Segment(), [draw]),
            temperature=TEMPERATURE,
            **WEIGHTS,
        )
    )
    distiller.fit(x, y, BATCH, sample_weight=given, shuffle=False, verbose=0)
    near_is_data = is_data & is_data[draw.partners.numpy()[:, 0]]
    expected = hand_step(x, y, teacher, student, draw, weights, is_data, near_is_data)
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)


def test_the_hard_loss_alone_trains_as_keras_does():
    rng = np.random.default_rng(3)
    x, y, _ = padded_sequences(rng)
    weights = rng.uniform(0.5, 2.0, y.shape).astype("float32")
    student = random_weights(rng, (2,))
    alone = compiled(dense_model((5, 2), student, masked=True), metrics=["accuracy"])
    distiller = compiled(
        L2RKDDistiller(
            dense_model((5, 2), random_weights(rng, (2,)), masked=True),
            dense_model((5, 2), student, masked=True),
            hard_weight=1.0,
            kd_weight=0.0,
            region_weight=0.0,
        ),
        metrics=["accuracy"],
    )
    histories = [
        model.fit(x, y, 4, epochs=2, sample_weight=weights, shuffle=False, verbose=0).history
        for model in (alone, distiller)
    ]
    for one, other in zip(alone.get_weights(), distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(histories[0]["accuracy"], histories[1]["accuracy"])
    evaluations = [model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
                   for model in (alone, distiller)]  # fmt: skip
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(evaluations[0][name], evaluations[1][name], rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_two_replicas_equal_one_device(masked):
    def trained(strategy):
        rng = np.random.default_rng(4)
        x, y, _ = padded_sequences(rng)
        weights = rng.uniform(0.5, 2.0, BATCH).astype("float32")
        models = [random_weights(rng, (2,)) for _ in range(2)]
        with strategy.scope():
            distiller = compiled(
                L2RKDDistiller(
                    *(dense_model((5, 2), one, masked) for one in models),
                    region=_OwnShift(),
                    temperature=TEMPERATURE,
                    **WEIGHTS,
                )
            )
        data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(5)  # shares 3 + 2, 1 + 0
        logs = distiller.fit(data, epochs=2, verbose=0).history
        return logs, distiller.student.get_weights()

    logs, weights = trained(two_replicas())
    expected_logs, expected = trained(tf.distribute.get_strategy())
    for actual, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-5)
    for name, values in expected_logs.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5)


class _OwnShift(regions.Region):
    """Moves each example by itself, so that shares of a batch have no part in it."""

    def draw(self, inputs, seed, labels=None):
        return self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor if tensor.dtype == tf.bool else tensor * (1.0 + 0.5 * coefficients)


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_graph_xla_and_eager_train_alike(options):
    def trained(**options):
        rng = np.random.default_rng(5)
        x, y, _ = padded_sequences(rng)
        models = [dense_model((5, 2), random_weights(rng, (2,)), True) for _ in range(2)]
        distiller = compiled(L2RKDDistiller(*models, seed=3, **WEIGHTS), rate=0.1, **options)
        distiller.fit(x, y, 4, epochs=2, shuffle=False, verbose=0)
        return distiller.student.get_weights()

    for actual, wanted in zip(trained(**options), trained(), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("divergence", ["mse", "binary_kl"])
def test_one_number_for_each_example_counts_as_one_output(divergence):
    def trained(flat):
        keras.utils.set_random_seed(1)
        models = []
        for _ in range(2):
            inner = [layers.Dense(1), *([layers.Flatten(), _Flat()] if flat else [])]
            models.append(keras.Sequential([keras.Input((3,)), *inner]))
        distiller = L2RKDDistiller(*models, divergence=divergence, seed=0)
        loss = "mse" if divergence == "mse" else keras.losses.BinaryCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.1), loss)
        x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
        y = (x[:, 0] > 0).astype("float32")
        distiller.fit(x, y if flat else y[:, None], 4, shuffle=False, verbose=0)
        assert distiller.predict(x, verbose=0).shape == ((8,) if flat else (8, 1))
        return distiller.student.get_weights()

    for one, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class _Flat(layers.Layer):
    def call(self, inputs):
        return inputs[:, 0]


def test_outputs_of_other_shapes_are_refused():
    models = [
        keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3, padding=padding)])
        for padding in ("same", "valid")
    ]
    with pytest.raises(ValueError, match="must have the same shape of outputs"):
        L2RKDDistiller(*models)


def test_weights_of_another_shape_are_refused():
    rng = np.random.default_rng(0)
    models = [dense_model((4, 4, 2), random_weights(rng, (2,))) for _ in range(2)]
    distiller = compiled(L2RKDDistiller(*models))
    x, y = np.zeros((4, 4, 4, 2), "float32"), np.zeros((4, 4, 4), int)
    with pytest.raises(ValueError, match=r"`sample_weight` must have one number .*\(None, 4, 4\)"):
        distiller.fit(x, y, sample_weight=np.ones((4, 3)), verbose=0)


@pytest.mark.parametrize("name", ["dkd", "dist", "logit_standardization"])
def test_methods_that_compare_logits_take_each_position_for_an_example(name):
    rng = np.random.default_rng(6)
    teacher, student = rng.normal(size=(2, 2, 3, 4)).astype("float32")[:, :, :, None, :]
    labels = rng.integers(-1, 4, (2, 3, 1)).astype("int32")
    method = methods.get(name)
    given = {"labels": labels} if method.uses_labels else {}
    flat = {"labels": labels.ravel()} if method.uses_labels else {}
    values = method.values(teacher, student, **given)
    expected = method.values(teacher.reshape(-1, 4), student.reshape(-1, 4), **flat)
    np.testing.assert_array_equal(values, tf.reshape(expected, (2, 3, 1)))


@pytest.mark.parametrize("at", ["data", "both"])
def test_a_method_weighs_positions_as_the_divergence_does(at):
    rng = np.random.default_rng(7)
    x, y, is_data = padded_sequences(rng)
    models = [dense_model((5, 2), random_weights(rng, (2,)), True) for _ in range(2)]
    distiller = compiled(
        L2RKDDistiller(
            *models, region=_OwnShift(), hard_weight=0.0, kd_weight=0.0, region_weight=0.0,
            distillation_losses=methods.DKD(temperature=2.0), distillation_losses_at=at,
            distillation_loss_weights=1.0,
        )
    )  # fmt: skip
    logits = [model.predict(x, verbose=0) for model in models]
    values = methods.DKD(temperature=2.0).values(*logits, labels=y.astype("int32")).numpy()
    counted, values = [is_data], [values]
    if at == "both":
        near = np.where(is_data[..., None], x * 1.5, PAD)
        logits = [model.predict(near, verbose=0) for model in models]
        values.append(methods.DKD(temperature=2.0).values(*logits).numpy())
        counted.append(is_data)
    logs = distiller.fit(x, y, BATCH, shuffle=False, verbose=0).history
    expected = np.concatenate(values)[np.concatenate(counted)].mean()
    np.testing.assert_allclose(logs["dkd_loss"], expected, rtol=1e-5)


def test_dense_labels_are_told_apart_from_one_hot_ones():
    rng = np.random.default_rng(0)
    models = [dense_model((CLASSES, 2), random_weights(rng, (2,))) for _ in range(2)]
    x, y = np.zeros((4, CLASSES, 2), "float32"), np.zeros((4, CLASSES), int)
    compiled(L2RKDDistiller(*models)).fit(x, y, verbose=0)  # as many moments as classes
    distiller = L2RKDDistiller(*models)
    distiller.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=r"shape of the outputs, \(batch, ..., 3\)"):
        distiller.fit(x, y, verbose=0)


def test_cached_outputs_train_as_the_teacher_does():
    def trained(cached):
        rng = np.random.default_rng(8)
        x, y, _ = padded_sequences(rng)
        models = [dense_model((5, 2), random_weights(rng, (2,))) for _ in range(2)]
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        if cached:
            data = teacher_cache.cache_teacher(data, models[0], shuffle=False, verbose=False)
        distiller = compiled(L2RKDDistiller(*models, region_targets="interpolated", seed=0))
        distiller.fit(data, verbose=0)
        return distiller.student.get_weights()

    for one, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-6)


def test_measures_are_means_over_positions():
    rng = np.random.default_rng(9)
    weights = [random_weights(rng, (2,)) for _ in range(2)]
    x = rng.normal(size=(6, 4, 2)).astype("float32")
    dense = [dense_model((4, 2), one) for one in weights]
    # The same numbers as examples of their own: at the examples, where no region has a part.
    single = [dense_model((2,), one) for one in weights]
    flat = x.reshape(-1, 2)
    profile = geometry.fidelity_profile(*dense, x, regions.Segment(), [0.0])
    expected = geometry.fidelity_profile(*single, flat, regions.Segment(), [0.0])
    np.testing.assert_allclose(profile.kl, expected.kl, rtol=1e-6)
    np.testing.assert_allclose(profile.agreement, expected.agreement, rtol=1e-6)
    np.testing.assert_allclose(
        geometry.top1_agreement(*dense, x), geometry.top1_agreement(*single, flat), rtol=1e-6
    )
    gap = geometry.linearity_gap(dense[0], x, x[::-1].copy())
    np.testing.assert_allclose(gap.absolute, 0.0, atol=1e-5)
    distances = [
        geometry.jacobian_distance(*models, inputs, num_projections=None)
        for models, inputs in ((dense, x), (single, flat))
    ]
    np.testing.assert_allclose(distances[0].relative, distances[1].relative, rtol=1e-5)
    # An example's Jacobian holds those of its four positions.
    np.testing.assert_allclose(
        distances[0].squared_distance, 4 * distances[1].squared_distance, rtol=1e-5
    )


def test_gradients_of_all_positions_are_matched():
    def trained(flat):
        rng = np.random.default_rng(10)
        x = rng.normal(size=(6, 4, 2)).astype("float32")
        models = [dense_model((4, 2), random_weights(rng, (2,))) for _ in range(2)]
        if flat:
            models = [keras.Sequential([model, layers.Flatten()]) for model in models]
        distiller = L2RKDDistiller(
            *models, distillation_losses="jacobian_matching", distillation_loss_weights=0.1,
            hard_weight=0.0, kd_weight=0.0, region_weight=0.0, seed=0,
        )  # fmt: skip
        history = compiled(distiller, rate=0.1).fit(x, batch_size=3, verbose=0, shuffle=False)
        return history.history["jacobian_matching_loss"], *distiller.student.get_weights()

    for dense, flat in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(dense, flat, rtol=1e-5, atol=1e-6)


def test_a_locally_linear_region_names_the_outputs_it_needs():
    rng = np.random.default_rng(0)
    models = [dense_model((4, 2), random_weights(rng, (2,))) for _ in range(2)]
    region = regions.LinearRegion(models[0])
    distiller = compiled(L2RKDDistiller(*models, region=region))
    with pytest.raises(ValueError, match=r"LinearRegion must have outputs of shape"):
        distiller.fit(np.zeros((4, 4, 2), "float32"), np.zeros((4, 4), int), verbose=0)
