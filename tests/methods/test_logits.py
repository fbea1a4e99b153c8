import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import losses
from l2rkd_tf.methods.logits import (
    DIST,
    DKD,
    LogitStandardization,
    correlation_distance,
    decoupled_kl,
)
from tests.references import logits as reference_logits
from tests.references import losses as reference

METHODS = {
    "dkd": DKD(alpha=0.7, beta=3.0, temperature=2.0),
    "dist": DIST(beta=1.5, gamma=0.5, temperature=2.0),
    "normalized": LogitStandardization(temperature=3.0),
}
REFERENCES = {  # the loss of a batch
    "dkd": lambda t, s: reference_logits.dkd(t, s, np.argmax(t, -1), 0.7, 3.0, 2.0).mean(),
    "dist": lambda t, s: reference_logits.dist(t, s, 1.5, 0.5, 2.0),
    "normalized": lambda t, s: reference_logits.normalized_kl(t, s, 3.0).mean(),
}
NAMES = sorted(METHODS)
SHAPES = [(6, 5), (3, 3), (4, 40)]


def random_logits(seed=0, shape=(6, 5), scale=3.0):
    generator = np.random.default_rng(seed)
    return [(scale * generator.normal(size=shape)).astype("float32") for _ in range(2)]


def value_and_gradient(method, teacher, student):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = method.compute_loss(tf.convert_to_tensor(teacher), student)
    return loss, tape.gradient(loss, student)


@pytest.mark.covering
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_the_papers_loss(name, shape):
    teacher, student = random_logits(shape=shape)
    loss, gradient = value_and_gradient(METHODS[name], teacher, student)
    np.testing.assert_allclose(loss, REFERENCES[name](teacher, student), rtol=1e-5)
    expected = reference_logits.finite_difference(lambda s: REFERENCES[name](teacher, s), student)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_one_value_for_each_example_that_follows_it_through_the_batch(name):
    teacher, student = map(tf.constant, random_logits(seed=1))
    values = METHODS[name].per_example(teacher, student)
    assert values.dtype == tf.float32 and values.shape == (6,)
    order = [3, 1, 5, 0, 4, 2]
    permuted = METHODS[name].per_example(tf.gather(teacher, order), tf.gather(student, order))
    np.testing.assert_allclose(permuted, tf.gather(values, order), rtol=1e-5)


