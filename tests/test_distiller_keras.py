"""`L2RKDDistiller` as a plain Keras model: fit, evaluate, callbacks, inputs, losses, methods."""

import csv
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.distillation import FeatureDistillation, LogitsDistillation
from sklearn.datasets import load_breast_cancer

from l2rkd_tf import L2RKDDistiller, regions
from l2rkd_tf.distiller.batch import draw_batch
from tests import reference_losses as reference
from tests.test_distiller import (
    BATCH,
    CLASSES,
    WEIGHTS,
    Injected,
    assert_equal_weights,
    convnet,
    cross_entropy,
    images,
    linear,
    partner_draw,
    random_weights,
)

HARD_ONLY = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}
REGION_POINTS = [{}, {"num_region_points": 3}, {"replace_fraction": 0.4}]
FEATURES = 4


def table(count=13):
    rng = np.random.default_rng(2)
    return rng.normal(size=(count, FEATURES)).astype("float32"), rng.integers(0, CLASSES, count)


def example_weights(count=13):
    return np.random.default_rng(3).uniform(0.5, 2.0, count).astype("float32")


def network(seed, hidden=5, activation=None, inner=(), **hidden_options):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            layers.Dense(hidden, activation="relu", name="hidden", **hidden_options),
            *inner,
            layers.Dense(CLASSES, activation=activation),
        ]
    )


def linear_pair(shape=(FEATURES,), outputs=CLASSES, seed=6):
    rng = np.random.default_rng(seed)
    return [linear(shape, random_weights(rng, shape, outputs)) for _ in range(2)]


def copies(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def outputs_of(model, x):
    """Outputs of a linear model in float64."""
    kernel, bias = (np.asarray(w, np.float64) for w in model.get_weights())
    return x.reshape(len(x), -1).astype(np.float64) @ kernel + bias


def compiled(distiller, rate=0.5, **options):
    """Compiled to run eagerly, which small tests do faster than they trace."""
    options = {"run_eagerly": True, **options}
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy(), **options)
    return distiller


def fit_once(distiller, x, y, **options):
    return distiller.fit(x, y, batch_size=5, shuffle=False, verbose=0, **options).history


# What is logged.


