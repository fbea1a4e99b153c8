"""A teacher that computes in half precision: its answers are rounded, and nothing else moves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, models, teachers
from l2rkd_tf.distiller.precision import Precision
from tests.helpers import assert_equal_weights, cross_entropy, few, linear, two_replicas

DTYPES = ["bfloat16", "float16"]


def whole_numbers(seed, *shape):
    return np.random.default_rng(seed).integers(-3, 4, shape).astype("float32")


def rounded(weights, dtype):
    return tf.cast(tf.cast(weights, dtype), "float32").numpy()


def trained(dtype, x, kernel, **compile_options):
    """The student's weights after a step of SGD of KD by the mean squared error."""
    teacher = linear((4,), [kernel, np.zeros(3, "float32")])
    student = linear((4,), [whole_numbers(2, 4, 3), np.zeros(3, "float32")])
    distiller = L2RKDDistiller(
        teacher, student, divergence="mse", hard_weight=0, kd_weight=1, region_weight=0,
        teacher_dtype=dtype, seed=0,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(0.5), **compile_options)
    distiller.fit(tf.data.Dataset.from_tensors((x,)), verbose=0)
    return student.get_weights()[0]


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_has_the_answers_of_the_rounded_teacher(dtype, options):
    # Sums of a few such products are exact in either precision, once the weights are rounded.
    x, kernel = whole_numbers(0, 8, 4), whole_numbers(1, 4, 3) * 1.0001
    student, teacher = whole_numbers(2, 4, 3), rounded(kernel, dtype)
    difference = x @ student - x @ teacher
    expected = student - 0.5 * 2 * x.T @ difference / difference.size
    np.testing.assert_allclose(trained(dtype, x, kernel, **options), expected, atol=1e-5)
    assert np.abs(trained(None, x, kernel, **options) - expected).max() > 5e-5


def attention():
    inputs = keras.Input((6, 4))
    hidden = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(hidden)))


NETWORKS = {
    "attention": (attention, (6, 4)),
    "resnet8": (lambda: models.get("resnet8", 3), (32, 32, 3)),
    "mobilenet_v2": (lambda: models.get("mobilenet_v2", 3), (32, 32, 3)),
}


@pytest.mark.parametrize("name", few(["attention", "resnet8"], ["mobilenet_v2"]))
def test_outputs_differ_by_rounding_and_layers_stay_as_they_are(name):
    make, shape = NETWORKS[name]
    keras.utils.set_random_seed(0)
    teacher = make()
    before, policies = teacher.get_weights(), [one.dtype_policy for one in all_parts(teacher)]
    x = np.random.default_rng(0).random((4, *shape)).astype("float32")
    keras.utils.set_random_seed(1)
    distiller = L2RKDDistiller(teacher, make(), teacher_dtype="bfloat16", seed=0)
    seen = []
    with distiller._teacher._precision.applied():
        seen += [one.compute_dtype for one in all_parts(teacher)]
        found = tf.cast(teacher(x, training=False), "float32")
    expected = teacher(x, training=False)
    assert set(seen) == {"bfloat16"}
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    distiller.compile("sgd", cross_entropy())
    distiller.fit(x, np.arange(4) % 3, verbose=0)
    assert [one.dtype_policy for one in all_parts(teacher)] == policies
    assert_equal_weights(teacher.get_weights(), before)


def all_parts(model):
    """Layers, and the layers within them."""
    return list(model._flatten_layers())


def test_policies_are_back_after_an_error():
    teacher = linear((4,), [whole_numbers(1, 4, 3), np.zeros(3, "float32")])
    precision = Precision(teacher, "bfloat16")
    with pytest.raises(RuntimeError, match="stop"), precision.applied():
        raise RuntimeError("stop")
    assert {one.compute_dtype for one in all_parts(teacher)} == {"float32"}


def test_layers_of_another_precision_and_preprocessing_keep_theirs():
    inputs = keras.Input((4,))
    half = layers.Dense(4, dtype="mixed_float16")(inputs)
    teacher = keras.Model(inputs, layers.Dense(3)(half))
    preprocessing = layers.Rescaling(1 / 255)
    student = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    distiller = L2RKDDistiller(
        teacher, student, teacher_preprocessing=preprocessing, teacher_dtype="bfloat16", seed=0
    )
    with distiller._teacher._precision.applied():
        assert [one.compute_dtype for one in teacher.layers[1:]] == ["float16", "bfloat16"]
        assert preprocessing.compute_dtype == "float32"


def test_members_of_an_ensemble_are_rounded():
    members = [
        linear((4,), [whole_numbers(i, 4, 3) * 1.0001, np.zeros(3, "float32")]) for i in range(2)
    ]
    precision = Precision(members, "bfloat16")
    x = whole_numbers(5, 8, 4)
    with precision.applied():
        found = [member(x) for member in members]
    for i in range(2):
        np.testing.assert_array_equal(tf.cast(found[i], "float32"), x @ whole_numbers(i, 4, 3))


def test_a_saved_distiller_goes_on_in_the_same_precision(tmp_path):
    teacher = linear((4,), [whole_numbers(1, 4, 3), np.zeros(3, "float32")])
    student = linear((4,), [whole_numbers(2, 4, 3), np.zeros(3, "float32")])
    distiller = L2RKDDistiller(teacher, student, teacher_dtype="bfloat16", seed=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.teacher_dtype == distiller.teacher_dtype == "bfloat16"
    assert {one.compute_dtype for one in all_parts(loaded.get_teacher())} == {"float32"}


def test_two_replicas_equal_one_device():
    x, kernel = whole_numbers(0, 8, 4), whole_numbers(1, 4, 3) * 1.0001
    expected = trained("bfloat16", x, kernel)
    with two_replicas().scope():
        found = trained("bfloat16", x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_that_change_between_fits_are_noticed():
    teacher = linear((4,), [whole_numbers(1, 4, 3), np.zeros(3, "float32")])
    student = linear((4,), [whole_numbers(2, 4, 3), np.zeros(3, "float32")])
    distiller = L2RKDDistiller(
        teacher, student, divergence="mse", hard_weight=0, kd_weight=1, region_weight=0,
        teacher_dtype="bfloat16", seed=0,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(0.0))
    data = tf.data.Dataset.from_tensors((whole_numbers(0, 8, 4),))
    distiller.fit(data, verbose=0)
    teacher.set_weights(student.get_weights())
    assert distiller.fit(data, verbose=0).history["kd_loss"] == [0.0]


def saved_model(tmp_path):
    model = linear((4,), [whole_numbers(1, 4, 3), np.zeros(3, "float32")])
    model.export(tmp_path / "saved", verbose=False)
    layer = keras.layers.TFSMLayer(tmp_path / "saved", call_endpoint="serve")
    layer(np.zeros((1, 4), "float32"))
    return layer


@pytest.mark.parametrize(
    ("make", "dtype", "message"),
    [
        (
            lambda _: linear((4,), [whole_numbers(1, 4, 3), np.zeros(3, "float32")]),
            "half",
            r"`teacher_dtype` must be one of \(None, 'bfloat16', 'float16'\). Received: .*'half'",
        ),
        (
            lambda _: teachers.CallableTeacher(lambda x: x[:, :3], 3),
            "bfloat16",
            "`teacher_dtype` must be None for a function or a SavedModel.*'callable_teacher'",
        ),
        (saved_model, "float16", "`teacher_dtype` must be None for a function or a SavedModel"),
    ],
)
def test_wrong_precisions_are_refused(make, dtype, message, tmp_path):
    student = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=message):
        L2RKDDistiller(make(tmp_path), student, teacher_dtype=dtype)
