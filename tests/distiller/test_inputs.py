"""Several inputs, other dtypes, and images of uint8."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, regions
from l2rkd_tf.distiller.batch import draw_batch
from tests.distiller.helpers import compiled, fit_once, linear_pair, network, table
from tests.helpers import CLASSES, assert_equal_weights, images, linear, random_weights


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


def of_words(is_encoded, weights):
    """A model of words: their numbers, or their one-hot encodings."""
    if is_encoded:
        first = [keras.Input((6, 5)), layers.Dense(3, use_bias=False)]
    else:
        first = [keras.Input((6,), dtype="int32"), layers.Embedding(5, 3)]
    model = keras.Sequential([*first, layers.GlobalAveragePooling1D(), layers.Dense(CLASSES)])
    model.set_weights(weights)
    return model


def test_token_ids_train_as_their_one_hot_encodings():
    rng = np.random.default_rng(8)
    ids, y = rng.integers(0, 5, (13, 6)).astype("int32"), rng.integers(0, CLASSES, 13)
    shapes = (5, 3), (3, CLASSES), (CLASSES,)
    weights = [[rng.normal(size=shape) for shape in shapes] for _ in range(2)]
    encoded = np.eye(5, dtype="float32")[ids]
    students = []
    for x, region in ((ids, None), (encoded, regions.Swap())):
        teacher, student = (of_words(x is encoded, each) for each in weights)
        distiller = compiled(L2RKDDistiller(teacher, student, region=region, seed=0))
        assert isinstance(distiller.region, regions.Swap)
        history = fit_once(distiller, x, y)
        assert history["region_loss"] != history["kd_loss"]
        students.append(student)
    assert_equal_weights(*students, atol=1e-6)


@pytest.mark.parametrize("make", [regions.Swap, regions.Segment])
def test_ids_keep_their_dtype_in_a_batch_and_fixed_series_their_padding(make):
    rows = tf.range(6)
    series = tf.where(tf.range(6) < rows[:, None], 1.0, 0.0)[..., None]
    inputs = {"age": tf.cast(rows, tf.float32), "fixed": series, "ids": rows, "series": series}
    options = {"seed": [0, 4], "num_points": 1, "mask_values": (None, 0.0, None, 0.0)}
    drawn = draw_batch(make(fixed=("fixed",)), inputs, None, None, **options).region.inputs
    assert drawn["ids"].dtype == tf.int32 and (drawn["ids"] != rows).numpy().any()
    np.testing.assert_array_equal(drawn["fixed"], series)
    assert (drawn["series"] != series).numpy().any()
    assert set(drawn["series"].numpy().ravel()) == {0.0, 1.0}
