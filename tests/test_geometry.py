import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry
from l2rkd_tf.geometry.evaluation import mean_and_stderr, ratio_and_stderr
from l2rkd_tf.regions import Ball, Mixture, Patch, Region, Segment, Simplex
from tests import reference_losses as reference

FRACTIONS = (0.0, 0.5, 1.0)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def linear(seed=0, inputs=4, outputs=3):
    model = keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
    model.set_weights([numbers(inputs, outputs, seed=seed), numbers(outputs, seed=seed + 100)])
    return model


class Subclassed(keras.Model):
    """A linear model whose graph tells nothing."""

    def __init__(self, outputs):
        super().__init__()
        self.dense = keras.layers.Dense(outputs)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed(outputs, inputs=4):
    model = Subclassed(outputs)
    model(np.zeros((1, inputs), "float32"))
    return model


def curved(seed=0, shape=(4,), activation=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "tanh", kernel_initializer=keras.initializers.Orthogonal(2.0)),
            keras.layers.Dense(3, activation, kernel_initializer=keras.initializers.Orthogonal(3)),
        ]
    )


def logits(model, x):
    return np.asarray(model(x, training=False), np.float64)


def stderr(values):
    return np.std(values, axis=0, ddof=1) / np.sqrt(len(values))


def assert_same(first, second, tolerance=1e-6):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


# Means and their standard errors.


def test_mean_and_stderr_by_hand():
    mean, error = mean_and_stderr([[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]])
    np.testing.assert_allclose(mean, [3.0, 2.0])
    np.testing.assert_allclose(error, [2.0 / np.sqrt(3.0), 2.0])


def test_ratio_and_stderr_hold_in_repeated_samples():
    generator = np.random.default_rng(0)
    below = generator.gamma(4.0, size=(4000, 50))
    above = 0.3 * below + 0.2 * generator.gamma(2.0, size=(4000, 50))
    ratio, error = ratio_and_stderr(above.T, below.T)
    assert abs(ratio.mean() - 0.4) < 0.002
    assert abs(error.mean() / ratio.std() - 1.0) < 0.05


def test_ratio_is_exact_for_proportional_values():
    ratio, error = ratio_and_stderr(3.0 * np.arange(1.0, 9.0), np.arange(1.0, 9.0))
    np.testing.assert_allclose([ratio, error], [3.0, 0.0], atol=1e-15)


def test_one_example_has_no_standard_error_and_zero_no_ratio():
    assert np.isnan(mean_and_stderr([2.0])[1])
    assert np.isnan(ratio_and_stderr([1.0, 2.0], [0.0, 0.0])).all()


# Fidelity profile.


@pytest.mark.parametrize(
    ("region", "temperature"),
    [(Patch(grid=2), 4.0), (Ball(0.5), 1.0), (Mixture([Simplex(), Segment(0.8)]), 2.0)],
    ids=["patch", "ball", "mixture"],
)
def test_profile_equals_a_loop(region, temperature):
    teacher, student = curved(1, (4, 4, 1)), curved(2, (4, 4, 1))
    x = numbers(13, 4, 4, 1)
    profile = geometry.fidelity_profile(
        teacher, student, x, region, FRACTIONS, temperature=temperature, batch_size=5, seed=3
    )
    for column, fraction in enumerate(FRACTIONS):
        divergences, alike = [], []
        for number in range(3):
            batch = tf.constant(x[5 * number : 5 * number + 5])
            drawn = region.draw(batch, [3, number])
            points = region.apply(batch, region.at_fraction(drawn, fraction))
            t, s = logits(teacher, points), logits(student, points)
            divergences.extend(reference.kl(t, s, temperature) / temperature**2)
            alike.extend(t.argmax(axis=1) == s.argmax(axis=1))
        np.testing.assert_allclose(profile.kl[column], np.mean(divergences), rtol=1e-5)
        np.testing.assert_allclose(profile.kl_stderr[column], stderr(divergences), rtol=1e-5)
        np.testing.assert_allclose(profile.agreement[column], np.mean(alike), rtol=1e-6)
        np.testing.assert_allclose(profile.agreement_stderr[column], stderr(alike), rtol=1e-6)
    assert profile.num_points == 13
    np.testing.assert_array_equal(profile.fractions, np.float32(FRACTIONS))


