"""Wrong arguments of `cache_teacher`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.data import load
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher
from tests.helpers import batches, convnet, images
from tests.teacher_cache.helpers import EXAMPLES, QUIET, read

CACHED = CachedInputs(*images(4))


def same_names():
    inputs, head = keras.Input((8, 8, 1)), keras.layers.Dense(3, name="head")
    return keras.Model(inputs, [head(inputs), head(-inputs)])


def one_number():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, {"a": inputs, "b": keras.ops.sum(inputs)})


class Rows(keras.layers.Layer):
    """Makes two rows of each."""

    def call(self, inputs):
        return tf.reshape(inputs, (-1, 32))


WRONG = {
    "cached inputs": (
        {"dataset": tf.data.Dataset.from_tensor_slices((CACHED,)).batch(2)},
        "already CachedInputs",
    ),
    "cached inputs alone": (
        {"dataset": tf.data.Dataset.from_tensor_slices(CACHED).batch(2)},
        "already CachedInputs",
    ),
    "large integers": (
        {"dataset": batches(images(4)[0], np.ones(4, "uint32"))},
        "of a dtype among",
    ),
    "an array": ({"dataset": np.zeros((4, 8, 8, 1))}, "`dataset` must be a tf.data.Dataset"),
    "single examples": (
        {"dataset": tf.data.Dataset.from_tensor_slices(images(4))},
        "`dataset` must yield batches",
    ),
    "single images": (
        {"dataset": tf.data.Dataset.from_tensor_slices(images(4)[0])},
        "`dataset` must yield batches",
    ),
    "no end": ({"dataset": batches(*images(4)).repeat()}, "`dataset` must end"),
    "no examples": ({"dataset": batches(*images(4)).take(0)}, "`dataset` must hold examples"),
    "strings": (
        {"dataset": tf.data.Dataset.from_tensor_slices((np.zeros((4, 2)), ["a"] * 4)).batch(2)},
        "dense tensors of numbers",
    ),
    "no teacher": ({"teacher": None}, "`teacher` must be a keras.Model"),
    "unbuilt": ({"teacher": keras.Sequential([keras.layers.Dense(3)])}, "`teacher` must be"),
    "same names": (
        {"teacher": same_names()},
        "`teacher` must give several outputs different names.*'head', 'head'",
    ),
    "one number for the batch": (
        {"teacher": one_number()},
        "`teacher` must have outputs of shape .*of shape \\(\\) for a batch of 4",
    ),
    "rows": (
        {"teacher": keras.Sequential([keras.Input((8, 8, 1)), Rows()])},
        "shape \\(8, 32\\) for a batch of 4",
    ),
    "path": ({"path": 3}, "`path` must be a folder"),
    "batch size": ({"batch_size": 0}, "`batch_size` must be a positive integer"),
    "dtype": ({"dtype": "int8"}, "`dtype` must be one of"),
    "compression": ({"compression": "zip"}, "`compression` must be one of"),
    "memory": ({"memory_bytes": 0}, "`memory_bytes` must be a positive number"),
    "fingerprint": ({"fingerprint": 3}, "`fingerprint` must be a string"),
    "seed": ({"seed": -1}, "`seed` must be an integer"),
    "shuffle": ({"shuffle": 7}, "`shuffle` must be True or False"),
    "verbose": ({"verbose": "yes"}, "`verbose` must be True or False"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_named(wrong, teacher):
    arguments, message = WRONG[wrong]
    arguments = {"dataset": batches(*images(4)), "teacher": teacher, **QUIET} | arguments
    with pytest.raises(ValueError, match=message):
        cache_teacher(**arguments)


class WithoutConfig(keras.Model):
    """A model that Keras cannot serialize."""

    def __init__(self):
        super().__init__()
        self.inner = convnet(0, 8)
        self.built = True

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        raise NotImplementedError("no config")


def test_a_model_that_cannot_be_serialized_is_warned_of(tmp_path):
    teacher = WithoutConfig()
    with pytest.warns(UserWarning, match="cannot be serialized"):
        cache_teacher(batches(*images(4)), teacher, tmp_path, **QUIET)


def test_empty_and_small_batches_do_not_count():
    data = batches(*images(EXAMPLES)).map(lambda x, y: (x[y > 0], y[y > 0]))
    sizes = [len(y) for _, y in data]
    data = data.take(0).concatenate(data.map(lambda x, y: (x[:0], y[:0]))).concatenate(data)
    cached = cache_teacher(data, convnet(0, 8), **QUIET)
    assert [len(y) for _, y in cached][0] == max(sizes)


def test_the_order_does_not_depend_on_that_of_the_data():
    x, y = images(EXAMPLES)
    streams = [
        read(cache_teacher(data, convnet(0, 8), seed=5, **QUIET))
        for data in (batches(x, y), batches(x[::-1], y[::-1]))
    ]
    for one, other in zip(*streams, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_data_of_the_library_stay_where_they_are(tmp_path):
    train = load("digits", "train", batch_size=50, fraction=0.1, data_dir=tmp_path)
    train.cursor.set_batch(3)
    cached = cache_teacher(train, convnet(0, 8), **QUIET)
    assert train.cursor.batch == 3
    assert cached.num_examples == train.num_examples == 100
    augmented = load(
        "digits", "train", batch_size=50, fraction=0.1, data_dir=tmp_path, augment="crop"
    )
    with pytest.raises(ValueError, match="same examples in every pass"):
        cache_teacher(augmented, convnet(0, 8), **QUIET)


def test_outputs_that_half_precision_cannot_hold_are_refused(teacher):
    x, y = images(4)
    with pytest.raises(FloatingPointError, match="float16"):
        cache_teacher(batches(x * 1e7, y), teacher, dtype="float16", **QUIET)


def test_examples_of_different_shapes_are_refused():
    teacher = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()]
    )
    data = tf.data.Dataset.from_generator(
        lambda: (np.zeros((2, size, size, 1), "float32") for size in (4, 5)),
        output_signature=tf.TensorSpec((None, None, None, 1)),
    )
    with pytest.raises(ValueError, match="one shape"):
        cache_teacher(data, teacher, **QUIET)
