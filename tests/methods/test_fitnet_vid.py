"""FitNet and variational information distillation, which train parts of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf.methods import fitnet_vid
from tests.references import maps as reference_maps
from tests.references.maps import random_features

FITNET_SHAPES = {
    "same": ((3, 4, 4, 5), (3, 4, 4, 5)),
    "channels": ((3, 3, 4, 5), (3, 3, 4, 2)),
    "sizes": ((3, 6, 3, 4), (3, 4, 5, 4)),
    "both": ((3, 5, 5, 2), (3, 3, 4, 6)),
    "hidden states": ((3, 4, 5), (3, 4, 2)),
    "hidden states of other lengths": ((3, 7, 4), (3, 5, 3)),
    "volumes": ((3, 2, 3, 2, 2), (3, 3, 2, 2, 4)),
    "vectors": ((3, 5), (3, 5)),
    "vectors of other lengths": ((3, 5), (3, 8)),
}
VARIATIONAL_SHAPES = {
    "same": ([(3, 4, 4, 5)], [(3, 4, 4, 5)]),
    "both": ([(3, 5, 5, 2)], [(3, 3, 4, 6)]),
    "hidden states": ([(3, 5, 4)], [(3, 3, 2)]),
    "vectors": ([(3, 5)], [(3, 8)]),
    "several": ([(3, 6, 6, 3), (3, 4)], [(3, 4, 4, 2), (3, 3)]),
}
WEIGHTS = np.array([0.5, -2.0, 1.5])
EPSILON = 0.01


def fitnet(case):
    """A method with random parts, its features and its reference, a function of all of these."""
    shapes = FITNET_SHAPES[case]
    method = fitnet_vid.FitNet("t", "s")
    method.build(*shapes)
    randomize(method)

    def expected(teacher, student, *parts):
        return reference_maps.fitnet(teacher[0], student[0], *parts)

    return method, [random_features([shape], s) for s, shape in enumerate(shapes)], expected


def variational(case):
    teacher_shapes, student_shapes = VARIATIONAL_SHAPES[case]
    several = len(teacher_shapes) > 1
    names = ["a", "b"][: len(teacher_shapes)]
    method = fitnet_vid.VID(names, names, init_variance=0.7, epsilon=EPSILON)
    method.build(*((s if several else s[0]) for s in (teacher_shapes, student_shapes)))
    randomize(method)

    def expected(teacher, student, *parts):
        parts, kernels, alphas = list(parts), [], []
        for layer in teacher:
            alphas.append(parts.pop(0))
            kernels.append([parts.pop(0) for _ in range(3 if layer.ndim > 2 else 1)])
        return reference_maps.variational_information(teacher, student, kernels, alphas, EPSILON)

    return method, [random_features(teacher_shapes), random_features(student_shapes, 1)], expected


def randomize(method):
    generator = np.random.default_rng(5)
    for weight in method.trainable_weights:
        weight.assign(generator.normal(size=weight.shape))


def unpacked(features):
    """As a distiller gives them: the tensor of one layer, the list of those of several."""
    return features[0] if len(features) == 1 else features


CASES = [(fitnet, case) for case in FITNET_SHAPES]
CASES += [(variational, case) for case in VARIATIONAL_SHAPES]
each_case = pytest.mark.parametrize(("make", "case"), CASES)


def value_and_gradients(method, teacher, student, weights=1.0):
    """Values, and gradients with respect to the student's features and the parts."""
    student = [tf.convert_to_tensor(layer) for layer in student]
    sources = [*student, *(weight.value for weight in method.trainable_weights)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        values = method.values(unpacked(teacher), unpacked(student))
        total = tf.reduce_sum(values * weights)
    return values, tape.gradient(total, sources)


@each_case
def test_values_equal_the_float64_reference(make, case):
    method, (teacher, student), expected = make(case)
    values = method.values(unpacked(teacher), unpacked(student))
    assert values.dtype == tf.float32
    parts = [weight.numpy() for weight in method.trainable_weights]
    np.testing.assert_allclose(values, expected(teacher, student, *parts), rtol=1e-5)


@pytest.mark.covering
@each_case
def test_gradients_of_student_and_method_equal_finite_differences(make, case):
    method, (teacher, student), expected = make(case)
    sources = [*student, *(weight.numpy() for weight in method.trainable_weights)]
    _, gradients = value_and_gradients(method, teacher, student, WEIGHTS)
    for number, gradient in enumerate(gradients):

        def loss(array, number=number):
            moved = [*sources[:number], array, *sources[number + 1 :]]
            moved_student, parts = moved[: len(student)], moved[len(student) :]
            return (WEIGHTS * expected(teacher, moved_student, *parts)).sum()

        difference = reference_maps.finite_difference(loss, sources[number])
        np.testing.assert_allclose(gradient, difference, rtol=1e-4, atol=1e-5)


@pytest.mark.covering
@pytest.mark.parametrize("jit_compile", [False, True])
@each_case
def test_graph_of_unknown_batch_size_equals_eager(make, case, jit_compile):
    method, features, _ = make(case)
    signature = [
        [tf.TensorSpec((None, *layer.shape[1:]), tf.float32) for layer in of_model]
        for of_model in features
    ]

    def both(teacher, student):
        return value_and_gradients(method, teacher, student)

    compiled = tf.function(both, input_signature=signature, jit_compile=jit_compile)
    for one, other in zip(
        *map(tf.nest.flatten, (compiled(*features), both(*features))), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@each_case
def test_each_example_has_its_own_value(make, case):
    method, features, _ = make(case)
    values = method.values(*map(unpacked, features)).numpy()
    reordered = [[layer[[2, 0, 1]] for layer in of_model] for of_model in features]
    np.testing.assert_allclose(
        method.values(*map(unpacked, reordered)), values[[2, 0, 1]], rtol=1e-6
    )


@pytest.mark.covering
@pytest.mark.parametrize("kind", ["zero", "one", "empty"])
@each_case
def test_degenerate_features_have_finite_values_and_gradients(make, case, kind):
    method, features, _ = make(case)
    size = {"zero": 3, "one": 1, "empty": 0}[kind]
    teacher, student = (
        [layer[:size] * (kind != "zero") for layer in of_model] for of_model in features
    )
    values, gradients = value_and_gradients(method, teacher, student)
    assert values.shape == (size,)
    assert all(np.isfinite(array).all() for array in (values, *gradients))


@pytest.mark.parametrize("case", ["same", "vectors"])
def test_hint_is_zero_where_student_equals_teacher(case):
    method, (teacher, _), _ = fitnet(case)
    values, (gradient,) = value_and_gradients(method, teacher, teacher)
    np.testing.assert_array_equal(values, np.zeros(3))
    np.testing.assert_array_equal(gradient, np.zeros(teacher[0].shape))


@pytest.mark.parametrize("case", FITNET_SHAPES)
def test_projector_is_made_where_channels_differ(case):
    method, (teacher, student), _ = fitnet(case)
    channels = teacher[0].shape[-1], student[0].shape[-1]
    shapes = [tuple(weight.shape) for weight in method.trainable_weights]
    assert shapes == ([] if channels[0] == channels[1] else [channels[::-1], channels[:1]])


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3, 4)])
@pytest.mark.parametrize(("variance", "epsilon"), [(5.0, 1e-5), (1e-3, 1e-5), (200.0, 1.0)])
def test_variance_starts_at_init_variance(shape, variance, epsilon):
    method = fitnet_vid.VID("a", "b", init_variance=variance, epsilon=epsilon)
    # Without student features, the mean is 0.
    values = method.values(tf.ones(shape), tf.zeros(shape))
    np.testing.assert_allclose(values, [0.5 * (1 / variance + np.log(variance))] * 2, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("make", [fitnet, variational])
def test_weights_of_methods_stay_float32_in_mixed_precision(make, policy):
    keras.config.set_dtype_policy(policy)
    method, features, expected = make("both")
    assert {weight.dtype for weight in method.trainable_weights} == {"float32"}
    parts = [weight.numpy() for weight in method.trainable_weights]
    np.testing.assert_allclose(
        method.values(*map(unpacked, features)), expected(*features, *parts), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("method", "config"),
    [
        (fitnet_vid.FitNet("a", "b"), {"teacher_layer_name": "a", "student_layer_name": "b"}),
        (fitnet_vid.FitNet(), {"teacher_layer_name": None, "student_layer_name": None}),
        (
            fitnet_vid.VID(["a", "b"], ["c", "d"], init_variance=2, epsilon=1e-3),
            {
                "teacher_layer_names": ["a", "b"],
                "student_layer_names": ["c", "d"],
                "init_variance": 2.0,
                "epsilon": 1e-3,
            },
        ),
    ],
)
def test_serialization_keeps_the_arguments(method, config):
    saved = keras.saving.serialize_keras_object(method)
    loaded = keras.saving.deserialize_keras_object(saved)
    assert type(loaded) is type(method)
    assert loaded.get_config() == method.get_config() == config
    assert loaded.teacher_layers == method.teacher_layers


def test_default_weights():
    assert fitnet_vid.FitNet.default_weight == 100.0
    assert fitnet_vid.VID.default_weight == 1.0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"init_variance": 0.0}, "init_variance"),
        ({"init_variance": "5"}, "init_variance"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": None}, "epsilon"),
        ({"init_variance": 1e-3, "epsilon": 1e-2}, "init_variance"),
        ({"init_variance": float("inf")}, "init_variance"),
    ],
)
def test_wrong_variances_are_refused(arguments, named):
    with pytest.raises(ValueError, match=rf"^`{named}` must be.*Received: {named}="):
        fitnet_vid.VID(**arguments)