@pytest.mark.parametrize("divergence", ["kl", "binary_kl"])
def test_a_model_is_faithful_to_itself(divergence):
    teacher = curved()
    profile = geometry.fidelity_profile(
        teacher, teacher, numbers(9, 4), Segment(), divergence=divergence
    )
    np.testing.assert_array_equal(profile.kl, np.zeros(5))
    np.testing.assert_array_equal(profile.kl_stderr, np.zeros(5))
    np.testing.assert_array_equal(profile.agreement, np.ones(5))
    np.testing.assert_array_equal(profile.agreement_stderr, np.zeros(5))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("divergence", ["binary_kl", "mse"])
def test_other_divergences(divergence, temperature):
    teacher, student, x = curved(1), curved(2), numbers(9, 4)
    profile = geometry.fidelity_profile(
        teacher, student, x, Ball(1.0), (0.0,), divergence=divergence, temperature=temperature
    )
    t, s = logits(teacher, x), logits(student, x)
    expected = getattr(reference, divergence)(t, s, temperature)
    expected /= 1.0 if divergence == "mse" else temperature**2
    np.testing.assert_allclose(profile.kl, [expected.mean()], rtol=1e-5)
    alike = ((t > 0) == (s > 0)).mean() if divergence == "binary_kl" else np.nan
    np.testing.assert_allclose(profile.agreement, [alike], rtol=1e-6)


def test_profile_of_probabilities_is_that_of_the_logits():
    x = numbers(9, 4)
    with_logits, with_softmax = (
        geometry.fidelity_profile(
            curved(1, activation=end), curved(2, activation=end), x, Segment(), from_logits=not end
        )
        for end in (None, "softmax")
    )
    assert_same(with_softmax, with_logits, 1e-5)


def test_draws_depend_on_the_seed_alone():
    arguments = curved(1), curved(2), numbers(30, 4), Segment()
    first, same, other = (
        geometry.fidelity_profile(*arguments, (1.0,), seed=seed).kl for seed in (0, 0, 1)
    )
    assert first == same != other


@pytest.mark.parametrize("batch_size", [3, 30, 1000])
def test_profile_of_a_direction_without_partners_does_not_depend_on_batches(batch_size):
    class Upward(Region):
        def draw(self, inputs, seed, labels=None):
            return self.radius_variable.read_value()

        def at_fraction(self, coefficients, fraction):
            return coefficients * fraction

        def apply(self, tensor, coefficients):
            return tensor + coefficients

    arguments = curved(1), curved(2), numbers(30, 4), Upward(0.5)
    profile = geometry.fidelity_profile(*arguments, batch_size=batch_size)
    assert_same(profile, geometry.fidelity_profile(*arguments, batch_size=7))


# All kinds of data.


def test_data_sets_and_arrays_agree():
    teacher, student, x = curved(1), curved(2), numbers(20, 4)
    labels, weights = np.arange(20) % 3, np.ones(20)
    region = Segment(partner="same_class")
    expected = geometry.fidelity_profile(teacher, student, x, region, labels=labels, batch_size=6)
    for elements in ((x, labels), (x, labels, weights)):
        data = tf.data.Dataset.from_tensor_slices(elements).batch(8)
        profile = geometry.fidelity_profile(teacher, student, data, region, batch_size=6)
        assert_same(profile, expected)
    expected = geometry.jacobian_distance(teacher, student, x)
    score = geometry.teacher_stddev(teacher, x, Segment(), num_draws=3)
    for data in (
        x.tolist(),
        tf.constant(x),
        tf.data.Dataset.from_generator(
            lambda: iter([x[:7], x[7:]]), output_signature=tf.TensorSpec((None, 4))
        ),
    ):
        assert_same(geometry.jacobian_distance(teacher, student, data), expected)
        found = geometry.teacher_stddev(teacher, data, Segment(), num_draws=3)
        np.testing.assert_allclose(found, score, rtol=1e-5)
        assert geometry.top1_agreement(teacher, student, data) == geometry.top1_agreement(
            teacher, student, x
        )