@pytest.mark.parametrize(
    ("arguments", "weighted"), [({}, False), *((arguments, True) for arguments in REGION_POINTS)]
)
def test_loss_is_the_weighted_sum_of_its_terms_over_uneven_batches(arguments, weighted):
    x, y = table()
    distiller = L2RKDDistiller(
        network(0),
        network(1, kernel_regularizer=keras.regularizers.L2(0.01)),
        distillation_losses=[
            LogitsDistillation(loss=keras.losses.KLDivergence()),
            FeatureDistillation(teacher_layer_name="hidden", student_layer_name="hidden"),
        ],
        distillation_loss_weights=[0.5, 0.25],
        **WEIGHTS,
        **arguments,
    )
    logs = fit_once(
        compiled(distiller, rate=0.0), x, y, sample_weight=example_weights() if weighted else None
    )
    total = (
        WEIGHTS["hard_weight"] * logs["hard_loss"][0]
        + WEIGHTS["kd_weight"] * logs["kd_loss"][0]
        + WEIGHTS["region_weight"] * logs["region_loss"][0]
        + 0.5 * logs["logits_distillation_loss"][0]
        + 0.25 * logs["feature_distillation_loss"][0]
        + 0.01 * (distiller.student.get_weights()[0].astype("float64") ** 2).sum()
    )
    np.testing.assert_allclose(logs["loss"][0], total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("arguments", [{"num_region_points": 3}])
def test_terms_are_means_over_the_examples_of_the_epoch(arguments, weighted):
    x, y = table()
    teacher, student = linear_pair()
    weights = example_weights() if weighted else np.ones(13)
    distiller = L2RKDDistiller(
        teacher, student, region=regions.Segment(radius=1e-7), **WEIGHTS, **arguments
    )
    logs = fit_once(
        compiled(distiller, rate=0.0), x, y, sample_weight=weights if weighted else None
    )
    soft = reference.kl(outputs_of(teacher, x), outputs_of(student, x), 4.0)
    hard = -reference.log_softmax(outputs_of(student, x))[np.arange(13), y]
    np.testing.assert_allclose(logs["hard_loss"][0], (weights * hard).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["kd_loss"][0], (weights * soft).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["region_loss"][0], (weights * soft).mean(), rtol=1e-5)


# Hard labels alone.


@keras.saving.register_keras_serializable("tests")
class MeanSquarePenalty(layers.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def one_hot(y):
    return np.eye(CLASSES, dtype="float32")[y]


def same(y):
    return y


STUDENTS = {
    "add_loss": lambda seed: network(seed, inner=[MeanSquarePenalty()]),
    "activity_regularizer": lambda seed: network(seed, activity_regularizer="l2"),
    "regularizers": lambda seed: network(seed, kernel_regularizer="l2", bias_regularizer="l1"),
    "dropout": lambda seed: network(seed, inner=[layers.Dropout(0.5, seed=3)]),
    "softmax": lambda seed: network(seed, activation="softmax"),
    "plain": network,
}


@pytest.mark.parametrize(
    ("student", "loss", "labels", "compile_options", "fit_options"),
    [
        ("add_loss", cross_entropy, same, {}, {}),
        ("activity_regularizer", cross_entropy, same, {}, {}),
        ("regularizers", cross_entropy, same, {}, {}),
        ("dropout", cross_entropy, same, {}, {}),
        ("softmax", lambda: "sparse_categorical_crossentropy", same, {"metrics": ["acc"]}, {}),
        ("plain", cross_entropy, same, {}, {"sample_weight": example_weights()}),
        ("plain", cross_entropy, same, {}, {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}}),
        ("plain", cross_entropy, same, {"loss_weights": 0.5}, {}),
        ("plain", cross_entropy, lambda y: y[:, None], {"metrics": ["accuracy"]}, {}),
        (
            "plain",
            lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            one_hot,
            {"metrics": ["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top2")]},
            {},
        ),
        (
            "plain",
            cross_entropy,
            same,
            {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
            {"sample_weight": example_weights()},
        ),
    ],
)
def test_hard_labels_alone_equal_student_fit(student, loss, labels, compile_options, fit_options):
    x, y = table()
    alone, distilled = STUDENTS[student](1), STUDENTS[student](1)
    distiller = L2RKDDistiller(
        STUDENTS[student](0),
        distilled,
        from_logits=student != "softmax",
        **HARD_ONLY,
    )
    histories = []
    for model in (alone, distiller):
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), loss(), run_eagerly=True, **compile_options
        )
        histories.append(
            model.fit(
                x, labels(y), batch_size=5, epochs=2, shuffle=False, verbose=0, **fit_options
            ).history
        )
    assert_equal_weights(distilled, alone)
    for name, values in histories[0].items():
        assert histories[1][name] == values


def test_a_confidently_wrong_softmax_student_learns_as_in_student_fit():
    x, y = table()[0], np.ones(13, "int32")
    students = [network(1, activation="softmax") for _ in range(2)]
    for student in students:
        student.layers[-1].bias.assign([40.0, 0.0, 0.0])
    distiller = L2RKDDistiller(
        network(0, activation="softmax"), students[0], from_logits=False, **HARD_ONLY
    )
    for model in (distiller, students[1]):
        model.compile(keras.optimizers.SGD(1.0), "sparse_categorical_crossentropy")
        model.train_on_batch(x, y)
    np.testing.assert_allclose(students[1].layers[-1].bias, [39.0, 1.0, 0.0], atol=1e-4)
    assert_equal_weights(*students, atol=1e-6)


# With the region on.


class SquarePenalty(layers.Dense):
    """`Dense` with an `add_loss` equal to the regularizer `L2(0.05)`."""

    def call(self, inputs):
        self.add_loss(0.05 * keras.ops.sum(keras.ops.square(self.kernel)))
        return super().call(inputs)


@pytest.mark.parametrize("arguments", REGION_POINTS)
@pytest.mark.parametrize(
    "penalized",
    [lambda: layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.05)),
     lambda: SquarePenalty(CLASSES)],
    ids=["regularizer", "add_loss"],
)  # fmt: skip
def test_penalties_of_the_student_add_their_gradient_once(penalized, arguments):
    x, y = table(5)
    teacher, student = linear_pair()
    weights = student.get_weights()
    with_penalty = keras.Sequential([keras.Input((FEATURES,)), penalized()])
    with_penalty.set_weights(weights)
    for model in (student, with_penalty):
        distiller = L2RKDDistiller(teacher, model, seed=0, **arguments)
        fit_once(compiled(distiller, rate=0.5), x, y)
    difference = with_penalty.get_weights()[0] - student.get_weights()[0]
    np.testing.assert_allclose(difference, -0.5 * 2 * 0.05 * weights[0], atol=1e-6)
    np.testing.assert_allclose(with_penalty.get_weights()[1], student.get_weights()[1], atol=1e-6)