def test_values_of_dist_are_its_own_row_and_the_mean_of_all_columns():
    teacher, student = random_logits(seed=2)
    p, q = (reference.softmax(z / np.float64(2.0)) for z in (teacher, student))
    columns = np.mean([1.0 - reference_logits.pearson(p[:, c], q[:, c]) for c in range(5)])
    rows = [1.0 - reference_logits.pearson(p[i], q[i]) for i in range(6)]
    values = METHODS["dist"].per_example(tf.constant(teacher), tf.constant(student))
    np.testing.assert_allclose(values, 4.0 * (1.5 * np.array(rows) + 0.5 * columns), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_zero_with_zero_gradient_where_student_equals_teacher(name):
    teacher, _ = random_logits(seed=3)
    loss, gradient = value_and_gradient(METHODS[name], teacher, teacher)
    np.testing.assert_allclose(loss, 0.0, atol=3e-6)
    np.testing.assert_allclose(gradient, np.zeros_like(teacher), atol=3e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_plain_distillation_is_a_sum_of_the_decoupled_parts(temperature):
    teacher, student = random_logits(seed=4, shape=(50, 7))
    target = tf.constant(np.arange(50) % 7, tf.int32)
    of_target, of_others = decoupled_kl(teacher, student, target, temperature)
    p_target = tf.gather(tf.nn.softmax(teacher / temperature), target[:, None], batch_dims=1)
    whole = of_target + (1.0 - p_target[:, 0]) * of_others
    for expected in (
        losses.kl_divergence(teacher, student, temperature),
        reference.kl(teacher, student, temperature),
    ):
        np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-5 * temperature)


@pytest.mark.parametrize("gap", [5.0, 40.0, 300.0])
def test_decoupled_parts_are_exact_at_any_gap_between_logits(gap):
    teacher = np.array([[gap, 0.0, 0.5], [0.0, gap, 1.0], [-gap, 0.0, 0.3]], "float32")
    student = np.array([[0.0, 0.5, 1.0], [gap, 0.0, -1.0], [0.0, 0.5, 1.0]], "float32")
    target = np.array([0, 0, 0])
    student_variable = tf.Variable(student)
    with tf.GradientTape(persistent=True) as tape:
        parts = decoupled_kl(teacher, student_variable, tf.constant(target, tf.int32), 1.0)
    expected = reference_logits.decoupled_parts(teacher, student, target, 1.0)
    np.testing.assert_allclose(parts, expected, rtol=1e-5, atol=1e-6)
    for part, of_reference in zip(parts, (0, 1), strict=True):
        gradient = reference_logits.finite_difference(
            lambda s, k=of_reference: reference_logits.decoupled_parts(teacher, s, target, 1.0)[
                k
            ].sum(),
            student,
        )
        np.testing.assert_allclose(
            tape.gradient(part, student_variable), gradient, rtol=1e-4, atol=1e-5
        )


def test_decoupled_parts_are_finite_at_a_huge_gap():
    teacher, student = tf.constant([[1e4, 0.0, -1e4]]), tf.Variable([[-1e4, 0.0, 1e4]])
    with tf.GradientTape(persistent=True) as tape:
        parts = decoupled_kl(teacher, student, tf.constant([0]), 1.0)
    np.testing.assert_allclose(parts, [[2e4], [1e4]])
    np.testing.assert_allclose(tape.gradient(parts[0], student), [[-1.0, 0.0, 1.0]])
    np.testing.assert_allclose(tape.gradient(parts[1], student), [[0.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        (None, [1, 0, 2]),
        ([2, -1, 0], [2, 0, 0]),
        ([3, 1, 255], [1, 1, 2]),
        ([-1, -1, -1], [1, 0, 2]),
    ],
)
def test_the_target_is_the_label_or_the_teachers_choice(labels, target):
    teacher = np.array([[0.0, 2.0, 1.0], [3.0, 3.0, 1.0], [0.0, 1.0, 5.0]], "float32")
    student = random_logits(shape=(3, 3))[0]
    labels = None if labels is None else tf.constant(labels, tf.int32)
    values = METHODS["dkd"].values(tf.constant(teacher), tf.constant(student), labels=labels)
    expected = reference_logits.dkd(teacher, student, target, 0.7, 3.0, 2.0)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert DKD.uses_labels


def test_two_classes_leave_nothing_but_the_target():
    teacher, student = random_logits(seed=5, shape=(4, 2))
    of_target, of_others = decoupled_kl(teacher, student, tf.constant([0, 1, 1, 0]), 2.0)
    np.testing.assert_array_equal(of_others, np.zeros(4))
    np.testing.assert_allclose(of_target, reference.kl(teacher, student, 2.0), rtol=1e-5)


@pytest.mark.parametrize(("factor", "offset"), [(0.01, 0.3), (7.0, -2.0), (1e-12, 0.0)])
def test_correlation_forgets_affine_maps_of_predictions(factor, offset):
    p, q = (reference.softmax(z).astype("float32") for z in random_logits(seed=6))
    distance = correlation_distance(p, q)
    expected = [1.0 - reference_logits.pearson(a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(distance, expected, atol=1e-6)
    moved = correlation_distance(factor * p + offset, q)
    np.testing.assert_allclose(moved, distance, atol=1e-4 if offset == 0.3 else 1e-6)
    np.testing.assert_allclose(correlation_distance(-p, p), 2.0 * np.ones(6), rtol=1e-6)


@pytest.mark.parametrize("factor", [0.1, 30.0])
def test_normalized_logits_forget_affine_maps_of_logits(factor):
    teacher, student = map(tf.constant, random_logits(seed=7))
    method = METHODS["normalized"]
    values = method.per_example(teacher, student)
    np.testing.assert_allclose(
        method.per_example(teacher, factor * student - 2.0), values, rtol=3e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        method.per_example(factor * teacher + 1.0, student), values, rtol=3e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        (np.zeros((3, 4)), np.zeros((3, 4))),
        (np.zeros((3, 4)), np.eye(3, 4)),
        (np.eye(3, 4), np.full((3, 4), 0.1)),
        (np.eye(3, 4), np.ones((3, 1)) * [0.1, 0.2, 0.3, 0.4]),
        (1e4 * np.eye(3, 4), -1e4 * np.eye(3, 4)),
        (np.eye(1, 4), 2.0 * np.eye(1, 4)),
        (np.zeros((0, 4)), np.zeros((0, 4))),
    ],
    ids=["zeros", "flat teacher", "flat student", "equal rows", "huge", "one", "none"],
)
def test_degenerate_logits(name, teacher, student):
    teacher, student = (tf.constant(z, tf.float32) for z in (teacher, student))
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = METHODS[name].per_example(teacher, student)
    gradient = tape.gradient(values, student)
    assert values.shape == teacher.shape[:1]
    assert np.isfinite(values).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("constant", [0.1, 0.3, 1e-9])
def test_a_constant_counts_nothing_whatever_its_rounding(constant):
    rows = tf.Variable(tf.fill([1, 7], constant))
    with tf.GradientTape() as tape:
        distance = correlation_distance(rows, [[0.1, 0.5, 0.2, 0.9, 0.4, 0.3, 0.0]])
    np.testing.assert_array_equal(distance, [0.0])
    np.testing.assert_array_equal(tape.gradient(distance, rows), np.zeros((1, 7)))


def test_one_example_has_no_intra_class_relation():
    teacher, student = map(tf.constant, random_logits(shape=(1, 5)))
    whole = DIST(beta=2.0, gamma=3.0).per_example(teacher, student)
    np.testing.assert_array_equal(whole, DIST(beta=2.0, gamma=0.0).per_example(teacher, student))


@pytest.mark.parametrize("name", NAMES)
def test_xla_and_an_unknown_batch_size(name):
    teacher, student = random_logits(seed=8)
    specification = tf.TensorSpec((None, 5), tf.float32)
    expected = value_and_gradient(METHODS[name], teacher, student)
    for jit_compile in (False, True):
        compiled = tf.function(
            lambda t, s: value_and_gradient(METHODS[name], t, s),
            input_signature=[specification] * 2,
            jit_compile=jit_compile,
        )
        for value, wanted in zip(compiled(teacher, student), expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_equals_casting_first(name):
    teacher, student = (tf.cast(logits, tf.float16) for logits in random_logits(seed=9))
    values = METHODS[name].values(teacher, student)
    assert values.dtype == tf.float32
    np.testing.assert_array_equal(
        values, METHODS[name].values(tf.cast(teacher, tf.float32), tf.cast(student, tf.float32))
    )


@pytest.mark.parametrize("name", NAMES)
def test_serialization_keeps_the_arguments(name):
    method = METHODS[name]
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(restored) is type(method)
    assert restored.get_config() == method.get_config()
    assert set(method.get_config()) >= {"temperature"}


@pytest.mark.parametrize(
    ("method", "argument", "value"),
    [(m, "temperature", v) for m in (DKD, DIST, LogitStandardization) for v in (0, -1.0, "4")]
    + [(DKD, "alpha", -1), (DKD, "beta", np.inf), (DIST, "beta", None)]
    + [(DIST, "gamma", float("nan"))],
)
def test_wrong_arguments_are_named(method, argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received: {argument}="):
        method(**{argument: value})


@pytest.mark.parametrize(
    ("teacher", "student"), [((4, 3), (4, 2)), ((4, 1), (4, 1)), ((4, 3, 2), (4, 2))]
)
@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_do_not_fit_are_refused(name, teacher, student):
    with pytest.raises(ValueError, match="must have the same shape") as error:
        METHODS[name].compute_loss(tf.zeros(teacher), tf.zeros(student))
    assert str(tf.TensorShape(teacher)) in str(error.value)
    assert str(tf.TensorShape(student)) in str(error.value)