@pytest.mark.parametrize(
    ("teacher_shape", "student_shape"),
    [
        ((2, 4, 4, 3), (2, 3)),
        ((2, 5, 3), (2, 3)),
        ((2, 5, 3), (2, 4, 4, 3)),
        ((None, 4, 4, None), (None, 4, 4, 3)),
    ],
)
@pytest.mark.parametrize("method", [fitnet_vid.FitNet, fitnet_vid.VID])
def test_features_that_do_not_fit_are_refused(method, teacher_shape, student_shape):
    with pytest.raises(
        ValueError, match="both be maps.*both hidden states.*or both vectors"
    ) as error:
        method("a", "b").build(teacher_shape, student_shape)
    assert str(teacher_shape) in str(error.value)


@pytest.mark.parametrize("method", [fitnet_vid.FitNet, fitnet_vid.VID])
def test_maps_of_unknown_size_are_refused(method):
    signature = [tf.TensorSpec((None, None, None, 3))] * 2
    compiled = tf.function(method("a", "b").values, input_signature=signature)
    with pytest.raises(ValueError, match="known height and width"):
        compiled.get_concrete_function()


# In `keras.distillation.Distiller`.


def convolutional(channels, size=8, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(channels, 3, 8 // size, padding="same", name="block1")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu")(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def keras_distiller(method_class, **arguments):
    teacher, student = convolutional(6), convolutional(4, size=4, seed=1)
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        [method_class("block1", "block1", **arguments)],
        distillation_loss_weights=[2.0],
        student_loss_weight=0.25,
    )
    return distiller


@pytest.mark.parametrize("method_class", [fitnet_vid.FitNet, fitnet_vid.VID])
def test_keras_distiller_trains_student_and_method(method_class):
    distiller = keras_distiller(method_class)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss)
    (method,), student = distiller.distillation_losses, distiller.student
    x, y = random_features([(6, 8, 8, 2)])[0], np.arange(6) % 3
    of_teacher, of_student = (
        keras.Model(model.input, model.get_layer("block1").output)
        for model in (distiller.teacher, student)
    )
    with tf.GradientTape() as tape:
        values = method.values(of_teacher(x), of_student(x))
        total = 0.25 * loss(y, student(x)) + 0.75 * 2.0 * tf.reduce_mean(values)
    weights = [*student.trainable_weights, *method.trainable_weights]
    assert {id(w) for w in weights} == {id(w) for w in distiller.trainable_weights}
    gradients = tape.gradient(total, [weight.value for weight in weights])
    expected = [w.numpy() - 0.1 * g.numpy() for w, g in zip(weights, gradients, strict=True)]
    assert len(student.weights) == 4 and all(np.abs(g).max() > 0 for g in gradients)
    history = distiller.fit(x, y, batch_size=6, epochs=1, verbose=0).history
    np.testing.assert_allclose(
        history["distillation_loss"], [2.0 * tf.reduce_mean(values)], rtol=1e-5
    )
    for weight, after in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.numpy(), after, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method_class", "arguments"),
    [(fitnet_vid.FitNet, {}), (fitnet_vid.VID, {"init_variance": 2.0})],
)
def test_saved_distiller_keeps_weights_of_methods(method_class, arguments, tmp_path):
    distiller = keras_distiller(method_class, **arguments)
    (method,) = distiller.distillation_losses
    randomize(method)
    distiller(np.zeros((1, 8, 8, 2), "float32"))
    distiller.save(tmp_path / "distiller.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "distiller.keras").distillation_losses
    assert loaded.get_config() == method.get_config()
    for one, other in zip(loaded.weights, method.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