@pytest.mark.parametrize("num_points", [1, 2])
def test_an_example_of_weight_zero_has_no_influence_on_any_term(num_points):
    rng = np.random.default_rng(1)
    x, y = table(BATCH)
    other_x, other_y = x.copy(), y.copy()
    other_x[0], other_y[0] = 100.0, (y[0] + 1) % CLASSES
    draws = []
    for _ in range(num_points):
        partners, weights = partner_draw(rng, 1)
        # It is nobody's partner.
        draws.append(regions.Coefficients(tf.maximum(partners, 1), weights))
    weights = example_weights(BATCH) * (np.arange(BATCH) > 0)
    teacher, student = linear_pair()
    students = [student, copies(student)]
    for model, data in zip(students, [(x, y), (other_x, other_y)], strict=True):
        distiller = L2RKDDistiller(
            teacher, model, region=Injected(regions.Segment(), draws), num_region_points=num_points
        )
        compiled(distiller).train_on_batch(*data, sample_weight=weights)
    assert_equal_weights(*students)
    assert np.abs(students[0].get_weights()[0] - linear_pair()[1].get_weights()[0]).max() > 1e-3


@pytest.mark.parametrize("arguments", REGION_POINTS)
def test_class_weight_equals_the_sample_weights_it_stands_for(arguments):
    x, y = table()
    by_class = np.array([0.5, 1.0, 3.0], "float32")
    students = [network(1), network(1)]
    options = [{"class_weight": dict(enumerate(by_class))}, {"sample_weight": by_class[y]}]
    for student, option in zip(students, options, strict=True):
        distiller = compiled(L2RKDDistiller(network(0), student, seed=0, **arguments), rate=0.1)
        fit_once(distiller, x, y, **option)
    assert_equal_weights(*students, atol=1e-7)


def test_region_points_differ_between_batches_whose_gradients_are_accumulated():
    x, y = table()
    distiller = L2RKDDistiller(network(0), network(1), seed=0)
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=2)
    distiller.compile(optimizer, cross_entropy(), run_eagerly=True)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(4)]
    assert len({round(float(loss), 7) for loss in losses}) == 4


# Inputs.


def two_inputs(structure, weights):
    """A linear model of an image and a row of a table."""
    parts = {"image": keras.Input((2, 3, 1), name="image"), "row": keras.Input((2,), name="row")}
    joined = layers.Concatenate()([layers.Flatten()(parts["image"]), parts["row"]])
    outputs = layers.Dense(CLASSES)(joined)
    model = keras.Model(structure(parts["image"], parts["row"]), outputs)
    model.set_weights(weights)
    return model


def as_list(image, row):
    return [image, row]


def as_dict(image, row):
    return {"image": image, "row": row}


def as_dict_in_another_order(image, row):
    return {"row": row, "image": image}


@pytest.mark.parametrize("structure", [as_list, as_dict, as_dict_in_another_order])
def test_several_inputs_train_as_their_concatenation(structure):
    rng = np.random.default_rng(7)
    image = rng.normal(size=(13, 2, 3, 1)).astype("float32")
    row, y = rng.normal(size=(13, 2)).astype("float32"), rng.integers(0, CLASSES, 13)
    joined = np.concatenate([image.reshape(13, 6), row], axis=1)
    teacher, student = random_weights(rng, (8,)), random_weights(rng, (8,))
    single = L2RKDDistiller(
        linear((8,), teacher), linear((8,), student), region=regions.Segment(), seed=0
    )
    double = L2RKDDistiller(
        two_inputs(structure, teacher),
        two_inputs(structure, student),
        region=regions.Segment(),
        seed=0,
    )
    expected = fit_once(compiled(single), joined, y, epochs=2)
    inputs = structure(image, row)
    actual = fit_once(compiled(double), inputs, y, epochs=2)
    assert_equal_weights(double.student, single.student, atol=1e-6)
    np.testing.assert_allclose(actual["loss"], expected["loss"], rtol=1e-6)
    np.testing.assert_allclose(
        double.predict(inputs, verbose=0), single.predict(joined, verbose=0), atol=1e-5
    )
    np.testing.assert_allclose(
        double.evaluate(inputs, y, verbose=0), single.evaluate(joined, y, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("dtype", "atol"), [("float64", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)]
)
def test_inputs_of_another_float_dtype_train_as_float32(dtype, atol):
    x, y = table()
    students = [network(1), network(1)]
    for student, data in zip(students, (x, tf.cast(x, dtype)), strict=True):
        data = tf.data.Dataset.from_tensor_slices((data, y)).batch(5)
        compiled(L2RKDDistiller(network(0), student, seed=0)).fit(data, verbose=0)
    assert_equal_weights(*students, atol=atol)


def grey_images():
    x, y = images(13)
    return (255 * x).astype("uint8"), y


@pytest.mark.parametrize("region", [regions.Patch((2, 3)), regions.Segment(), regions.Ball(20.0)])
def test_uint8_images_train_as_the_float_images(region):
    x, y = grey_images()
    students = []
    for data in (x, x.astype("float32")):
        teacher, student = linear_pair((8, 8, 1))
        distiller = L2RKDDistiller(teacher, student, region=region, seed=0)
        compiled(distiller, rate=1e-5).fit(
            tf.data.Dataset.from_tensor_slices((data, y)).batch(5), verbose=0
        )
        students.append(student)
    assert_equal_weights(*students)


def of_grey_levels(dtype, weights):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype=dtype),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    model.set_weights(weights)
    return model


