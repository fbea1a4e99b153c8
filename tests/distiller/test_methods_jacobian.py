"""`JacobianMatching` as a term of the distiller."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from l2rkd_tf.methods.jacobian import draw_directions
from tests.distiller.methods_by_hand import (
    BATCH,
    CLASSES,
    DIRECTIONS,
    SEED,
    compiled,
    data,
    distiller_of,
    fit,
    jacobian,
    pair,
    seed_of,
    subclassed_pair,
    table,
)


def signs_of(count, num_projections, step=0):
    seed = tf.random.fold_in(seed_of(step), DIRECTIONS, alg="philox")
    return draw_directions(count, num_projections, CLASSES, seed)


def matched(teacher, student, x, signs, normalize=False):
    values = [
        tf.einsum("bpk,bks->bps", signs, jacobian(model, tf.constant(x)))
        for model in (teacher, student)
    ]
    if normalize:
        values = [value / tf.norm(value, axis=-1, keepdims=True) for value in values]
    squares = tf.reduce_sum((values[0] - values[1]) ** 2, axis=-1)
    return float(tf.reduce_mean(squares))


def test_several_numbers_of_projections_in_one_distiller():
    x, y = data()
    teacher, student = pair()
    distiller = L2RKDDistiller(
        teacher,
        student,
        distillation_losses=[
            methods.JacobianMatching(num_projections=1),
            methods.JacobianMatching(num_projections=4),
            methods.JacobianMatching(num_projections=2, normalize=True),
        ],
        seed=SEED,
    )
    logs = fit(compiled(distiller, rate=0.0), x, y, epochs=2)
    for step in range(2):
        signs = signs_of(BATCH, 4, step)
        expected = [
            matched(teacher, student, x, signs[:, :1]),
            matched(teacher, student, x, signs),
            matched(teacher, student, x, signs[:, :2], normalize=True),
        ]
        actual = [logs[f"jacobian_matching_loss{n}"][step] for n in ("", "_2", "_3")]
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    first = logs["jacobian_matching_loss"]
    assert first[0] != first[1]


@pytest.mark.parametrize("at", ["data", "both"])
def test_gradients_at_uint8_images_are_those_of_the_float_images(at):
    x, y = data()
    x = np.clip(128 + 60 * x, 0, 255).astype("uint8")
    logs = []
    for images in (x, x.astype("float32")):
        distiller = distiller_of(["jacobian_matching"], at, region_weight=0.0)
        logs.append(
            distiller_logs(compiled(distiller, rate=0.0), images, y)["jacobian_matching_loss"][0]
        )
    assert logs[0] == logs[1] > 0.0
    if at == "data":
        expected = matched(*pair(), x.astype("float32"), signs_of(BATCH, 2))
        np.testing.assert_allclose(logs[0], expected, rtol=1e-4)


def distiller_logs(distiller, x, y):
    data_set = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    return distiller.fit(data_set, verbose=0).history


def two_inputs(seed, kind):
    image, row = keras.Input((2, 3, 1), name="image"), keras.Input((2,), name="row")
    joined = layers.Concatenate()([layers.Flatten()(image), row])
    init = [keras.initializers.RandomNormal(stddev=0.5, seed=seed + i) for i in range(2)]
    hidden = layers.Dense(4, activation="tanh", kernel_initializer=init[0])(joined)
    outputs = layers.Dense(CLASSES, kernel_initializer=init[1])(hidden)
    return keras.Model(kind(image, row), outputs), keras.Model([image, row], outputs)


@pytest.mark.parametrize(
    "kind",
    [lambda image, row: {"image": image, "row": row},
     lambda image, row: {"row": row, "image": image},
     lambda image, row: [image, row]],
    ids=["dict", "dict in another order", "list"],
)  # fmt: skip
def test_gradients_with_respect_to_several_inputs(kind):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(BATCH, 2, 3, 1)).astype("float32")
    row, y = rng.normal(size=(BATCH, 2)).astype("float32"), rng.integers(0, CLASSES, BATCH)
    (teacher, of_teacher), (student, of_student) = two_inputs(1, kind), two_inputs(2, kind)
    distiller = L2RKDDistiller(
        teacher, student, distillation_losses=methods.JacobianMatching(), seed=SEED,
        distillation_losses_at="data", region=regions.Segment(),
    )  # fmt: skip
    logs = fit(compiled(distiller, rate=0.0), kind(image, row), y)

    def gradients(model):
        with tf.GradientTape(persistent=True) as tape:
            inputs = [tf.constant(image), tf.constant(row)]
            tape.watch(inputs)
            outputs = tf.unstack(model(inputs), axis=1)
        rows = [tape.gradient(output, inputs) for output in outputs]
        return tf.stack([tf.concat([tf.reshape(i, (BATCH, -1)), r], 1) for i, r in rows], 1)

    signs = signs_of(BATCH, 1)[:, 0]
    difference = tf.einsum("bk,bks->bs", signs, gradients(of_teacher) - gradients(of_student))
    expected = tf.reduce_mean(tf.reduce_sum(difference**2, axis=1))
    np.testing.assert_allclose(logs["jacobian_matching_loss"][0], expected, rtol=1e-4)


def of_tokens():
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(5, 2)(tokens))
    return keras.Model(tokens, layers.Dense(CLASSES)(x))


def test_integer_inputs_have_no_gradients():
    distiller = compiled(
        L2RKDDistiller(
            of_tokens(),
            of_tokens(),
            distillation_losses=methods.JacobianMatching(),
            region=regions.Segment(),
            region_weight=0.0,
        )
    )
    x = np.zeros((BATCH, 4), "int32")
    with pytest.raises(ValueError, match="JacobianMatching needs outputs that can be differentia"):
        distiller.train_on_batch(x, np.zeros(BATCH))


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt student"])
def test_gradients_of_subclassed_models_without_features(built):
    x, y = table()
    distiller = L2RKDDistiller(
        *subclassed_pair(built), distillation_losses=methods.JacobianMatching(), seed=SEED,
        region=regions.Segment(),
    )  # fmt: skip
    logs = fit(compiled(distiller, rate=0.0, run_eagerly=False, jit_compile=False), x, y)
    expected = matched(*subclassed_pair(), x, signs_of(BATCH, 1))
    np.testing.assert_allclose(logs["jacobian_matching_loss"][0], expected, rtol=1e-4)
