import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.features import OUTPUT, feature_model
from l2rkd_tf.methods.jacobian import JacobianMatching, draw_directions, projected_gradients
from tests.references.logits import finite_difference

ALL_SIGNS = np.float32(list(itertools.product([-1.0, 1.0], repeat=3)))
# Orthogonal signs: the mean over the rows is the expectation over all signs.
HADAMARD = np.float32([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def generator():
    return np.random.default_rng(0)


def linear(weights):
    return lambda inputs: {OUTPUT: tf.matmul(inputs, weights)}


def directions_for_all(directions, batch):
    return tf.constant(np.broadcast_to(directions, (batch, *directions.shape)))


def small_images(activation="relu", batch_norm=True):
    layers = [keras.layers.Conv2D(3, 3, padding="same")]
    layers += [keras.layers.BatchNormalization()] if batch_norm else []
    layers += [keras.layers.Activation(activation), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Conv2D(4, 3, activation=activation)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers])


@pytest.mark.parametrize("signs", [ALL_SIGNS, HADAMARD[:, :3]], ids=["all", "orthogonal"])
def test_all_signs_give_the_frobenius_norm_of_linear_models(signs):
    teacher, student = generator().normal(size=(2, 5, 3)).astype("float32")
    x = tf.constant(generator().normal(size=(4, 5)).astype("float32"))
    directions = directions_for_all(signs, 4)
    gradients = [projected_gradients(linear(w), x, directions)[1] for w in (teacher, student)]
    np.testing.assert_allclose(gradients[0][2], signs @ teacher.T, rtol=1e-5, atol=1e-6)
    method = JacobianMatching(num_projections=len(signs))
    expected = np.square(teacher.astype("float64") - student).sum()
    np.testing.assert_allclose(method.per_example(*gradients), [expected] * 4, rtol=1e-5)


def test_random_signs_estimate_it_without_bias():
    teacher, student = generator().normal(size=(2, 6, 5)).astype("float32")
    directions = draw_directions(4000, 1, 5, seed=[3, 4])
    x = tf.zeros((4000, 6))
    gradients = [projected_gradients(linear(w), x, directions)[1] for w in (teacher, student)]
    values = JacobianMatching().per_example(*gradients).numpy().astype("float64")
    standard_error = values.std() / np.sqrt(len(values))
    expected = np.square(teacher.astype("float64") - student).sum()
    assert 0.0 < standard_error < 0.05 * expected
    assert abs(values.mean() - expected) < 4.0 * standard_error


def test_normalized_gradients_compare_directions():
    teacher, student = generator().normal(size=(2, 5, 2, 7)).astype("float32")
    values = JacobianMatching(num_projections=2, normalize=True).per_example(
        tf.constant(teacher), tf.constant(student)
    )
    expected = []
    for t, s in zip(teacher.astype("float64"), student.astype("float64"), strict=True):
        units = [g / np.linalg.norm(g, axis=1, keepdims=True) for g in (t, s)]
        expected.append(np.square(units[0] - units[1]).sum(axis=1).mean())
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    steeper = JacobianMatching(num_projections=2, normalize=True).per_example(
        tf.constant(9.0 * teacher), tf.constant(0.1 * student)
    )
    np.testing.assert_allclose(steeper, values, rtol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_values_and_gradients_of_the_formula(normalize):
    teacher, student = generator().normal(size=(2, 3, 2, 4)).astype("float32")
    method = JacobianMatching(num_projections=2, normalize=normalize)

    def of_reference(student):
        g = [np.asarray(side, np.float64) for side in (teacher, student)]
        if normalize:
            g = [side / np.sqrt((side**2).sum(-1, keepdims=True)) for side in g]
        return ((g[0] - g[1]) ** 2).sum(-1).mean()

    variable = tf.Variable(student)
    with tf.GradientTape() as tape:
        loss = method.compute_loss(tf.constant(teacher), variable)
    np.testing.assert_allclose(loss, of_reference(student), rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(loss, variable), finite_difference(of_reference, student), atol=1e-5
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize(("teacher", "student"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_degenerate_gradients(teacher, student, batch, normalize):
    teacher, student = tf.fill((batch, 2, 4), teacher), tf.Variable(tf.fill((batch, 2, 4), student))
    method = JacobianMatching(num_projections=2, normalize=normalize)
    with tf.GradientTape() as tape:
        values = method.per_example(teacher, student)
    gradient = tape.gradient(values, student)
    differ = np.any(teacher.numpy() != student.numpy())
    size = 1.0 if normalize else 4.0
    np.testing.assert_allclose(values, [size * differ] * batch, rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("normalize", [False, True])
def test_a_student_learns_from_it_by_the_right_gradient(normalize):
    # A smooth student, in float64 by hand: v^T J = W1 diag(1 - h^2) W2 v.
    rng = generator()
    x, target = rng.normal(size=(4, 3)), rng.normal(size=(4, 2, 3))
    weights = [rng.normal(size=(3, 5)), rng.normal(size=(5, 2))]
    directions = rng.choice([-1.0, 1.0], size=(4, 2, 2))
    method = JacobianMatching(num_projections=2, normalize=normalize)

    def of_reference(weights):
        loss = 0.0
        for i in range(4):
            h = np.tanh(x[i] @ weights[0])
            for p in range(2):
                g = weights[0] @ ((1.0 - h**2) * (weights[1] @ directions[i, p]))
                t = target[i, p]
                if normalize:
                    g, t = g / np.linalg.norm(g), t / np.linalg.norm(t)
                loss += ((g - t) ** 2).sum() / 8.0
        return loss

    variables = [tf.Variable(w, dtype=tf.float32) for w in weights]

    def student(inputs):
        return {OUTPUT: tf.matmul(tf.tanh(tf.matmul(inputs, variables[0])), variables[1])}

    with tf.GradientTape() as tape:
        found, gradients = projected_gradients(
            student, tf.constant(x, tf.float32), tf.constant(directions, tf.float32)
        )
        loss = method.compute_loss(tf.constant(target, tf.float32), gradients)
    np.testing.assert_allclose(found[OUTPUT], np.tanh(x @ weights[0]) @ weights[1], rtol=1e-4)
    np.testing.assert_allclose(loss, of_reference(weights), rtol=1e-5)
    for index, gradient in enumerate(tape.gradient(loss, variables)):
        expected = finite_difference(
            lambda w, index=index: of_reference(
                [w if k == index else other for k, other in enumerate(weights)]
            ),
            weights[index],
        )
        np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("num_projections", [1, 3])
def test_one_forward_pass(num_projections):
    calls = []

    def features(inputs, training):
        calls.append(training)
        return {OUTPUT: tf.tanh(inputs), "inner": inputs}

    directions = tf.ones((2, num_projections, 4))
    found, gradients = projected_gradients(features, tf.ones((2, 4)), directions, training=True)
    assert calls == [True]
    assert set(found) == {OUTPUT, "inner"}
    assert gradients.shape == (2, num_projections, 4)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float16, tf.float64])
def test_gradients_of_all_inputs_one_after_the_other(dtype):
    images, numbers = tf.ones((2, 3, 2, 1), dtype), tf.ones((2,), dtype)

    def features(inputs):
        flat = tf.reshape(inputs["b"], [2, 6])
        return {OUTPUT: tf.reduce_sum(flat, 1, keepdims=True) * [[2.0, 0.0]] + inputs["a"][:, None]}

    if dtype != tf.float32:
        features_in_float32 = features

        def features(inputs):
            return features_in_float32({k: tf.cast(v, tf.float32) for k, v in inputs.items()})

    directions = tf.constant([[[1.0, 1.0]], [[1.0, -1.0]]])
    _, gradients = projected_gradients(features, {"b": images, "a": numbers}, directions)
    assert gradients.dtype == tf.float32
    np.testing.assert_array_equal(gradients, [[[2.0, *[2.0] * 6]], [[0.0, *[2.0] * 6]]])


@pytest.mark.parametrize(
    ("inputs", "features", "name"),
    [
        (tf.ones((2, 3), tf.int32), lambda x: {OUTPUT: tf.cast(x, tf.float32)}, "`inputs`.*int32"),
        (tf.ones((2, 3)), lambda x: {OUTPUT: tf.stop_gradient(x)}, "`inputs`.*no gradient"),
        (
            {"used": tf.ones((2, 3)), "unused": tf.ones((2, 4))},
            lambda x: {OUTPUT: x["used"]},
            r"`inputs\['unused'\]`.*no gradient",
        ),
        ([tf.ones((2, 3)), tf.ones((2, 4), tf.uint8)], lambda x: {OUTPUT: x[0]}, r"`inputs\[1\]`"),
    ],
)
def test_inputs_without_a_gradient_are_named(inputs, features, name):
    with pytest.raises(ValueError, match=f"JacobianMatching needs .*{name}"):
        projected_gradients(features, inputs, tf.ones((2, 1, 3)))


@pytest.mark.parametrize("shape", [(2, 4), (2,), (2, 3, 2)])
def test_outputs_that_do_not_fit_the_directions(shape):
    with pytest.raises(ValueError, match="`directions` must have shape"):
        projected_gradients(
            lambda x: {OUTPUT: tf.reshape(x, shape)},
            tf.ones((2, int(np.prod(shape[1:])))),
            tf.ones((2, 1, 3)),
        )


def test_directions_are_random_signs_and_the_same_everywhere():
    def draw(batch):
        return draw_directions(batch, 2, 50, seed=[1, 2])

    directions = draw(100).numpy()
    assert directions.shape == (100, 2, 50) and directions.dtype == np.float32
    np.testing.assert_array_equal(np.abs(directions), np.ones((100, 2, 50)))
    assert abs(directions.mean()) < 4.0 / np.sqrt(directions.size)
    flat = directions.reshape(-1, 50)
    covariance = flat.T @ flat / len(flat)
    assert np.abs(covariance - np.eye(50)).max() < 5.0 / np.sqrt(len(flat))
    for jit_compile in (False, True):
        compiled = tf.function(lambda: draw(100), jit_compile=jit_compile)
        np.testing.assert_array_equal(compiled(), directions)
    np.testing.assert_array_equal(tf.function(draw)(tf.constant(100)), directions)
    other = draw_directions(100, 2, 50, seed=[1, 3]).numpy()
    assert 0.4 < (other == directions).mean() < 0.6


def test_images_through_batch_norm_and_pooling_in_a_graph_and_under_xla():
    teacher, student = small_images(), small_images()
    weights = student.get_weights()
    variables = student.trainable_variables[:-1]  # a Jacobian does not know the last bias
    x = tf.constant(generator().normal(size=(5, 6, 6, 2)).astype("float32"))
    method = JacobianMatching(num_projections=2)

    def step(x):
        directions = draw_directions(tf.shape(x)[0], 2, 4, seed=[5, 6])
        _, of_teacher = projected_gradients(
            feature_model(teacher, []), x, directions, training=False
        )
        with tf.GradientTape() as tape:
            _, of_student = projected_gradients(
                feature_model(student, []), x, directions, training=True
            )
            loss = method.compute_loss(of_teacher, of_student)
        # No gradient where a bias of a ReLU moves no Jacobian.
        return loss, tape.gradient(loss, variables, unconnected_gradients="zero")

    loss, gradients = step(x)
    assert loss > 0.0
    kernels = [g for v, g in zip(variables, gradients, strict=True) if v.name == "kernel"]
    assert all(np.abs(gradient).max() > 1e-4 for gradient in kernels)
    signature = [tf.TensorSpec((None, 6, 6, 2), tf.float32)]
    for options in ({"input_signature": signature}, {"jit_compile": True}):
        student.set_weights(weights)
        compiled = tf.function(step, **options)(x)
        np.testing.assert_allclose(compiled[0], loss, rtol=1e-5)
        for gradient, expected in zip(compiled[1], gradients, strict=True):
            np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_second_derivatives_through_convolutions_equal_finite_differences():
    student = small_images("tanh", batch_norm=False)
    x = tf.constant(generator().normal(size=(2, 6, 6, 2)).astype("float32"))
    directions = draw_directions(2, 1, 4, seed=[7, 8])
    target = tf.zeros((2, 1, 72))
    kernel = student.layers[0].kernel
    # Short: a Jacobian jumps where a pooling changes its maximum.
    step = 3e-4 * generator().choice([-1.0, 1.0], size=kernel.shape).astype("float32")

    def loss():
        _, gradients = projected_gradients(feature_model(student, []), x, directions, training=True)
        return JacobianMatching().compute_loss(target, gradients)

    with tf.GradientTape() as tape:
        value = loss()
    slope = float(tf.reduce_sum(tape.gradient(value, kernel.value) * step))
    losses = []
    for sign in (1.0, -2.0):
        kernel.assign_add(sign * step)
        losses.append(float(loss()))
    assert abs(slope) > 1e-4 * float(value)
    np.testing.assert_allclose((losses[0] - losses[1]) / 2.0, slope, rtol=1e-3)


def test_it_is_what_small_input_noise_adds_to_distillation():
    # Piecewise linear networks; the noise is antithetic and the forward pass in float64.
    def network(width):
        layers = [keras.layers.Dense(width, activation="relu"), keras.layers.Dense(4)]
        return keras.Sequential([keras.Input((6,)), *layers])

    def in_float64(model, points):
        kernel, bias, last_kernel, last_bias = map(np.float64, model.get_weights())
        return np.maximum(points @ kernel + bias, 0.0) @ last_kernel + last_bias

    teacher, student = network(32), network(8)
    rng = generator()
    x = rng.normal(size=(5, 6)).astype("float32")
    gradients = [
        projected_gradients(
            feature_model(model, []),
            tf.constant(x),
            directions_for_all(HADAMARD, 5),
            training=False,
        )[1]
        for model in (teacher, student)
    ]
    expected = JacobianMatching(num_projections=4).per_example(*gradients).numpy()

    sigma = 1e-5
    noise = sigma * rng.normal(size=(20000, 1, 6))

    def squared_error(points):
        return np.square(in_float64(teacher, points) - in_float64(student, points)).sum(-1)

    added = (squared_error(x + noise) + squared_error(x - noise)) / 2.0 - squared_error(x)
    estimates = added / sigma**2
    standard_error = estimates.std(axis=0) / np.sqrt(len(noise))
    assert (standard_error < 0.02 * expected).all()
    assert (np.abs(estimates.mean(axis=0) - expected) < 4.0 * standard_error).all()


def test_keras_distiller_has_no_gradients_to_give():
    method = JacobianMatching()
    for teacher, student in [((4, 3), (4, 3)), ((4, 1, 3), (4, 1, 5)), ((4, 1, 3), (4, 2, 3))]:
        with pytest.raises(ValueError, match="input.*which L2RKDDistiller supplies"):
            method.compute_loss(tf.zeros(teacher), tf.zeros(student))


def test_serialization_keeps_the_arguments():
    method = JacobianMatching(num_projections=3, normalize=True)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert isinstance(restored, JacobianMatching)
    assert restored.get_config() == {"num_projections": 3, "normalize": True}
    assert restored.num_projections == 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_projections", v) for v in (0, 1.5, True, None)] + [("normalize", v) for v in (1, None)],
)
def test_wrong_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received: {argument}={value}"):
        JacobianMatching(**{argument: value})