@pytest.mark.parametrize(
    ("region_weight", "atol"),
    [(0.0, 0.0), (0.9, 0.5 / 255)],
    ids=["bit-equal", "up to the rounding of region points to grey levels"],
)
def test_models_of_uint8_inputs_train_as_those_of_floats(region_weight, atol):
    x, y = grey_images()
    rng = np.random.default_rng(6)
    teacher, student = random_weights(rng, (64,)), random_weights(rng, (64,))
    students = []
    for dtype in ("uint8", "float32"):
        distiller = L2RKDDistiller(
            of_grey_levels(dtype, teacher),
            of_grey_levels(dtype, student),
            region_weight=region_weight,
            seed=0,
        )
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
        compiled(distiller, rate=0.1).fit(data, epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(*students, atol=atol)
    assert np.abs(students[0].get_weights()[0] - student[0]).max() > 0.02


def test_region_points_of_uint8_inputs_stay_within_the_grey_levels():
    x = tf.constant([[0], [255]] * 500, tf.uint8)
    batch = draw_batch(
        regions.Ball(9.0, norm="linf"), x, None, None, seed=[0, 0], num_points=1, whole_numbers=True
    )
    points = batch.region.inputs.numpy()
    assert set(points[::2].ravel()) == set(range(10))
    assert set(points[1::2].ravel()) == set(range(246, 256))


# Tables, regression, several labels.


def test_a_table_of_patients_distils_to_a_small_student():
    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    x = ((x - x[:400].mean(axis=0)) / x[:400].std(axis=0)).astype("float32")
    teacher, student = (
        keras.Sequential([keras.Input((30,)), layers.Dense(n, "relu"), layers.Dense(2)])
        for n in (32, 2)
    )
    teacher.compile(keras.optimizers.Adam(0.01), cross_entropy())
    teacher.fit(x[:400], y[:400], epochs=8, verbose=0)
    distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.Adam(0.02), cross_entropy(), metrics=["accuracy"])
    distiller.fit(x[:400], epochs=8, verbose=0)
    assert repr(distiller.region) == repr(regions.Segment())
    assert distiller.evaluate(x[400:], y[400:], verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
def test_a_regression_student_learns_a_linear_teacher(targets):
    x, _ = table(64)
    teacher, student = linear_pair(outputs=2)
    distiller = L2RKDDistiller(
        teacher, student, divergence="mse", hard_weight=0.0, region_targets=targets, seed=0
    )
    distiller.compile(keras.optimizers.SGD(0.3))
    losses = distiller.fit(x, epochs=30, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 100
    assert_equal_weights(student, teacher, atol=0.1)


def test_a_multi_label_student_decides_as_its_teacher():
    x, _ = table(64)
    fresh = np.random.default_rng(9).normal(size=(500, FEATURES)).astype("float32")
    teacher, student = linear_pair()
    before = np.mean((teacher(fresh) > 0) == (student(fresh) > 0))
    distiller = L2RKDDistiller(teacher, student, divergence="binary_kl", hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.Adam(0.1))
    distiller.fit(x, epochs=30, batch_size=32, verbose=0)
    agreement = np.mean((teacher(fresh) > 0) == (student(fresh) > 0))
    assert before < 0.8
    assert agreement > 0.97


@pytest.mark.parametrize(
    ("activation", "divergence", "loss", "labels"),
    [
        ("softmax", "kl", keras.losses.SparseCategoricalCrossentropy, same),
        ("softmax", "kl", keras.losses.CategoricalCrossentropy, one_hot),
        ("sigmoid", "binary_kl", keras.losses.BinaryCrossentropy, one_hot),
    ],
)
def test_models_of_probabilities_train_as_those_of_logits(activation, divergence, loss, labels):
    x, y = table()
    students, histories = [], []
    for last, from_logits in ((None, True), (activation, False)):
        distiller = L2RKDDistiller(
            network(0, activation=last),
            network(1, activation=last),
            divergence=divergence,
            from_logits=from_logits,
            seed=0,
        )
        distiller.compile(
            keras.optimizers.SGD(0.5), loss(from_logits=from_logits), run_eagerly=True
        )
        histories.append(fit_once(distiller, x, labels(y), epochs=2))
        students.append(distiller.student)
    assert_equal_weights(*students, atol=1e-5)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4, atol=1e-6)


# Logs, evaluation, callbacks.


@pytest.mark.parametrize("eagerly", [False, True])
def test_without_labels_in_training_accuracy_is_that_of_validation_alone(eagerly):
    x, y = table()
    distiller = L2RKDDistiller(network(0), network(1), hard_weight=0.0)
    compiled(distiller, metrics=["accuracy"], run_eagerly=eagerly)
    data = tf.data.Dataset.from_tensor_slices(x).batch(5)
    history = distiller.fit(data, validation_data=(x, y), epochs=2, verbose=0).history
    assert set(history) == {
        "loss", "hard_loss", "kd_loss", "region_loss", "val_loss", "val_hard_loss", "val_accuracy",
    }  # fmt: skip
    accuracy = np.mean(distiller.predict(x, verbose=0).argmax(axis=-1) == y)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)


