"""Measures on all kinds of data and models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry, teacher_cache
from l2rkd_tf.features import model_outputs
from l2rkd_tf.regions import Ball, Patch, Segment
from tests.geometry.helpers import assert_same, curved, logits, numbers
from tests.references import losses as reference


def test_datasets_and_arrays_agree():
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


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("make", [teacher_cache.cache_teacher, teacher_cache.cache_regions])
def test_cached_data_count_as_their_inputs(make, labelled):
    teacher, student, x = curved(1), curved(2), numbers(20, 4)
    labels = (np.arange(20) % 3,) if labelled else ()
    data = tf.data.Dataset.from_tensor_slices((x, *labels)).batch(6)
    region = Segment(partner="same_class" if labelled else "random")
    found, expected = (
        geometry.fidelity_profile(teacher, student, given, region, batch_size=6)
        for given in (make(data, teacher, shuffle=False, verbose=False), data)
    )
    assert_same(found, expected)
    assert geometry.top1_agreement(teacher, student, x) == geometry.top1_agreement(
        teacher, student, make(data, teacher, shuffle=False, verbose=False)
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


class WholeGreyLevels(keras.layers.Layer):
    """What a model that declares uint8 sees of floats."""

    def call(self, inputs):
        return keras.ops.clip(keras.ops.round(inputs), 0, 255)


def test_models_of_uint8_inputs_see_region_points_rounded_to_grey_levels():
    def model(seed, first):
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
        return keras.Sequential([*first, *layers])

    x = np.random.default_rng(0).choice([0, 1, 254, 255], (30, 4, 4, 1)).astype("uint8")
    found, expected = (
        geometry.fidelity_profile(
            model(1, first()), model(2, first()), x, Ball(9.0, norm="gaussian")
        )
        for first in (
            lambda: [keras.Input((4, 4, 1), dtype="uint8")],
            lambda: [keras.Input((4, 4, 1)), WholeGreyLevels()],
        )
    )
    assert_same(found, expected)


def test_floats_are_whole_grey_levels_where_a_model_declares_uint8():
    images, numbers = keras.Input((3,), dtype="uint8", name="b"), keras.Input((1,), name="a")
    both = keras.layers.Concatenate()([keras.ops.cast(images, "float32"), numbers])
    given = tf.constant([[-7.0, 0.6, 300.0]]), tf.constant([[0.6]])
    for structure in ((images, numbers), {"b": images, "a": numbers}):
        model = keras.Model(structure, both)
        fed = dict(zip("ba", given, strict=True)) if isinstance(structure, dict) else given
        np.testing.assert_allclose(model_outputs(model, fed), [[0.0, 1.0, 255.0, 0.6]])


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
