import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import losses
from tests.references import losses as reference

TEMPERATURES = [0.5, 1.0, 4.0, 20.0]
HALF_PRECISION = [tf.float16, tf.bfloat16]
GAPS = [5.0, 40.0, 1e4]
NAMES = sorted(losses.DIVERGENCES)


def random_logits(seed=0, shape=(6, 5), scale=3.0):
    """Float32 numbers, so that the library and the float64 reference start from the same ones."""
    generator = np.random.default_rng(seed)
    return [(scale * generator.normal(size=shape)).astype("float32") for _ in range(2)]


def value_and_gradient(divergence, teacher, student, temperature):
    student = tf.Variable(student)
    with tf.GradientTape() as tape:
        values = divergence(teacher, student, temperature)
    return values, tape.gradient(values, student)


def error_scale(name, teacher, student, temperature):
    """Size of the terms that the divergence subtracts from each other, shape `(batch,)`.

    Rounding errors are relative to it: no float32 difference of logits is better.
    """
    if name == "mse":
        return losses.DIVERGENCES[name](teacher, student).numpy()
    gap = np.abs(np.asarray(teacher, "float64") - student).max(axis=-1)
    return temperature * (gap + np.abs(teacher).max(axis=-1) + np.abs(student).max(axis=-1))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", NAMES)
def test_values_equal_the_float64_reference(name, temperature):
    teacher, student = random_logits()
    values = losses.DIVERGENCES[name](teacher, student, temperature)
    expected = getattr(reference, name)(teacher, student, temperature)
    assert values.dtype == tf.float32
    tolerance = 1e-6 * expected + 2e-7 * error_scale(name, teacher, student, temperature)
    assert values.shape == expected.shape
    assert (np.abs(values - expected) <= tolerance).all()


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_the_closed_form(name, temperature):
    teacher, student = random_logits(seed=1)
    _, gradient = value_and_gradient(losses.DIVERGENCES[name], teacher, student, temperature)
    expected = getattr(reference, f"{name}_gradient")(teacher, student, temperature)
    np.testing.assert_allclose(gradient, expected, rtol=2e-6, atol=3e-7 * temperature)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("name", ["kl", "binary_kl"])
def test_exact_at_any_gap_between_logits(name, gap, temperature):
    teacher = np.array([[gap, 0.0, -gap], [0.0, gap, 0.5], [0.0, 0.0, 0.0]], "float32")
    student = np.array([[-gap, 0.0, gap], [0.0, -gap, 0.5], [gap, 0.0, -gap]], "float32")
    values, gradient = value_and_gradient(losses.DIVERGENCES[name], teacher, student, temperature)
    np.testing.assert_allclose(
        values, getattr(reference, name)(teacher, student, temperature), rtol=1e-6
    )
    np.testing.assert_allclose(
        gradient,
        getattr(reference, f"{name}_gradient")(teacher, student, temperature),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ["kl", "binary_kl"])
def test_a_difference_in_the_tail_is_still_felt(name):
    # Both are sure of class 0: only a log-space form sees a gradient through p = exp(-40).
    teacher, student = np.float32([[0.0, -40.0]]), np.float32([[0.0, -50.0]])
    _, gradient = value_and_gradient(losses.DIVERGENCES[name], teacher, student, 1.0)
    expected = getattr(reference, f"{name}_gradient")(teacher, student)
    assert expected[0, 1] != 0.0
    np.testing.assert_allclose(gradient[0, 1], expected[0, 1], rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_zero_with_zero_gradient_where_student_equals_teacher(name):
    teacher, _ = random_logits(seed=2, scale=30.0)
    values, gradient = value_and_gradient(losses.DIVERGENCES[name], teacher, teacher, 4.0)
    np.testing.assert_array_equal(values, np.zeros(6))
    np.testing.assert_allclose(gradient, np.zeros((6, 5)), atol=1e-6)


@pytest.mark.parametrize("dtype", HALF_PRECISION)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_equals_casting_first(name, dtype):
    teacher, student = (tf.cast(logits, dtype) for logits in random_logits(seed=3))
    divergence = losses.DIVERGENCES[name]
    values = divergence(teacher, student, 4.0)
    assert values.dtype == tf.float32
    np.testing.assert_array_equal(
        values, divergence(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32), 4.0)
    )


@pytest.mark.parametrize("name", ["kl", "binary_kl"])
def test_high_temperature_equals_logit_matching(name):
    # Hinton et al., equation 4, for logits of zero mean.
    teacher, student = random_logits(seed=4)
    teacher -= teacher.mean(axis=1, keepdims=True)
    student -= student.mean(axis=1, keepdims=True)
    _, gradient = value_and_gradient(losses.DIVERGENCES[name], teacher, student, 1e3)
    share = 5 if name == "kl" else 5 * 4
    np.testing.assert_allclose(gradient, (student - teacher) / share, rtol=0.03, atol=1e-3)