@pytest.mark.parametrize("make", [list, lambda leaves: dict(zip("ab", leaves, strict=True))])
def test_several_inputs(make):
    def model(seed):
        keras.utils.set_random_seed(seed)
        inputs = [keras.Input((4,), name="a"), keras.Input((2,), name="b")]
        merged = keras.layers.Concatenate()(inputs)
        return keras.Model(make(inputs), keras.layers.Dense(3)(merged))

    teacher, student = model(1), model(2)
    x, partners = (make([numbers(9, 4, seed=s), numbers(9, 2, seed=s + 1)]) for s in (0, 5))
    slopes = [model.get_weights()[0] for model in (teacher, student)]
    distance = geometry.jacobian_distance(teacher, student, x, num_projections=None)
    expected = ((slopes[0] - slopes[1]) ** 2).sum() / (slopes[0] ** 2).sum()
    np.testing.assert_allclose(distance.relative, expected, rtol=1e-5)
    gap = geometry.linearity_gap(teacher, x, partners)
    np.testing.assert_allclose(gap.relative, np.zeros(3), atol=1e-6)
    profile = geometry.fidelity_profile(teacher, student, x, Segment(), (0.0,))
    expected = reference.kl(logits(teacher, x), logits(student, x)).mean()
    np.testing.assert_allclose(profile.kl, [expected], rtol=1e-5)
    assert geometry.teacher_stddev(teacher, x, Segment(), num_draws=3) > 0.0


def test_images_of_uint8_are_those_of_float32():
    x = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype("uint8")
    teacher, student = curved(1, (4, 4, 1)), curved(2, (4, 4, 1))
    for measure in (
        lambda x: geometry.fidelity_profile(teacher, student, x, Patch(grid=2)),
        lambda x: geometry.jacobian_distance(teacher, student, x),
        lambda x: geometry.linearity_gap(teacher, x, x[::-1]),
    ):
        assert_same(measure(x), measure(x.astype("float32")))


