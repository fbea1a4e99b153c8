"""Teacher outputs that were computed elsewhere, carried by the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, data
from l2rkd_tf.teacher_cache import cache_teacher, from_outputs
from tests.helpers import assert_equal_weights, batches, compiled, convnet, images
from tests.teacher_cache.helpers import EXAMPLES, read

X, Y = images(EXAMPLES)


def outputs_of(teacher, x=X):
    return teacher(x, training=False).numpy()


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_without_a_teacher_is_that_with_it(shuffle):
    teacher, students, logs = convnet(0, 8), [convnet(1), convnet(1)], []
    settings = {"region_targets": "interpolated", "seed": 3}
    given = from_outputs(batches(X, Y), outputs_of(teacher), shuffle=shuffle, seed=1)
    cached = cache_teacher(batches(X, Y), teacher, shuffle=shuffle, seed=1, verbose=False)
    for of_teacher, student, carried in zip(
        (None, teacher), students, (given, cached), strict=True
    ):
        distiller = L2RKDDistiller(of_teacher, student, **settings)
        logs.append(compiled(distiller, run_eagerly=True).fit(carried, epochs=2, verbose=0).history)
    assert_equal_weights(*students, atol=1e-6)
    assert min(logs[0]["kd_loss"] + logs[0]["region_loss"]) > 1e-3
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-6, atol=1e-6)
    assert given.num_examples == EXAMPLES


def test_rows_stay_with_their_examples_in_every_batch_and_order():
    outputs = np.arange(EXAMPLES * 3, dtype="float64").reshape(EXAMPLES, 3)
    given = from_outputs(batches(X, np.arange(EXAMPLES)), outputs, batch_size=3, seed=5)
    x, found, numbers = read(given)
    assert sorted(numbers) == list(range(EXAMPLES)) and list(numbers) != sorted(numbers)
    np.testing.assert_array_equal(x, X[numbers])
    np.testing.assert_array_equal(found, outputs[numbers])
    assert found.dtype == "float32"
    assert [len(y) for _, y in given.as_numpy_iterator()] == [3, 3, 3, 1]


def test_outputs_by_name_and_in_half_precision():
    outputs = {"size": np.zeros((EXAMPLES, 2)), "kind": np.ones((EXAMPLES, 4, 3), "float16")}
    spec = from_outputs(batches(X, Y), outputs).element_spec[0].teacher_outputs
    assert spec["size"] == tf.TensorSpec((None, 2), tf.float32)
    assert spec["kind"] == tf.TensorSpec((None, 4, 3), tf.float16)


def test_several_outputs_train_by_name():
    def heads(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 1))
        flat = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, {n: keras.layers.Dense(3)(flat) for n in ("kind", "size")})

    teacher = heads(0)
    given = from_outputs(batches(X, Y).map(lambda x, y: (x,)), teacher.predict(X, verbose=0))
    options = {"divergence": {"kind": "kl", "size": "mse"}, "hard_weight": 0.0}
    distiller = L2RKDDistiller(None, heads(1), region_targets="interpolated", **options)
    distiller.compile("sgd", run_eagerly=True)
    history = distiller.fit(given, verbose=0).history
    assert history["kind_kd_loss"][0] > 0 and history["size_region_loss"][0] > 0


def with_nan():
    outputs = np.zeros((EXAMPLES, 3))
    outputs[7, 1] = np.nan
    return outputs


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda: np.zeros((EXAMPLES + 1, 3)), "`outputs` must have one row .* 11 rows for 10"),
        (lambda: {"a": np.zeros((3, 3))}, r"`outputs\['a'\]` must have one row .* 3 rows for 10"),
        (lambda: np.zeros((EXAMPLES, 3), int), "`outputs` must be an array of floating-point"),
        (lambda: np.float32(0.0), "`outputs` must be an array of floating-point"),
        (lambda: {}, "`outputs` must hold"),
        (with_nan, "`outputs` must be finite in float32. Received: .* 1 rows, .* is row 7"),
        (lambda: np.full((EXAMPLES, 3), 1e39), "`outputs` must be finite in float32"),
    ],
)
def test_wrong_outputs_are_named(outputs, message):
    with pytest.raises(ValueError, match=message):
        from_outputs(batches(X, Y), outputs())


def test_data_without_an_order_are_refused():
    shuffled = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(EXAMPLES, seed=0).batch(4)
    with pytest.raises(ValueError, match="`dataset` must yield the same examples in the same"):
        from_outputs(shuffled, np.zeros((EXAMPLES, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"shuffle": 1}, "`shuffle` must be"),
        ({"seed": -1}, "`seed` must be"),
    ],
)
def test_other_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_outputs(batches(X, Y), np.zeros((EXAMPLES, 3)), **arguments)


def test_other_datasets_are_refused():
    with pytest.raises(ValueError, match="`dataset` must end"):
        from_outputs(batches(X, Y).repeat(), np.zeros((EXAMPLES, 3)))
    carried = from_outputs(batches(X, Y), np.zeros((EXAMPLES, 3)))
    with pytest.raises(ValueError, match="`dataset` must yield plain inputs"):
        from_outputs(carried, np.zeros((EXAMPLES, 3)))


def test_shuffled_data_of_the_library_are_refused_and_stay_where_they_are(digits_dir):
    digits = data.load("digits", "test", batch_size=64, shuffle=True, data_dir=digits_dir)
    next(iter(digits.repeat()))
    before, outputs = digits.cursor.batch, np.zeros((digits.num_examples, 10))
    with pytest.raises(ValueError, match=r"data.load\(..., shuffle=False\)"):
        from_outputs(digits, outputs)
    assert digits.cursor.batch == before > 0
    ordered = data.load("digits", "test", batch_size=64, shuffle=False, data_dir=digits_dir)
    assert from_outputs(ordered, outputs).num_examples == len(outputs)