def test_evaluate_predict_and_call_are_those_of_the_student():
    x, y = table()
    penalty = {"kernel_regularizer": "l2", "inner": [layers.Dropout(0.5)]}
    distiller = compiled(L2RKDDistiller(network(0), network(1, **penalty)), metrics=["accuracy"])
    fit_once(distiller, x, y)
    student = distiller.student
    np.testing.assert_array_equal(distiller(x), student(x))
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), student.predict(x, verbose=0))
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    options = {"batch_size": 5, "sample_weight": example_weights(), "verbose": 0}
    expected = student.evaluate(x, y, return_dict=True, **options)
    actual = distiller.evaluate(x, y, return_dict=True, **options)
    assert {name: actual[name] for name in expected} == expected
    decay = 0.01 * (student.get_weights()[0].astype("float64") ** 2).sum()
    np.testing.assert_allclose(actual["hard_loss"] + decay, actual["loss"], rtol=1e-6)


def test_training_and_testing_on_a_batch_equal_fit_and_evaluate():
    x, y = table()
    one, other = (
        compiled(L2RKDDistiller(network(0), network(1), seed=0), metrics=["accuracy"])
        for _ in range(2)
    )
    history = one.fit(x, y, batch_size=13, shuffle=False, verbose=0).history
    logs = other.train_on_batch(x, y, return_dict=True)
    assert_equal_weights(one.student, other.student)
    assert {name: [pytest.approx(value)] for name, value in logs.items()} == history
    other.reset_metrics()  # Keras before 3.15 goes on with those of the batch before
    assert other.test_on_batch(x, y, return_dict=True) == pytest.approx(
        one.evaluate(x, y, verbose=0, return_dict=True)
    )


def test_a_student_compiled_and_trained_before_does_not_mix_into_the_logs():
    x, y = table()
    student = network(1)
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    student.fit(x, y, verbose=0)
    distiller = compiled(L2RKDDistiller(network(0), student), rate=0.0, metrics=["accuracy"])
    history = fit_once(distiller, x, y)
    assert set(history) == {"accuracy", "loss", "hard_loss", "kd_loss", "region_loss"}
    accuracy = np.mean(student.predict(x, verbose=0).argmax(axis=-1) == y)
    assert history["accuracy"] == [pytest.approx(accuracy)]