def test_models_in_mixed_precision():
    teacher = curved(1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    student = curved(1)
    x = numbers(20, 4)
    profile = geometry.fidelity_profile(teacher, student, x, Segment())
    assert profile.kl.dtype == np.float64 and (profile.kl < 0.05).all() and (profile.kl > 0).all()
    distance = geometry.jacobian_distance(teacher, student, x, num_projections=None)
    assert 0.0 < distance.relative < 0.05


def test_models_run_in_inference_mode_and_stay_as_they_are():
    def model(seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
        return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])

    teacher, student, x = model(1), model(2), 5.0 * numbers(9, 4)
    before = [w.copy() for m in (teacher, student) for w in m.get_weights()]
    profile = geometry.fidelity_profile(teacher, student, x, Segment(), (0.0,))
    expected = reference.kl(logits(teacher, x), logits(student, x)).mean()
    np.testing.assert_allclose(profile.kl, [expected], rtol=1e-5)
    geometry.jacobian_distance(teacher, student, x)
    after = [w for m in (teacher, student) for w in m.get_weights()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


# Linearity.


def test_a_linear_model_has_no_gap():
    gap = geometry.linearity_gap(linear(), numbers(50, 4), numbers(50, 4, seed=1), batch_size=8)
    np.testing.assert_allclose(gap.relative, np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(gap.absolute, np.zeros(3), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_gap_of_a_parabola(batch_size):
    # Of x^2 the gap is f (1 - f) (x - partner)^2, here in two coordinates.
    square = keras.Sequential([keras.Input((2,)), keras.layers.Activation(tf.square)])
    x, partners, fractions = numbers(10, 2), numbers(10, 2, seed=1), np.array([0.0, 0.2, 0.5, 1.0])
    steps = np.linalg.norm((x.astype("float64") - partners) ** 2, axis=1)
    changes = np.linalg.norm(x.astype("float64") ** 2 - partners.astype("float64") ** 2, axis=1)
    expected = (fractions * (1.0 - fractions))[:, None] * steps
    arguments = square, x, partners, fractions
    gaps = geometry.linearity_gaps(*arguments, batch_size=batch_size)
    assert_same(gaps, (expected, changes), 1e-5)
    gap = geometry.linearity_gap(*arguments, batch_size=batch_size)
    np.testing.assert_allclose(gap.absolute, expected.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gap.absolute_stderr, stderr(expected.T), rtol=1e-4, atol=1e-6)
    relative = expected.mean(axis=1) / changes.mean()
    np.testing.assert_allclose(gap.relative, relative, rtol=1e-5, atol=1e-6)
    errors = stderr(expected.T - relative * changes[:, None]) / changes.mean()
    np.testing.assert_allclose(gap.relative_stderr, errors, rtol=1e-4, atol=1e-6)


def test_partners_in_the_same_place_have_no_relative_gap():
    x = numbers(5, 4)
    gap = geometry.linearity_gap(curved(), x, x)
    np.testing.assert_allclose(gap.absolute, np.zeros(3), atol=1e-6)
    assert np.isnan(gap.relative).all()


# Jacobians.


def slope_distance(teacher, student):
    difference = teacher.get_weights()[0] - student.get_weights()[0]
    return (difference**2).sum(), (teacher.get_weights()[0] ** 2).sum()


def test_whole_jacobians_are_exact():
    teacher, student = linear(1), linear(2)
    found = geometry.jacobian_distance(teacher, student, numbers(7, 4), num_projections=None)
    distance, norm = slope_distance(teacher, student)
    expected = (distance / norm, 0.0, distance, norm, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_whole_jacobians_of_a_curved_model():
    teacher, student, x = curved(1), curved(2), tf.constant(numbers(7, 4))
    jacobians = []
    for model in (teacher, student):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x)
        jacobians.append(tape.batch_jacobian(outputs, x).numpy().astype("float64"))
    distances = ((jacobians[0] - jacobians[1]) ** 2).sum(axis=(1, 2))
    norms = (jacobians[0] ** 2).sum(axis=(1, 2))
    relative = distances.mean() / norms.mean()
    found = geometry.jacobian_distance(teacher, student, x, num_projections=None, batch_size=3)
    error = stderr(distances - relative * norms) / norms.mean()
    expected = relative, error, distances.mean(), norms.mean(), 7
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("num_projections", [1, 4])
def test_projections_are_unbiased_and_their_error_is_known(num_projections):
    teacher, student, x = linear(1), linear(2), numbers(2000, 4)
    found = geometry.jacobian_distance(
        teacher, student, x, num_projections=num_projections, batch_size=500
    )
    distance, norm = slope_distance(teacher, student)
    # All examples of a linear model have one Jacobian: the spread is that of the projections.
    slopes = [model.get_weights()[0].astype("float64") for model in (teacher, student)]
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
    above = ((signs @ (slopes[0] - slopes[1]).T) ** 2).sum(axis=1)
    below = ((signs @ slopes[0].T) ** 2).sum(axis=1)
    np.testing.assert_allclose([above.mean(), below.mean()], [distance, norm], rtol=1e-6)
    share = 1.0 / np.sqrt(2000 * num_projections)
    assert abs(found.squared_distance - distance) < 4.0 * above.std() * share
    assert abs(found.teacher_squared_norm - norm) < 4.0 * below.std() * share
    error = (above - distance / norm * below).std() / norm * share
    assert abs(found.relative - distance / norm) < 4.0 * error
    np.testing.assert_allclose(found.relative_stderr, error, rtol=0.1)


def test_projections_depend_on_the_seed_and_not_on_batches():
    arguments = curved(1), curved(2), numbers(20, 4)
    expected = geometry.jacobian_distance(*arguments)
    assert_same(geometry.jacobian_distance(*arguments, batch_size=7), expected)
    assert geometry.jacobian_distance(*arguments, seed=1).relative != expected.relative


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 4.0), (0.5, 0.25)])
def test_a_student_that_is_a_multiple_of_its_teacher(scale, expected):
    teacher, student = linear(1), linear(1)
    student.set_weights([scale * weight for weight in teacher.get_weights()])
    found = geometry.jacobian_distance(teacher, student, numbers(5, 4))
    np.testing.assert_allclose(found.relative, expected, rtol=1e-5)
    np.testing.assert_allclose(found.relative_stderr, 0.0, atol=1e-6)


