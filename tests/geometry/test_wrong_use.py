"""Wrong arguments of measures."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry
from l2rkd_tf.regions import Region, Segment
from tests.geometry.helpers import curved, linear, numbers, profile


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "resnet"}, r"`teacher` must be a keras.Model.*'resnet'"),
        ({"student": keras.Sequential()}, r"`student` must be a keras.Model that has been built"),
        ({"student": linear(outputs=5)}, r"must have the same number of outputs"),
        ({"student": curved(activation="softmax")}, r"`student` must output logits"),
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
        ({"x": numbers(0, 4)}, r"`x` and `labels` must be arrays"),
        ({"x": 3.0}, r"`x` and `labels` must be arrays"),
        ({"labels": np.zeros(5)}, r"equal length.*\(6, 4\).*\(5,\)"),
        ({"x": tf.data.Dataset.from_tensors(numbers(6, 4)).repeat()}, r"`x` must be finite"),
        ({"x": tf.data.Dataset.from_tensors(1.0)}, r"`x` must be a batched dataset"),
        ({"x": tf.data.Dataset.from_tensors(numbers(6, 4)).take(0)}, r"at least one example"),
        (
            {"x": tf.data.Dataset.from_tensors(numbers(6, 4)), "labels": np.zeros(6)},
            r"`labels` must be part of the dataset",
        ),
        ({"x": np.zeros((6, 4), "int32")}, r"`inputs` must be floating-point"),
        ({"region": Segment(partner="same_class")}, r"needs labels"),
    ],
)
def test_wrong_arguments_of_a_profile(changes, message):
    with pytest.raises(ValueError, match=message):
        profile(**changes)


def test_a_region_without_a_boundary_is_refused():
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
            r"`teacher` and `student` must have at least two outputs.*\(None, 1\)",
        ),
        (
            lambda model, x: geometry.top1_agreement(linear(outputs=1), linear(outputs=1), x),
            r"`teacher` and `student` must have at least two outputs.*\(None, 1\)",
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
            r"`teacher` must output logits",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, [0]),
            r"`logits` must have shape.*\(6, 4\).*\(1,\)",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x, 0),
            r"`logits` must have shape.*one label per example",
        ),
        (
            lambda model, x: geometry.expected_calibration_error(x[:, :1], np.zeros(6)),
            r"`logits` must have shape.*at least two classes.*\(6, 1\)",
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