class Traced(L2RKDDistiller):
    """Counts how often its step is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


@pytest.mark.parametrize(
    ("start", "name", "value", "new_traces"),
    [
        ({}, "temperature", 1.5, 0),
        ({}, "hard_weight", 0.7, 0),
        ({}, "kd_weight", 0.2, 0),
        ({}, "region_weight", 3.0, 0),
        ({}, "radius", 0.2, 0),
        ({"hard_weight": 0.0}, "hard_weight", 0.5, 1),
        ({"kd_weight": 0.0}, "kd_weight", 0.5, 1),
        ({"region_weight": 0.0}, "region_weight", 0.5, 1),
        ({}, "region_weight", 0.0, 1),
        ({}, "region", regions.Ball(0.5), 1),
    ],
)
def test_a_value_changed_between_epochs_takes_effect(start, name, value, new_traces):
    x, y = table(12)
    teacher = network(0)

    def distil(student, radius=1.0, **arguments):
        arguments = {"region": regions.Segment(radius), **arguments}
        distiller = Traced(teacher, student, seed=0, **arguments)
        return compiled(distiller, rate=0.1, run_eagerly=False, jit_compile=False)

    before = []

    def change(epoch, logs=None):
        if epoch == 1:
            before.extend([distiller.student.get_weights(), distiller.traces])
            if name == "radius":
                distiller.region.radius = value
            else:
                setattr(distiller, name, value)

    distiller = distil(network(1), **start)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    callback = keras.callbacks.LambdaCallback(on_epoch_begin=change)
    history = distiller.fit(x, y, epochs=2, callbacks=[callback], **options).history

    fresh = distil(network(1), **{**start, name: value})
    fresh.student.set_weights(before[0])
    fresh.optimizer.build(fresh.student.trainable_variables)
    fresh.optimizer.iterations.assign(3)
    logs = fresh.fit(x, y, epochs=1, **options).history

    assert distiller.traces - before[1] == new_traces
    assert_equal_weights(distiller.student, fresh.student)
    assert {key: values[1:] for key, values in history.items()} == logs


def test_standard_callbacks_see_the_documented_values(tmp_path):
    x, y = table()
    distiller = compiled(
        L2RKDDistiller(network(0), network(1), seed=0), rate=0.5, metrics=["accuracy"]
    )
    states = []
    callbacks = [
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_accuracy", mode="max", save_best_only=True
        ),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: states.append(distiller.student.get_weights())
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        # Nothing improves by 100: the first epoch stays the best.
        keras.callbacks.EarlyStopping(
            "val_loss", min_delta=100.0, patience=2, restore_best_weights=True
        ),
    ]
    history = fit_once(distiller, x, y, validation_data=(x, y), epochs=9, callbacks=callbacks)
    assert set(history) == {
        "loss", "hard_loss", "kd_loss", "region_loss", "accuracy",
        "val_loss", "val_hard_loss", "val_accuracy",
    }  # fmt: skip
    assert [len(values) for values in history.values()] == [3] * 8
    for restored, state in zip(distiller.student.get_weights(), states[0], strict=True):
        np.testing.assert_array_equal(restored, state)
    best = keras.models.load_model(tmp_path / "best.keras").student.get_weights()
    for restored, state in zip(best, states[np.argmax(history["val_accuracy"])], strict=True):
        np.testing.assert_array_equal(restored, state)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == pytest.approx(values)


# Students without a shape.


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = seeded_layers()

    def call(self, inputs):
        return self.last(self.hidden(inputs))


def seeded_layers():
    return [
        layers.Dense(5, "relu", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
        layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
    ]


@pytest.mark.parametrize(
    "make", [Subclassed, lambda: keras.Sequential(seeded_layers())], ids=["class", "sequential"]
)
def test_an_unbuilt_student_trains_as_a_built_one(make):
    x, y = table()
    built = keras.Sequential([keras.Input((FEATURES,)), *seeded_layers()])
    students, histories = [built, make()], []
    for student in students:
        distiller = compiled(L2RKDDistiller(network(0), student, seed=0), metrics=["accuracy"])
        histories.append(fit_once(distiller, x, y, epochs=2, validation_data=(x, y)))
        assert repr(distiller.region) == repr(regions.Segment())
    assert_equal_weights(*students)
    assert histories[0] == histories[1]


# Methods of Keras.


class Calls(layers.Layer):
    """Passes its input on and notes how many rows came."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def call(self, inputs, training=None):
        if tf.executing_eagerly():
            self.rows.append((len(inputs), training))
        return inputs


def test_methods_of_keras_have_their_own_values_weights_and_names():
    x, y = table()
    teacher, student = network(0), network(1)
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
        distillation_losses=[
            FeatureDistillation("mse", **hidden),
            LogitsDistillation(2.0, keras.losses.KLDivergence()),
            FeatureDistillation(keras.losses.MeanAbsoluteError()),
        ],
        distillation_loss_weights=[0.5, 2.0, 0.25],
    )
    logs = fit_once(compiled(distiller, rate=0.0), x, y)
    features = [np.maximum(outputs_of(model.layers[0], x), 0.0) for model in (teacher, student)]
    logits = [
        outputs_of(model.layers[1], values)
        for model, values in zip((teacher, student), features, strict=True)
    ]
    expected = {
        "feature_distillation_loss": np.square(features[0] - features[1]).mean(),
        "logits_distillation_loss": reference.kl(*logits, 2.0).mean(),
        "feature_distillation_loss_2": np.abs(logits[0] - logits[1]).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], [value], rtol=2e-5)
    total = sum(w * value for w, value in zip((0.5, 2.0, 0.25), expected.values(), strict=True))
    np.testing.assert_allclose(logs["loss"], [total], rtol=2e-5)