def test_outputs_without_a_gradient_are_named():
    rounding = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(tf.round)])
    with pytest.raises(ValueError, match=r"`inputs`, which has no gradient"):
        geometry.jacobian_distance(rounding, rounding, numbers(5, 4))
    constant = linear()
    constant.set_weights([0.0 * weight for weight in constant.get_weights()])
    with pytest.raises(ValueError, match=r"`teacher` must depend on its inputs"):
        geometry.jacobian_distance(constant, linear(), numbers(5, 4))


# Scores.


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_decision_agreement_counts(batch_size):
    teacher, student, x = curved(1), curved(2), numbers(40, 4)
    expected = (logits(teacher, x).argmax(axis=1) == logits(student, x).argmax(axis=1)).mean()
    assert 0.0 < expected < 1.0
    assert geometry.top1_agreement(teacher, student, x, batch_size=batch_size) == expected
    softmax = curved(2, activation="softmax")
    assert geometry.top1_agreement(teacher, softmax, x) == expected


@pytest.mark.parametrize(
    ("probabilities", "labels", "num_bins", "expected"),
    [
        ([[1.0, 1e-30]] * 4, [0, 0, 0, 1], 15, 0.25),
        ([[0.5, 0.5]] * 2, [0, 1], 10, 0.0),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 1, 0.2),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 2, 0.2),
        ([[0.8, 0.2], [0.6, 0.4]], [0, 1], 10, 0.4),
        ([[0.8, 0.2], [0.3, 0.7]], [1, 1], 2, 0.25),
        ([[0.8, 0.2], [0.3, 0.7]], [1, 1], 4, 0.55),
        ([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]], [[0], [2]], 5, 0.4),
        ([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4]], [[1, 0, 0], [0, 0, 1]], 5, 0.4),
    ],
)
def test_calibration_by_hand(probabilities, labels, num_bins, expected):
    error = geometry.expected_calibration_error(np.log(probabilities), labels, num_bins)
    np.testing.assert_allclose(error, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_calibration_equals_a_loop(temperature):
    z, labels = 3.0 * numbers(500, 4), np.random.default_rng(1).integers(0, 4, 500)
    p = reference.softmax(z / temperature)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    found = geometry.expected_calibration_error(z, labels, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_stddev_equals_a_loop():
    teacher, x, region = curved(), numbers(20, 4), Segment(0.9)
    found = geometry.teacher_stddev(
        teacher, x, region, num_draws=6, num_points=15, temperature=2.0, batch_size=8, seed=4
    )
    generator = np.random.default_rng(4)
    rows = np.concatenate([generator.permutation(20) for _ in range(5)])[:90].reshape(6, 15)
    means = []
    for draw, chosen in enumerate(rows):
        z = []
        for half, part in enumerate((chosen[:8], chosen[8:])):
            batch = tf.constant(x[part])
            drawn = region.draw(batch, [4, 2 * draw + half])
            z += [logits(teacher, batch), logits(teacher, region.apply(batch, drawn))]
        means.append(reference.softmax(np.concatenate(z) / 2.0).mean(axis=0))
    np.testing.assert_allclose(found, np.std(means, axis=0, ddof=1).mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("region", "independent_points"), [(Ball(1e-6), 50), (Ball(1e4, "linf"), 100)]
)
def test_stddev_is_lower_where_region_points_add_something(region, independent_points):
    # Probabilities are 0 or 1: their mean is a binomial share. Far noise is a fresh draw.
    teacher = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    teacher.set_weights([np.float32([[50.0, -50.0]])])
    x = np.sign(numbers(100000, 1))
    score = geometry.teacher_stddev(teacher, x, region, num_points=50, num_draws=500, batch_size=50)
    np.testing.assert_allclose(score, 0.5 / np.sqrt(independent_points), rtol=0.1)


def test_draws_of_all_examples_leave_the_randomness_of_the_region():
    arguments = dict(num_draws=4, num_points=40)
    teacher, x = curved(), numbers(20, 4)
    assert geometry.teacher_stddev(teacher, x, Ball(1e-9), **arguments) < 1e-6
    assert geometry.teacher_stddev(teacher, x, Ball(1.0), **arguments) > 1e-3


# Wrong use.


def profile(**changes):
    arguments = {
        "teacher": linear(1),
        "student": linear(2),
        "x": numbers(6, 4),
        "region": Segment(),
    } | changes
    return geometry.fidelity_profile(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "resnet"}, r"`teacher` must be a keras.Model.*'resnet'"),
        ({"student": keras.Sequential()}, r"`student` must be a keras.Model that has been built"),
        ({"student": linear(outputs=5)}, r"must have the same number of outputs"),
        ({"student": curved(activation="softmax")}, r"`student` must give logits"),
        ({"region": "patch"}, r"`region` must be.*'patch'"),
        ({"fractions": (0.5, 1.5)}, r"`fractions` must be numbers from 0 to 1.*1.5"),
        ({"fractions": ()}, r"`fractions` must be"),
        ({"fractions": None}, r"`fractions` must be"),
        ({"student": subclassed(1), "teacher": subclassed(1)}, r"`teacher` must have two outputs"),
        ({"student": subclassed(2)}, r"same number of outputs.*\(None, 3\).*\(None, 2\)"),
        ({"temperature": 0}, r"`temperature` must be a positive number.*temperature=0"),
        ({"divergence": "js"}, r"`divergence` must be one of.*'js'"),
        ({"batch_size": 0}, r"`batch_size` must be.*batch_size=0"),
        ({"seed": -1}, r"`seed` must be an integer"),
        ({"x": numbers(0, 4)}, r"`x` must be arrays"),
        ({"x": 3.0}, r"`x` must be arrays"),
        ({"labels": np.zeros(5)}, r"one length.*\(6, 4\).*\(5,\)"),
        ({"x": tf.data.Dataset.from_tensors(numbers(6, 4)).repeat()}, r"`x` must end"),
        ({"x": tf.data.Dataset.from_tensors(1.0)}, r"`x` must be a data set of batches"),
        ({"x": tf.data.Dataset.from_tensors(numbers(6, 4)).take(0)}, r"at least one example"),
        (
            {"x": tf.data.Dataset.from_tensors(numbers(6, 4)), "labels": np.zeros(6)},
            r"`labels` must be part of the data set",
        ),
        ({"x": np.zeros((6, 4), "int32")}, r"`inputs` must be floating-point"),
        ({"region": Segment(partner="same_class")}, r"needs labels"),
    ],
)
def test_wrong_arguments_of_a_profile(changes, message):
    with pytest.raises(ValueError, match=message):
        profile(**changes)