def test_mean_squared_error_ignores_the_temperature():
    teacher, student = random_logits()
    np.testing.assert_array_equal(
        losses.mean_squared_error(teacher, student, 4.0),
        losses.mean_squared_error(teacher, student, 1.0),
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_position_of_dense_outputs_has_the_value_of_an_example(name):
    teacher, student = random_logits()
    dense = [np.reshape(logits, (2, -1, 1, logits.shape[-1])) for logits in (teacher, student)]
    expected = losses.DIVERGENCES[name](teacher, student, 3.0)
    actual = losses.DIVERGENCES[name](*dense, 3.0)
    assert actual.shape == dense[0].shape[:-1]
    np.testing.assert_array_equal(tf.reshape(actual, [-1]), expected)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"),
    [
        ((4, 3), (4, 2)),
        ((4, 3), (4, 1)),
        ((4, 3), (1, 3)),
        ((3,), (3,)),
        ((4, 3), (3,)),
        ((4, 2, 3), (4, 3)),
        ((4, 2, 3), (4, 1, 3)),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_do_not_fit_are_refused(name, teacher_shape, student_shape):
    with pytest.raises(ValueError, match=r"must have one shape") as error:
        losses.DIVERGENCES[name](np.zeros(teacher_shape), np.zeros(student_shape))
    assert str(tf.TensorShape(teacher_shape)) in str(error.value)
    assert str(tf.TensorShape(student_shape)) in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_batch_size_is_accepted(name):
    divergence = losses.DIVERGENCES[name]
    specification = tf.TensorSpec((None, 5), tf.float32)
    teacher, student = random_logits()
    compiled = tf.function(divergence, input_signature=[specification] * 2)
    np.testing.assert_allclose(compiled(teacher, student), divergence(teacher, student), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_xla_agrees(name):
    teacher, student = random_logits(seed=5)

    @tf.function(jit_compile=True)
    def compiled(student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = losses.DIVERGENCES[name](teacher, student, 4.0)
        return values, tape.gradient(values, student)

    values, gradient = compiled(tf.constant(student))
    expected = value_and_gradient(losses.DIVERGENCES[name], teacher, student, 4.0)
    np.testing.assert_allclose(values, expected[0], rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_logits_of_a_softmax_up_to_a_constant(scale):
    logits, _ = random_logits(seed=6, scale=scale)
    recovered = losses.logits_from_probabilities(tf.nn.softmax(logits)).numpy()
    offset = recovered - logits
    np.testing.assert_allclose(offset, offset[:, :1] + np.zeros((6, 5)), atol=1e-5)


def test_logits_of_a_sigmoid():
    logits, _ = random_logits(seed=7)
    recovered = losses.logits_from_probabilities(tf.sigmoid(logits), "binary_kl")
    # A float32 probability near 1 holds its logit to about exp(logit) * 2^-24.
    np.testing.assert_allclose(recovered, logits, atol=2e-7 * np.exp(np.abs(logits).max()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kl", [[np.log(1e-30), 0.0]]),
        ("binary_kl", [[np.log(1e-30), np.log((1.0 - 2.0**-24) / 2.0**-24)]]),
    ],
)
def test_probabilities_zero_and_one_have_finite_logits(name, expected):
    logits = losses.logits_from_probabilities([[0.0, 1.0]], name)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "activation", "student"),
    [("kl", tf.nn.softmax, [[0.0, -40.0]]), ("binary_kl", tf.sigmoid, [[-40.0, 0.5]])],
)
def test_gradients_through_probabilities_are_alive_at_a_gap_of_40(name, activation, student):
    teacher = np.float32([[0.0, 0.0]])

    def of_probabilities(teacher, student, temperature):
        return losses.DIVERGENCES[name](
            teacher, losses.logits_from_probabilities(activation(student), name), temperature
        )

    _, gradient = value_and_gradient(of_probabilities, teacher, np.float32(student), 1.0)
    expected = getattr(reference, f"{name}_gradient")(teacher, student)
    assert np.abs(expected).min() > 0.05
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["mse", "hinge"])
def test_logits_from_probabilities_of_what_has_none(name):
    with pytest.raises(ValueError, match=f"`divergence` must be 'kl' or 'binary_kl'.*{name}"):
        losses.logits_from_probabilities([[0.5]], name)


def test_classes_that_the_teacher_rules_out_count_nothing():
    teacher = tf.constant([[1.0, -np.inf, 0.5]])
    student = tf.Variable([[0.3, 2.0, -1.0]])
    with tf.GradientTape() as tape:
        value = losses.kl_divergence(teacher, student, 2.0)
    p = reference.softmax(np.array([[0.5, -1e9, 0.25]]))
    q = reference.log_softmax(np.array([[0.15, 1.0, -0.5]]))
    kept = [0, 2]
    expected = 4.0 * (p[0, kept] * (np.log(p[0, kept]) - q[0, kept])).sum()
    np.testing.assert_allclose(value, [expected], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(value, student), 2.0 * (np.exp(q) - p), atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True], ids=["op by op", "compiled"])
def test_answers_that_the_teacher_rules_out_count_nothing(compiled):
    # Of the third output both are sure, and agree.
    teacher = tf.constant([[np.inf, -np.inf, -np.inf, 1.0]])
    student = tf.Variable([[0.6, 1.4, -np.inf, 1.0]])

    @tf.function(jit_compile=compiled)
    def divergence():
        with tf.GradientTape() as tape:
            value = losses.binary_kl_divergence(teacher, student, 2.0)
        return value, tape.gradient(value, student)

    value, gradient = divergence()
    # -log of what the student gives to "yes" of the first and to "no" of the second.
    expected = 4.0 * (np.log1p(np.exp(-0.3)) + np.log1p(np.exp(0.7))) / 4
    np.testing.assert_allclose(value, [expected], rtol=1e-6)
    sigmoid = 1 / (1 + np.exp(-np.array([0.3, 0.7])))
    np.testing.assert_allclose(gradient[0, :2], 2.0 * (sigmoid - [1.0, 0.0]) / 4, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 2:], [0.0, 0.0], atol=1e-6)
