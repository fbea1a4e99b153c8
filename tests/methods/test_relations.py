import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.methods import relations
from tests.references import relations as reference

METHODS = {
    "similarity": (relations.SimilarityPreserving, reference.similarity_preserving, {}),
    "correlation": (relations.CorrelationCongruence, reference.correlation_congruence, {}),
    "correlation of order 4": (
        relations.CorrelationCongruence,
        reference.correlation_congruence,
        {"gamma": 1.5, "order": 4},
    ),
    "relational": (relations.RelationalKD, reference.relational, {}),
    "distances": (
        relations.RelationalKD,
        reference.relational,
        {"distance_weight": 2.0, "angle_weight": 0},
    ),
    "angles": (
        relations.RelationalKD,
        reference.relational,
        {"distance_weight": 0.0, "angle_weight": 3.0},
    ),
    "probabilistic": (relations.PKT, reference.probabilistic, {}),
}
NAMES = list(METHODS)
SHAPES = [
    ((6, 8), (6, 3)),
    ((5, 4), (5, 4)),
    ((4, 3, 3, 2), (4, 2, 2, 5)),
    ((4, 2, 2, 3), (4, 7)),
    ((2, 3), (2, 4)),
]


def make(name):
    method, expected, arguments = METHODS[name]
    return method(**arguments), lambda t, s: expected(t, s, **arguments)


def random_features(teacher_shape=(6, 8), student_shape=(6, 5), seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=s).astype("float32") for s in (teacher_shape, student_shape)]