def test_a_region_without_an_edge_is_refused():
    class Own(Region):
        def draw(self, inputs, seed, labels=None):
            return self.radius_variable.read_value()

        def apply(self, tensor, coefficients):
            return tensor * coefficients

    with pytest.raises(NotImplementedError, match="Own must implement `at_fraction"):
        profile(region=Own())


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (
            lambda model, x: geometry.linearity_gap(model, x, x[:3]),
            r"`partners` must have the shape of `x`.*\(3, 4\).*\(6, 4\)",
        ),
        (
            lambda model, x: geometry.linearity_gap(model, x.astype("int32"), x),
            r"`x` and `partners` must be floating-point.*int32",
        ),
        (
            lambda model, x: geometry.linearity_gap(model, tf.data.Dataset.from_tensors(x), x),
            r"must be arrays, so that they stay paired",
        ),
        (
            lambda model, x: geometry.linearity_gap(None, x, x),
            r"`model` must be a keras.Model",
        ),
        (
            lambda model, x: geometry.jacobian_distance(model, model, x, num_projections=0),
            r"`num_projections` must be.*num_projections=0",
        ),
        (
            lambda model, x: geometry.top1_agreement(model, linear(outputs=5), x),
            r"must have the same number of outputs.*3.*5",
        ),
        (
            lambda model, x: geometry.jacobian_distance(model, subclassed(5), x),
            r"`teacher` and `student` must have the same number of outputs.*3.*5",
        ),
        (
            lambda model, x: geometry.top1_agreement(subclassed(1), subclassed(1), x),
            r"`teacher` and `student` must have two outputs or more.*\(None, 1\)",
        ),
        (
            lambda model, x: geometry.top1_agreement(linear(outputs=1), linear(outputs=1), x),
            r"`teacher` and `student` must have two outputs or more.*\(None, 1\)",
        ),
        (
            lambda model, x: geometry.teacher_stddev(subclassed(1), x, Segment()),
            r"`teacher` must have two outputs or more.*\(None, 1\)",
        ),
        (
            lambda model, x: geometry.teacher_stddev(model, x, Segment(), batch_size=0),
            r"`batch_size` must be.*batch_size=0",
        ),
        (
            lambda model, x: geometry.teacher_stddev(model, x, None),
            r"`region` must be.*None",
        ),
        (
            lambda model, x: geometry.teacher_stddev(model, x, Segment(), num_draws=1),
            r"`num_draws` must be an integer of at least 2",
        ),
        (
            lambda model, x: geometry.teacher_stddev(model, x, Segment(), num_points=0),
            r"`num_points` must be an integer of at least 1",
        ),
        (
            lambda model, x: geometry.teacher_stddev(curved(activation="softmax"), x, Segment()),
            r"`teacher` must give logits",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, [0]),
            r"`logits` must have shape.*\(6, 4\).*\(1,\)",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, 0),
            r"`logits` must have shape.*with one label for each",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x[:, :1], np.zeros(6)),
            r"`logits` must have shape.*two classes or more.*\(6, 1\)",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, [0, 1, 2, 3, 4, 0]),
            r"`labels` must be class numbers from 0 to 3.*\[4\]",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, [0, 1, 2, 3, np.nan, 0]),
            r"`labels` must be class numbers from 0 to 3",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, np.eye(6)),
            r"`labels` must be class numbers, or one-hot of shape \(6, 4\).*\(6, 6\)",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x * np.nan, np.zeros(6)),
            r"`logits` must be finite",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, np.zeros(6), 0),
            r"`num_bins` must be.*num_bins=0",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, np.zeros(6), temperature=-1),
            r"`temperature` must be",
        ),
    ],
)
def test_wrong_arguments_of_other_measures(measure, message):
    with pytest.raises(ValueError, match=message):
        measure(linear(), numbers(6, 4))