def test_a_method_trains_the_layers_up_to_the_one_it_names():
    x, y = table(5)
    teacher, student = network(0), network(1)
    kernel, bias = student.layers[0].get_weights()
    last = student.layers[1].get_weights()[0]
    target = np.maximum(outputs_of(teacher.layers[0], x), 0.0)
    own = np.maximum(outputs_of(student.layers[0], x), 0.0)
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
        distillation_losses=FeatureDistillation(
            teacher_layer_name="hidden", student_layer_name="hidden"
        ),
        distillation_loss_weights=3.0,
    )
    fit_once(compiled(distiller, rate=0.5), x, y)
    gradient = 3.0 * 2.0 * (own - target) * (own > 0) / own.size
    np.testing.assert_allclose(student.get_weights()[0], kernel - 0.5 * x.T @ gradient, atol=1e-6)
    np.testing.assert_allclose(student.get_weights()[1], bias - 0.5 * gradient.sum(0), atol=1e-6)
    np.testing.assert_array_equal(student.get_weights()[2], last)


@pytest.mark.parametrize(
    ("arguments", "teacher_rows", "student_rows"),
    [({}, 10, 10), ({"region_weight": 0.0}, 5, 5), ({"replace_fraction": 0.4}, 5, 5)],
)
def test_methods_cost_no_further_pass(arguments, teacher_rows, student_rows):
    x, y = table(5)
    calls, teacher_calls = Calls(), Calls()
    normalization = layers.BatchNormalization()
    student = network(1, inner=[calls, normalization])
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        network(0, inner=[teacher_calls]),
        student,
        region=regions.Segment(radius=1e-7),
        distillation_losses=[FeatureDistillation(**hidden), FeatureDistillation(**hidden)],
        **arguments,
    )
    features = np.maximum(outputs_of(student.layers[0], x), 0.0)
    compiled(distiller, rate=0.0).train_on_batch(x, y)
    assert calls.rows == [(student_rows, True)]
    assert teacher_calls.rows == [(teacher_rows, False)]
    moved_once = (1 - normalization.momentum) * features.mean(axis=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)
    compiled(distiller, rate=0.0).evaluate(x, y, verbose=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)
    assert len(teacher_calls.rows) == 1


def added_layer_by_layer(model, path):
    other = keras.Sequential()
    other.add(keras.Input(model.input_shape[1:]))
    for layer in model.layers:
        other.add(type(layer).from_config(layer.get_config()))
    return other


def saved_and_loaded(model, path):
    model.save(path)
    return keras.models.load_model(path)


ORIGINS = {
    "constructor": lambda model, path: model,
    "add": added_layer_by_layer,
    "clone_model": lambda model, path: keras.models.clone_model(model),
    "from_config": lambda model, path: keras.Sequential.from_config(model.get_config()),
    "load_model": saved_and_loaded,
    "functional": lambda model, path: keras.Model(model.inputs, model.outputs),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_with_a_method_batchnorm_moves_once_wherever_the_student_comes_from(origin, tmp_path):
    x, y = table(5)
    make = ORIGINS[origin]
    inner = [layers.BatchNormalization(), layers.ReLU(name="normalized")]
    student = make(network(1, inner=inner), tmp_path / "student.keras")
    names = {"teacher_layer_name": "hidden", "student_layer_name": "normalized"}
    distiller = L2RKDDistiller(
        network(0),
        student,
        region=regions.Segment(radius=1e-7),
        distillation_losses=FeatureDistillation(**names),
    )
    normalization = next(
        layer for layer in student.layers if isinstance(layer, layers.BatchNormalization)
    )
    features = np.maximum(outputs_of(student.get_layer("hidden"), x), 0.0)
    compiled(distiller, rate=0.0).train_on_batch(x, y)
    moved_once = (1 - normalization.momentum) * features.mean(axis=0)
    np.testing.assert_allclose(normalization.moving_mean, moved_once, atol=1e-6)


def test_losses_of_earlier_steps_are_forgotten_with_a_method_that_names_layers():
    x, y = table(5)
    hidden = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}
    distiller = L2RKDDistiller(
        network(0),
        network(1, activity_regularizer="l2", inner=[MeanSquarePenalty()]),
        distillation_losses=FeatureDistillation(**hidden),
        distillation_loss_weights=0.0,
        **HARD_ONLY,
    )
    plain = L2RKDDistiller(
        network(0),
        network(1, activity_regularizer="l2", inner=[MeanSquarePenalty()]),
        **HARD_ONLY,
    )
    for _ in range(2):
        losses = [
            compiled(model, rate=0.0).train_on_batch(x, y, return_dict=True)
            for model in (distiller, plain)
        ]
        assert losses[0]["loss"] == losses[1]["loss"]