def value_and_gradient(method, teacher, student):
    student = tf.convert_to_tensor(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = method.per_example(tf.convert_to_tensor(teacher), student)
        loss = tf.reduce_sum(values)
    return values.numpy(), tape.gradient(loss, student).numpy()


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@pytest.mark.covering
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_float64_reference(name, shapes):
    teacher, student = random_features(*shapes)
    method, expected = make(name)
    values, gradient = value_and_gradient(method, teacher, student)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected(teacher, student), rtol=1e-5, atol=1e-6)
    expected_gradient = reference.numerical_gradient(lambda s: expected(teacher, s).sum(), student)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_zero_where_student_equals_teacher(name):
    teacher, _ = random_features()
    values, gradient = value_and_gradient(make(name)[0], teacher, teacher)
    np.testing.assert_array_equal(values, np.zeros(6))
    np.testing.assert_allclose(gradient, np.zeros((6, 8)), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_zero_at_rotated_and_scaled_features(name):
    teacher, _ = random_features()
    shift = 2.0 if METHODS[name][0] is relations.RelationalKD else 0.0
    for factor in (1.0, 3.0):
        student = (factor * (teacher @ rotation(8)) + shift).astype("float32")
        values = make(name)[0].per_example(tf.constant(teacher), tf.constant(student))
        np.testing.assert_allclose(values, np.zeros(6), atol=1e-5)


@pytest.mark.parametrize("name", ["correlation", "probabilistic"])
def test_cosine_kernels_ignore_the_length_of_each_vector(name):
    teacher, student = random_features()
    method, _ = make(name)
    lengths = np.float32([[0.1], [1], [2], [30], [400], [5e3]])
    np.testing.assert_allclose(
        method.per_example(tf.constant(teacher), tf.constant(student * lengths)),
        method.per_example(tf.constant(teacher), tf.constant(student)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_scale_of_features_is_too_large_or_small(name):
    teacher, student = random_features()
    method, expected = make(name)
    values, gradient = value_and_gradient(method, teacher * 1e-25, student * 1e25)
    np.testing.assert_allclose(values, expected(teacher, student), rtol=1e-5, atol=1e-6)
    _, unscaled = value_and_gradient(method, teacher, student)
    np.testing.assert_allclose(gradient * 1e25, unscaled, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_correlation_tends_to_the_gaussian_kernel():
    teacher, student = random_features()

    def gaussian(features):
        units = features / np.linalg.norm(features, axis=1, keepdims=True)
        return np.exp(-0.4 * ((units[:, None] - units) ** 2).sum(axis=-1))

    expected = ((gaussian(teacher) - gaussian(student)) ** 2).mean(axis=1)
    method = relations.CorrelationCongruence(gamma=0.4, order=12)
    np.testing.assert_allclose(method.values(teacher, student), expected, rtol=1e-4)


def test_distances_beyond_one_count_linearly():
    teacher = np.float32([[0], [1], [2], [3], [4], [5]])
    student = np.float32([[0], [0.1], [0.2], [0.3], [0.4], [90]])
    method, expected = make("distances")
    np.testing.assert_allclose(
        method.values(teacher, student), expected(teacher, student), rtol=1e-5
    )
    assert expected(teacher, student).max() > 2.0 * 0.5


@pytest.mark.parametrize("name", NAMES)
def test_values_follow_their_examples(name):
    teacher, student = random_features()
    method, _ = make(name)
    order = np.random.default_rng(1).permutation(6)
    np.testing.assert_allclose(
        method.values(teacher[order], student[order]),
        method.values(teacher, student).numpy()[order],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.covering
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_graphs_and_xla_agree_for_any_size_of_batch(name, jit_compile):
    method, _ = make(name)

    @tf.function(
        input_signature=[tf.TensorSpec((None, 3, 3, 2)), tf.TensorSpec((None, 5))],
        jit_compile=jit_compile,
    )
    def compiled(teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(student)
            values = method.per_example(teacher, student)
        return values, tape.gradient(values, student)

    for batch in (4, 1, 0):
        teacher, student = random_features((batch, 3, 3, 2), (batch, 5))
        values, gradient = compiled(tf.constant(teacher), tf.constant(student))
        expected = value_and_gradient(method, teacher, student)
        np.testing.assert_allclose(values, expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [0, 1])
def test_less_than_two_examples_have_no_relations(name, batch):
    teacher, student = random_features((batch, 4), (batch, 3))
    values, gradient = value_and_gradient(make(name)[0], teacher, student)
    np.testing.assert_allclose(values, np.zeros(batch), atol=1e-7)
    np.testing.assert_allclose(gradient, np.zeros((batch, 3)), atol=1e-6)


DEGENERATE = {
    "zero": np.zeros((4, 3)),
    "a zero row": np.float32([[0, 0, 0], [1, 2, 3], [0, 1, 0], [2, 0, 1]]),
    "equal rows": np.ones((4, 3)),
    "two equal rows": np.float32([[1, 2, 3], [1, 2, 3], [0, 1, 0], [2, 0, 1]]),
    "opposite rows": np.float32([[1, 2, 3], [-1, -2, -3], [0, 1, 0], [0, -1, 0]]),
    "on a line": np.float32([[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]]),
}


@pytest.mark.covering
@pytest.mark.parametrize("degenerate", DEGENERATE)
@pytest.mark.parametrize("name", NAMES)
def test_degenerate_features_have_finite_values_and_gradients(name, degenerate):
    features = DEGENERATE[degenerate].astype("float32")
    teacher, _ = random_features((4, 3), (4, 3))
    method, _ = make(name)
    for pair in ((teacher, features), (features, teacher), (features, features)):
        values, gradient = value_and_gradient(method, *pair)
        assert np.isfinite(values).all()
        assert np.abs(gradient).max() < 1e5
    np.testing.assert_allclose(values, np.zeros(4), atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        relations.SimilarityPreserving("block3", "block2"),
        relations.SimilarityPreserving(),
        relations.CorrelationCongruence("a", "b", gamma=0.7, order=3),
        relations.RelationalKD("a", "b", distance_weight=1.0, angle_weight=0.0),
        relations.PKT("a", "b"),
    ],
    ids=lambda method: type(method).__name__,
)
def test_serialization_keeps_the_configuration(method):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(restored) is type(method)
    assert restored.get_config() == method.get_config()


@pytest.mark.parametrize(
    ("method", "arguments", "received"),
    [
        (relations.CorrelationCongruence, {"gamma": 0.0}, "gamma=0.0"),
        (relations.CorrelationCongruence, {"gamma": "wide"}, "gamma='wide'"),
        (relations.CorrelationCongruence, {"order": 0}, "order=0"),
        (relations.CorrelationCongruence, {"order": 1.5}, "order=1.5"),
        (relations.RelationalKD, {"distance_weight": -1.0}, "distance_weight=-1.0"),
        (relations.RelationalKD, {"angle_weight": float("inf")}, "angle_weight=inf"),
        (relations.RelationalKD, {"angle_weight": True}, "angle_weight=True"),
    ],
)
def test_wrong_arguments_are_named(method, arguments, received):
    (argument,) = arguments
    with pytest.raises(ValueError, match=f"`{argument}` must be .*{received}"):
        method(**arguments)


def test_relational_without_any_weight_is_refused():
    with pytest.raises(ValueError, match="`distance_weight` or `angle_weight` must be positive"):
        relations.RelationalKD(distance_weight=0, angle_weight=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_features_that_cannot_be_compared_are_refused(name):
    method, _ = make(name)
    with pytest.raises(ValueError, match=r"same examples.*\(4, 3\).*\(5, 3\)"):
        method.per_example(tf.zeros((4, 3)), tf.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"at least one axis besides.*\(4,\)"):
        method.per_example(tf.zeros((4, 3)), tf.zeros(4))
