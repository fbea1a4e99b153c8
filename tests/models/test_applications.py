"""Networks of `keras.applications` as teachers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, models
from l2rkd_tf.models import applications

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def images(shape=(8, 8, 1), count=8):
    random = np.random.default_rng(0)
    return random.uniform(size=(count, *shape)).astype("float32"), np.arange(count) % 10


def fit_a_step(teacher, student, **kwargs):
    distiller = L2RKDDistiller(teacher, student, seed=0, **kwargs)
    distiller.compile(keras.optimizers.SGD(0.1), SPARSE, jit_compile=False)
    return distiller.fit(*images(), batch_size=8, verbose=0).history


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("MobileNet", keras.applications.mobilenet.preprocess_input),
        ("ResNet50", keras.applications.resnet50.preprocess_input),
        ("DenseNet121", keras.applications.densenet.preprocess_input),
        ("MobileNetV3Small", keras.applications.mobilenet_v3.preprocess_input),
    ],
)
def test_images_are_scaled_as_the_network_was_trained(name, preprocess):
    image = keras.Input((32, 32, 3))
    scaling = keras.Model(image, applications._scaled(image, name, None))
    x, _ = images((32, 32, 3), 2)
    np.testing.assert_allclose(scaling(x), preprocess(255 * x), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((8, 8, 1), None, 32), ((40, 40, 3), None, 40), ((40, 40, 3), 64, 64)],
)
def test_images_are_resized_inside(shape, size, expected):
    image = keras.Input(shape)
    scaling = keras.Model(image, applications._scaled(image, "MobileNet", size))
    x, _ = images(shape, 2)
    resized = tf.image.resize(x, (expected, expected)).numpy()
    three_channels = np.broadcast_to(resized, (2, expected, expected, 3))
    np.testing.assert_allclose(scaling(x), 2 * three_channels - 1, atol=1e-4)


def test_an_application_teaches_a_convnet():
    teacher = models.application("MobileNet", (8, 8, 1), 10, trained="head")
    assert [weight.path for weight in teacher.trainable_weights] == ["logits/kernel", "logits/bias"]
    before = teacher.get_weights()
    student = models.convnet((8, 8, 1), 10, widths=(4,))
    start = student.get_weights()
    history = fit_a_step(teacher, student)
    assert history["region_loss"][0] > 0
    assert not np.array_equal(start[0], student.get_weights()[0])
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "MobileNetV9"}, "`name` must be one of .*Received: name='MobileNetV9'"),
        ({"input_shape": (8, 8, 4)}, "`input_shape` must be .*Received: input_shape=.8, 8, 4."),
        ({"trained": "body"}, "`trained` must be one of .*Received: trained='body'"),
    ],
)
def test_wrong_arguments_of_an_application(arguments, message):
    defaults = {"name": "MobileNet", "input_shape": (8, 8, 1), "num_classes": 10}
    with pytest.raises(ValueError, match=message):
        models.application(**(defaults | arguments))


def test_names_are_those_of_keras():
    names = models.application_names()
    assert {"MobileNetV2", "ResNet50", "VGG16"} <= set(names)
    assert names == sorted(names)
