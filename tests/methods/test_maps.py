"""Attention transfer, neuron selectivity transfer, FSP matrices, and the pooling they share."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf.methods import maps
from l2rkd_tf.methods.pooling import match_sizes
from tests.references import maps as reference_maps
from tests.references.maps import random_features

ONE_SIZE = [(3, 4, 4, 5)], [(3, 4, 4, 5)]
OTHER_CHANNELS = [(3, 3, 4, 5)], [(3, 3, 4, 2)]
OTHER_SIZES = [(3, 7, 3, 4)], [(3, 4, 5, 6)]
TWO_LAYERS = [(2, 6, 6, 3), (2, 3, 3, 8)], [(2, 4, 4, 2), (2, 4, 4, 5)]
MORE_PLACES = [(2, 5, 4, 3)], [(2, 5, 4, 4)]
MORE_CHANNELS = [(2, 2, 2, 5)], [(2, 2, 2, 6)]
FLOW = [(2, 4, 4, 3), (2, 4, 4, 2)], [(2, 4, 4, 3), (2, 4, 4, 2)]
STATES = [(3, 5, 4)], [(3, 5, 6)]
FEWER_POSITIONS = [(3, 7, 4), (3, 5, 2)], [(3, 3, 3), (3, 4, 2)]
VOLUMES = [(2, 3, 4, 3, 2)], [(2, 2, 3, 4, 3)]
FLOW_OF_STATES = [(2, 6, 3), (2, 4, 2)], [(2, 5, 3), (2, 5, 2)]
FLOW_OTHER_SIZES = (
    [(2, 6, 5, 3), (2, 3, 6, 2), (2, 2, 2, 4)],
    [
        (2, 5, 5, 3),
        (2, 2, 3, 2),
        (2, 1, 1, 4),
    ],
)

METHODS = {
    "attention_1": lambda: maps.AttentionTransfer("t", "s", power=1),
    "attention_2": lambda: maps.AttentionTransfer("t", "s"),
    "attention_4": lambda: maps.AttentionTransfer("t", "s", power=4.0),
    "selectivity": lambda: maps.NeuronSelectivityTransfer("t", "s"),
    "flow": lambda: maps.FSP(["t", "u"], ["s", "v"]),
}
REFERENCES = {
    "attention_1": functools.partial(reference_maps.attention_transfer, power=1.0),
    "attention_2": reference_maps.attention_transfer,
    "attention_4": functools.partial(reference_maps.attention_transfer, power=4.0),
    "selectivity": reference_maps.neuron_selectivity,
    "flow": reference_maps.flow_of_solution,
}
SHAPES = {
    "attention_1": [OTHER_CHANNELS],
    "attention_2": [
        STATES, FEWER_POSITIONS, VOLUMES, ONE_SIZE, OTHER_CHANNELS, OTHER_SIZES, TWO_LAYERS
    ],
    "attention_4": [OTHER_SIZES],
    "selectivity": [
        STATES, FEWER_POSITIONS, ONE_SIZE, OTHER_CHANNELS, OTHER_SIZES, TWO_LAYERS, MORE_PLACES,
        MORE_CHANNELS,
    ],
    "flow": [FLOW, FLOW_OF_STATES, FLOW_OTHER_SIZES],
}  # fmt: skip
CASES = [(name, *shapes) for name in METHODS for shapes in SHAPES[name]]
NAMES = sorted(METHODS)
WEIGHTS = np.array([0.5, -2.0, 1.5])
each_method = pytest.mark.parametrize("name", NAMES)
each_case = pytest.mark.parametrize(("name", "teacher_shapes", "student_shapes"), CASES)


def features_of(name):
    teacher_shapes, student_shapes = SHAPES[name][-1]
    return random_features(teacher_shapes), random_features(student_shapes, seed=1)


def value_and_gradient(method, teacher, student, weights=1.0):
    student = [tf.convert_to_tensor(layer) for layer in student]
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = method.per_example(teacher, student)
        total = tf.reduce_sum(values * weights)
    return values, tape.gradient(total, student)


@each_case
def test_values_equal_the_float64_reference(name, teacher_shapes, student_shapes):
    teacher, student = random_features(teacher_shapes), random_features(student_shapes, seed=1)
    values = METHODS[name]().per_example(teacher, student)
    assert values.dtype == tf.float32
    np.testing.assert_allclose(values, REFERENCES[name](teacher, student), rtol=1e-5, atol=1e-6)


@pytest.mark.covering
@each_case
def test_gradients_equal_finite_differences(name, teacher_shapes, student_shapes):
    teacher, student = random_features(teacher_shapes), random_features(student_shapes, seed=1)
    weights = WEIGHTS[: len(student[0])]
    _, gradients = value_and_gradient(METHODS[name](), teacher, student, weights)
    for number, gradient in enumerate(gradients):

        def loss(layer, number=number):
            moved = [*student[:number], layer, *student[number + 1 :]]
            return (weights * REFERENCES[name](teacher, moved)).sum()

        expected = reference_maps.finite_difference(loss, student[number])
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@each_method
def test_zero_with_zero_gradient_where_student_equals_teacher(name):
    teacher, _ = features_of(name)
    values, gradients = value_and_gradient(METHODS[name](), teacher, teacher)
    np.testing.assert_allclose(values, np.zeros(len(teacher[0])), atol=1e-6)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, np.zeros(gradient.shape), atol=1e-6)


@each_method
def test_each_example_has_its_own_value(name):
    teacher, student = features_of(name)
    order = np.arange(len(teacher[0]))[::-1]
    values = METHODS[name]().per_example(teacher, student).numpy()
    reordered = METHODS[name]().per_example(*[[f[order] for f in m] for m in (teacher, student)])
    np.testing.assert_allclose(reordered, values[order], rtol=1e-6)


@pytest.mark.covering
@pytest.mark.parametrize("jit_compile", [False, True])
@each_case
def test_graph_of_unknown_batch_size_equals_eager(
    name, teacher_shapes, student_shapes, jit_compile
):
    teacher, student = random_features(teacher_shapes), random_features(student_shapes, seed=1)
    signature = [
        [tf.TensorSpec((None, *layer.shape[1:]), tf.float32) for layer in of_model]
        for of_model in (teacher, student)
    ]
    compiled = tf.function(
        functools.partial(value_and_gradient, METHODS[name]()),
        input_signature=signature,
        jit_compile=jit_compile,
    )
    actual, expected = (f(teacher, student) for f in (compiled, compiled.python_function))
    for one, other in zip(*map(tf.nest.flatten, (actual, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


DEGENERATE = {
    "zero": lambda layer: 0.0 * layer,
    "constant": np.ones_like,
    "one channel of zeros": lambda layer: layer * (np.arange(layer.shape[-1]) > 0),
    "one example of zeros": lambda layer: layer * (np.arange(len(layer)) > 0)[:, None, None, None],
    "tiny": lambda layer: 1e-30 * layer,
    "large": lambda layer: 1e8 * layer,
    "batch of one": lambda layer: layer[:1],
    "empty batch": lambda layer: layer[:0],
}


@pytest.mark.covering
@pytest.mark.parametrize("kind", DEGENERATE)
@each_method
def test_degenerate_features_have_finite_values_and_gradients(name, kind):
    teacher, student = (
        [DEGENERATE[kind](layer).astype("float32") for layer in of_model]
        for of_model in features_of(name)
    )
    batch = len(student[0])
    ordinary_teacher = [layer[:batch] for layer in features_of(name)[0]]
    for pair in ((teacher, student), (teacher, teacher), (ordinary_teacher, student)):
        values, gradients = value_and_gradient(METHODS[name](), *pair)
        assert values.shape == (batch,)
        assert np.isfinite(values).all()
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("scale", [1e-10, 0.3, 1e12])
@pytest.mark.parametrize("name", ["attention_1", "attention_2", "attention_4", "selectivity"])
def test_neither_scale_nor_order_of_channels_matters(name, scale):
    teacher, student = features_of(name)
    values = METHODS[name]().per_example(teacher, student)
    changed = [np.float32(scale) * layer[..., ::-1] for layer in student]
    np.testing.assert_allclose(
        METHODS[name]().per_example(teacher, changed), values, rtol=1e-5, atol=1e-7
    )


def test_factors_of_single_channels_do_not_change_their_selectivity():
    teacher, student = features_of("selectivity")
    factors = np.float32([3.0, -1.0, 0.01, -20.0, 1.0, 7.0])
    method = METHODS["selectivity"]()
    np.testing.assert_allclose(
        method.per_example(teacher, [student[0] * factors]),
        method.per_example(teacher, student),
        rtol=1e-5,
    )


def test_flow_forgets_the_order_of_places():
    teacher, student = (random_features(shapes, seed) for seed, shapes in enumerate(FLOW))
    method = METHODS["flow"]()
    np.testing.assert_allclose(
        method.per_example(teacher, [layer[:, ::-1, ::-1] for layer in student]),
        method.per_example(teacher, student),
        rtol=1e-5,
    )


@each_method
def test_compute_loss_is_the_mean_in_float32(name):
    teacher, student = features_of(name)
    half = [[tf.cast(layer, tf.float16) for layer in of_model] for of_model in (teacher, student)]
    exact = [[layer.numpy().astype("float32") for layer in of_model] for of_model in half]
    loss = METHODS[name]().compute_loss(*half)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, REFERENCES[name](*exact).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "config"),
    [
        (
            maps.AttentionTransfer(["a", "b"], ["c", "d"], power=3),
            {
                "teacher_layer_names": ["a", "b"],
                "student_layer_names": ["c", "d"],
                "power": 3.0,
            },
        ),
        (
            maps.NeuronSelectivityTransfer("a", "b"),
            {"teacher_layer_names": ["a"], "student_layer_names": ["b"]},
        ),
        (
            maps.FSP(),
            {"teacher_layer_names": None, "student_layer_names": None},
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
    assert maps.AttentionTransfer.default_weight == 1000.0
    assert maps.NeuronSelectivityTransfer.default_weight == 50.0
    assert maps.FSP.default_weight == 1.0


@pytest.mark.parametrize("power", [0, 0.5, -2, "2", None, True, float("nan"), float("inf")])
def test_wrong_power_is_refused(power):
    with pytest.raises(ValueError, match="`power`.*at least 1.*Received: power="):
        maps.AttentionTransfer(power=power)


@pytest.mark.parametrize(
    ("teacher", "student"), [("t", "s"), (["t"], ["s"]), (["t", "u"], ["s"]), ("t", None)]
)
def test_flow_of_less_than_two_layers_is_refused(teacher, student):
    with pytest.raises(ValueError, match="`teacher_layer_names` and `student_layer_names` must"):
        maps.FSP(teacher, student)


def convolutional(blocks, channels=4, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 2))
    x = inputs
    for block in range(blocks):
        x = layers.Conv2D(channels, 3, 2, padding="same", name=f"block{block + 1}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def test_flow_refuses_models_in_which_one_layer_is_found():
    method = maps.FSP()
    with pytest.raises(ValueError, match=r"at least two layers.*Received: \['block1'\]"):
        method.validate_model_compatibility(convolutional(1), convolutional(1))
    method.validate_model_compatibility(convolutional(3), convolutional(2))
    assert method.teacher_layers == method.student_layers == ("block1", "block2")


def test_flow_refuses_features_of_one_layer():
    with pytest.raises(ValueError, match="at least two layers"):
        METHODS["flow"]().per_example(tf.zeros((2, 4, 4, 3)), tf.zeros((2, 4, 4, 3)))


def test_flow_refuses_other_numbers_of_channels():
    teacher, student = [random_features(shapes) for shapes in (FLOW[0], TWO_LAYERS[1])]
    with pytest.raises(ValueError, match=r"same numbers of channels.*\(3, 2\).*\(2, 5\)"):
        METHODS["flow"]().per_example(teacher, student)


@pytest.mark.parametrize("shape", [(2, 5), (2, 4, 5), (2, 3, 4, 4, 5), (2, None, 4, 5)])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "flow"])
def test_features_that_are_no_maps_of_known_size_are_refused(name, shape):
    teacher, student = features_of(name)
    signature = [
        [tf.TensorSpec(shape)] * len(teacher),
        [tf.TensorSpec(layer.shape) for layer in student],
    ]
    compiled = tf.function(METHODS[name]().per_example, input_signature=signature)
    with pytest.raises(ValueError, match=r"maps of shape \(batch, height, width, channels\)"):
        compiled.get_concrete_function()


@pytest.mark.parametrize("shape", [(2, 5), (2, None, 4, 5)])
def test_flow_refuses_features_without_known_positions(shape):
    features = [tf.TensorSpec(shape)] * 2
    compiled = tf.function(METHODS["flow"]().per_example, input_signature=[features, features])
    with pytest.raises(ValueError, match=r"both hidden states of shape \(batch, positions"):
        compiled.get_concrete_function()


# Pooling.


@pytest.mark.parametrize(
    ("sizes", "other_sizes"),
    [((8, 8), (4, 4)), ((7, 5), (3, 2)), ((4, 9), (6, 2)), ((3, 3), (3, 3)), ((5, 1), (1, 6)),
     ((7,), (3,)), ((2, 5, 4), (3, 2, 4))],
)  # fmt: skip
def test_match_sizes_averages_blocks(sizes, other_sizes):
    teacher, student = random_features([(2, *sizes, 3), (2, *other_sizes, 2)])
    matched = match_sizes(teacher, student)
    expected = reference_maps.pool_both(teacher, student)
    for one, other in zip(matched, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_match_sizes_leaves_maps_of_one_size_unchanged():
    teacher, student = random_features([(2, 4, 3, 3), (2, 4, 3, 2)])
    for one, other in zip(match_sizes(teacher, student), (teacher, student), strict=True):
        np.testing.assert_array_equal(one, other)


UNKNOWN = ["attention_2", "selectivity", "flow"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_hidden_states_of_unknown_length_are_those_of_known_length(name):
    shapes = FLOW_OF_STATES if name == "flow" else STATES
    teacher, student = ([layer[:, :4] for layer in random_features(of, 3)] for of in shapes)
    signature = [
        [tf.TensorSpec((None, None, layer.shape[-1])) for layer in of_model]
        for of_model in (teacher, student)
    ]
    method = METHODS[name]()
    compiled = tf.function(method.per_example, input_signature=signature)
    np.testing.assert_allclose(
        compiled(teacher, student), method.per_example(teacher, student), rtol=1e-5
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="equal lengths"):
        compiled(teacher, [*student[:-1], student[-1][:, :1]])


# In `keras.distillation.Distiller`.


def test_attention_transfer_in_keras_distiller():
    teacher, student = convolutional(2, channels=6), convolutional(2, seed=1)
    method = maps.AttentionTransfer("block2", "block2")
    distiller = keras.distillation.Distiller(
        teacher, student, [method], distillation_loss_weights=[30.0], student_loss_weight=0.25
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.1), loss)
    x, y = random_features([(6, 8, 8, 2)])[0], np.arange(6) % 3
    of_teacher, of_student = (
        keras.Model(model.input, model.get_layer("block2").output) for model in (teacher, student)
    )
    with tf.GradientTape() as tape:
        distance = tf.reduce_mean(method.values(of_teacher(x), of_student(x)))
        total = 0.25 * loss(y, student(x)) + 0.75 * 30.0 * distance
    kernel = student.get_layer("block1").kernel
    expected = kernel.numpy() - 0.1 * tape.gradient(total, kernel.value).numpy()
    history = distiller.fit(x, y, batch_size=6, epochs=1, verbose=0).history
    np.testing.assert_allclose(history["distillation_loss"], [30.0 * distance], rtol=1e-5)
    np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-4, atol=1e-6)