def test_convolutional_features_of_another_layer_name():
    x, y = images(5)
    teacher, student = convnet(0), convnet(1)
    names = {
        "teacher_layer_name": teacher.layers[0].name,
        "student_layer_name": student.layers[0].name,
    }
    distiller = L2RKDDistiller(teacher, student, distillation_losses=FeatureDistillation(**names))
    logs = compiled(distiller, rate=0.0).train_on_batch(x, y, return_dict=True)
    difference = np.float64(teacher.layers[0](x)) - np.float64(student.layers[0](x))
    np.testing.assert_allclose(
        logs["feature_distillation_loss"], np.square(difference).mean(), rtol=1e-5
    )


# A loss that takes logits for probabilities.


@pytest.mark.parametrize(
    ("loss", "activation", "warns"),
    [
        ("sparse_categorical_crossentropy", None, True),
        (keras.losses.SparseCategoricalCrossentropy(), None, True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax", True),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), None, False),
        ("sparse_categorical_crossentropy", "softmax", False),
        (keras.losses.MeanSquaredError(), None, False),
    ],
)
def test_a_loss_that_mistakes_the_outputs_is_warned_of(loss, activation, warns):
    x, y = table(5)
    distiller = L2RKDDistiller(
        network(0, activation=activation),
        network(1, activation=activation),
        from_logits=activation is None,
    )
    labels = one_hot(y) if isinstance(loss, keras.losses.MeanSquaredError) else y
    distiller.compile("sgd", loss, run_eagerly=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distiller.train_on_batch(x, labels)
    messages = [str(w.message) for w in caught if "from_logits" in str(w.message)]
    assert bool(messages) == warns
    assert all("`loss`" in message for message in messages)


class KD(keras.distillation.DistillationLoss):
    """A method whose name in the logs would be that of a term of the distiller."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return tf.reduce_mean(tf.square(teacher_outputs - student_outputs))


def test_a_method_does_not_take_the_name_of_a_term():
    x, y = images(8)
    distiller = compiled(
        L2RKDDistiller(convnet(0, 8), convnet(1), distillation_losses=[KD(), KD()])
    )
    logs = distiller.train_on_batch(x, y, return_dict=True)
    assert {"kd_loss", "kd_loss_2", "kd_loss_3"} <= set(logs)
    assert logs["kd_loss"] != logs["kd_loss_2"] == logs["kd_loss_3"]


def test_unlabelled_validation_of_unlabelled_training_reports_regularization_alone():
    x, _ = images(8)
    distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), hard_weight=0.0))
    data = tf.data.Dataset.from_tensor_slices((x,)).batch(4)
    history = distiller.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert set(history) == {"loss", "hard_loss", "kd_loss", "region_loss", "val_loss"}
    assert history["val_loss"] == [0.0, 0.0]


class Tokens(keras.Model):
    """Looks up integer inputs, which no float can stand for; made of no graph of layers."""

    def __init__(self):
        super().__init__()
        self.table = self.add_weight(shape=(9, 4), name="table")
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        return self.dense(tf.reduce_mean(tf.gather(self.table, inputs), axis=1))


@pytest.mark.parametrize("first", ["fit", "predict"])
def test_a_student_of_integers_is_built_by_what_it_meets_first(first):
    x, y = np.arange(12).reshape(4, 3) % 9, np.arange(4) % CLASSES
    teacher = Tokens()
    teacher(x)
    distiller = L2RKDDistiller(teacher, Tokens(), region_weight=0.0, seed=0)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    if first == "predict":
        distiller.predict(x, verbose=0)
    hard_loss = distiller.fit(x, y, batch_size=4, verbose=0).history["hard_loss"][0]
    expected = distiller.loss(y, distiller.student(x))
    np.testing.assert_allclose(hard_loss, expected, rtol=1e-5)
