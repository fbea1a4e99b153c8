"""Every wrong use ends before the first step, in a message that names the argument and a remedy."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.regions import Ball, Mixture, Patch, Segment, Simplex

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.arange(8) % 3
TOKENS = np.random.default_rng(0).integers(0, 9, size=(8, 5)).astype("int32")
TWO_NAMES = np.array(["l2", "linf"])
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(outputs=3, activation=None, inputs=4, hidden=5):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(hidden, name="hidden"),
            layers.Dense(outputs, activation=activation),
        ]
    )


def ending_in(*last):
    """A model whose graph ends in these layers or functions."""
    inputs = keras.Input((4,))
    outputs = layers.Dense(3)(inputs)
    for layer in last:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(3)(inputs)])


def of_tokens():
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )


def of_images():
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3)])


def frozen():
    model = dense()
    model.trainable = False
    return model


def sharing():
    backbone = layers.Dense(3)
    models = []
    for _ in range(2):
        inputs = keras.Input((4,))
        models.append(keras.Model(inputs, layers.Dense(3)(backbone(inputs))))
    return models


def called(model):
    model(X)
    return model


class Subclassed(keras.Model):
    def __init__(self, outputs=3, second=False):
        super().__init__()
        self.dense, self.second = layers.Dense(outputs), second

    def call(self, inputs):
        return [self.dense(inputs)] * 2 if self.second else self.dense(inputs)


def build(teacher=None, student=None, **arguments):
    return L2RKDDistiller(teacher or dense(), student or dense(), **arguments)


def fit(distiller, x=X, y=Y, loss=LOSS, compiled=True):
    """Fits, and checks that nothing was trained before the error."""
    if compiled:
        distiller.compile("sgd", loss)
    before = distiller.student.get_weights()
    try:
        distiller.fit(x, y, batch_size=4, verbose=0)
    finally:
        if compiled:
            assert int(distiller.optimizer.iterations) == 0
        for old, new in zip(before, distiller.student.get_weights(), strict=False):
            np.testing.assert_array_equal(new, old)


def change(distiller, **attributes):
    for name, value in attributes.items():
        setattr(distiller, name, value)


def same_model():
    model = dense()
    return build(model, model)


def features(**names):
    return keras.distillation.FeatureDistillation(**names)


FINITE = "must be a finite number"
LOGITS = "Pass from_logits=False, or remove the activation"
MODELS = [
    ("teacher", "must be a keras.Model", lambda: build("resnet50")),
    ("student", "must be a keras.Model", lambda: build(student=layers.Dense(3))),
    ("teacher", "load its weights first", lambda: build(Subclassed())),
    ("teacher", "load its weights first", lambda: build(keras.Sequential([layers.Dense(3)]))),
    ("student", "keras.models.clone_model", same_model),
    ("student", "must share an output that is compared", lambda: build(student=two_outputs())),
    ("student", "must share an output that is compared", lambda: build(two_outputs())),
    ("student", "has several outputs", lambda: fit(build(student=Subclassed(second=True)))),
    (
        "student",
        "must have two outputs or more",
        lambda: build(student=ending_in(layers.Reshape((3, 1)))),
    ),
    ("student", "must have the same number of outputs", lambda: build(student=dense(2))),
    (
        "student",
        "must have the same number of outputs|must have one shape",
        lambda: fit(build(student=Subclassed(2))),
    ),
    (
        "student",
        "must have the same number of outputs|must have one shape",
        lambda: fit(build(student=keras.Sequential([layers.Dense(2)]))),
    ),
    ("teacher", "inputs?.*shape", lambda: fit(build(dense(inputs=5)))),
    ("student", "student.trainable = True", lambda: fit(build(student=frozen()))),
    ("teacher", "must not share weights", lambda: build(*sharing())),
    ("teacher", "Use divergence='binary_kl'", lambda: build(dense(1), dense(1))),
    (
        "teacher",
        "Use divergence='binary_kl'",
        lambda: fit(build(called(Subclassed(1)), Subclassed(1))),
    ),
]
OUTPUTS = [
    ("teacher", LOGITS, lambda: build(dense(activation="softmax"))),
    ("student", LOGITS, lambda: build(student=dense(activation="softmax"))),
    ("student", LOGITS, lambda: build(student=dense(activation=keras.activations.softmax))),
    ("teacher", LOGITS, lambda: build(ending_in(layers.Activation("softmax")))),
    ("student", LOGITS, lambda: build(student=ending_in(layers.Softmax()))),
    ("teacher", LOGITS, lambda: build(ending_in(keras.ops.softmax))),
    ("teacher", LOGITS, lambda: build(ending_in(keras.activations.softmax))),
    ("student", LOGITS, lambda: build(student=ending_in(dense(activation="softmax", inputs=3)))),
    (
        "student",
        LOGITS,
        lambda: build(student=keras.Sequential([keras.Input((4,)), dense(activation="softmax")])),
    ),
    (
        "teacher",
        LOGITS,
        lambda: build(ending_in(layers.Softmax(), layers.Activation("linear", dtype="float32"))),
    ),
    (
        "student",
        LOGITS,
        lambda: fit(build(student=keras.Sequential([layers.Dense(3, activation="softmax")]))),
    ),
    ("teacher", LOGITS, lambda: build(dense(activation="sigmoid"), divergence="binary_kl")),
    ("teacher", "Pass from_logits=True", lambda: build(from_logits=False)),
    (
        "student",
        "Pass from_logits=True",
        lambda: build(dense(activation="softmax"), from_logits=False),
    ),
    (
        "teacher",
        "by a sigmoid at the end",
        lambda: build(dense(activation="softmax"), from_logits=False, divergence="binary_kl"),
    ),
    ("from_logits=False", "Omit it", lambda: build(from_logits=False, divergence="mse")),
    ("from_logits", "must be", lambda: build(from_logits="no")),
    ("check_finite", "must be True or False", lambda: build(check_finite="no")),
    ("check_finite", "must be True or False", lambda: build(check_finite=TWO_NAMES)),
]
NUMBERS = [
    ("hard_weight", FINITE, lambda: build(hard_weight=-0.1)),
    ("kd_weight", FINITE, lambda: build(kd_weight=np.nan)),
    ("region_weight", FINITE, lambda: build(region_weight=np.inf)),
    ("hard_weight", FINITE, lambda: build(hard_weight=True)),
    ("kd_weight", FINITE, lambda: build(kd_weight="0.9")),
    ("region_weight", FINITE, lambda: build(region_weight=None)),
    ("hard_weight", FINITE, lambda: build(hard_weight=np.float16(np.inf))),
    ("kd_weight", FINITE, lambda: build(kd_weight=np.complex64(1))),
    ("region_weight", FINITE, lambda: build(region_weight=-(10**400))),
    ("temperature", f"{FINITE} above 0", lambda: build(temperature=0)),
    ("temperature", f"{FINITE} above 0", lambda: build(temperature=1e-60)),
    ("temperature", f"{FINITE} above 0", lambda: change(build(), temperature=-1.0)),
    ("kd_weight", FINITE, lambda: change(build(), kd_weight=-1.0)),
    (
        "hard_weight",
        "Set one of them above 0",
        lambda: fit(build(hard_weight=0, kd_weight=0, region_weight=0)),
    ),
    ("num_region_points", "Use region_weight=0 for none", lambda: build(num_region_points=0)),
    ("num_region_points", "integer of at least 1", lambda: build(num_region_points=1.5)),
    ("replace_fraction", "between 0 and 1, or None", lambda: build(replace_fraction=0)),
    ("replace_fraction", "between 0 and 1, or None", lambda: build(replace_fraction=1)),
    ("replace_fraction", "between 0 and 1, or None", lambda: build(replace_fraction=1.5)),
    (
        "num_region_points",
        "must be 1 when `replace_fraction`",
        lambda: build(replace_fraction=0.5, num_region_points=2),
    ),
    ("seed", "integer from 0", lambda: build(seed=-1)),
    ("seed", "integer from 0", lambda: build(seed=1.5)),
]
REGIONS = [
    ("radius", "at most 1", lambda: Segment(radius=2)),
    ("radius", "above 0", lambda: Patch(radius=0)),
    ("radius", "above 0", lambda: Ball(-0.1)),
    ("radius", "above 0", lambda: Ball(np.inf)),
    ("radius", "above 0", lambda: change(Simplex(), radius=0)),
    ("radius", "regions\\[i\\].radius", lambda: change(Mixture([Segment()]), radius=0.5)),
    ("alpha", "positive number, or None", lambda: Segment(alpha=0)),
    ("alpha", "positive number, or None", lambda: Segment(alpha="uniform")),
    ("partner", "must be one of \\('random', 'nearest'", lambda: Segment(partner="closest")),
    ("norm", "must be one of \\('l2', 'linf'", lambda: Ball(0.1, norm="l1")),
    ("norm", "must be one of \\('l2', 'linf'", lambda: Ball(0.1, norm=["l2"])),
    ("norm", "must be one of \\('l2', 'linf'", lambda: Ball(0.1, norm=TWO_NAMES)),
    ("partner", "must be one of \\('random', 'nearest'", lambda: Segment(partner=TWO_NAMES)),
    ("num_partners", "at least 1", lambda: Simplex(num_partners=0)),
    ("grid", "at least 1", lambda: Patch(grid=0)),
    ("grid", "at least 1", lambda: Patch(grid=(2, 2.5))),
    ("grid", "at least 1", lambda: Patch(grid=())),
    ("regions", "at least one region", lambda: Mixture([])),
    ("regions", "at least one region", lambda: Mixture(Segment())),
    ("regions", "at least one region", lambda: Mixture([Segment, Ball(0.1)])),
    ("weights", "2 non-negative numbers", lambda: Mixture([Segment(), Patch()], weights=[1, -1])),
    ("weights", "2 non-negative numbers", lambda: Mixture([Segment(), Patch()], weights=[1])),
    ("weights", "2 non-negative numbers", lambda: Mixture([Segment(), Patch()], weights=["a", 1])),
    ("weights", "1 non-negative numbers", lambda: Mixture([Segment()], weights=[10**400])),
    ("weights", "1 non-negative numbers", lambda: Mixture([Segment()], weights=[True])),
    ("weights", "2 non-negative numbers", lambda: Mixture([Segment(), Ball(1)], [1e308, 1e308])),
    ("weights", "not all be zero", lambda: Mixture([Segment(), Patch()], weights=[0, 0])),
    ("region", "Did you mean 'patch'", lambda: build(region="patches")),
    ("region", "Did you mean `Segment\\(\\)`", lambda: build(region=Segment)),
    ("region", "such as regions.Segment\\(\\)", lambda: change(build(), region=None)),
    ("region_targets", "must be one of", lambda: build(region_targets="student")),
    ("divergence", "must be one of", lambda: build(divergence="js")),
    ("divergence", "must be a name, or a dict", lambda: build(divergence=TWO_NAMES)),
    (
        "region_targets='interpolated'",
        "Use region_targets='teacher'",
        lambda: build(region=Ball(0.1), region_targets="interpolated"),
    ),
    (
        "region_targets='interpolated'",
        "Use region_targets='teacher'",
        lambda: build(region=Mixture([Segment(), Ball(0.1)]), region_targets="interpolated"),
    ),
    (
        "region_targets='interpolated'",
        "Use region_targets='teacher'",
        lambda: change(build(region_targets="interpolated"), region=Ball(0.1)),
    ),
    ("region=Patch(...)", "Use regions.Segment\\(\\)", lambda: fit(build(region=Patch()))),
    (
        "grid",
        "more cells than the input has positions",
        lambda: fit(
            build(of_images(), of_images(), region=Patch(9)),
            np.zeros((8, 8, 8, 1), "float32"),
        ),
    ),
    ("inputs", "Swap", lambda: fit(build(of_tokens(), of_tokens(), region=Segment()), TOKENS)),
    (
        "inputs",
        "cast integers",
        lambda: fit(build(region=Segment()), np.arange(32).reshape(8, 4)),
    ),
]
TRAINING = [
    (
        "partner='same_class'",
        "or use partner='random'",
        lambda: fit(build(region=Segment(partner="same_class"), hard_weight=0), y=None),
    ),
    ("y", "or set hard_weight=0", lambda: fit(build(), y=None)),
    ("loss", "Pass a Keras loss, or set hard_weight=0", lambda: fit(build(), loss=None)),
    ("compile()", "must call", lambda: fit(build(), compiled=False)),
]
METHODS = [
    (
        "distillation_losses",
        "must be one of",
        lambda: build(distillation_losses="features"),
    ),
    (
        "distillation_losses",
        "must be an object of DistillationLoss",
        lambda: build(distillation_losses=[LOSS]),
    ),
    (
        "distillation_loss_weights",
        "one entry for each",
        lambda: build(distillation_losses=features(), distillation_loss_weights=[1, 2]),
    ),
    (
        "distillation_loss_weights",
        "one entry for each",
        lambda: build(distillation_loss_weights=[1]),
    ),
    (
        "distillation_loss_weights",
        "finite numbers not below 0",
        lambda: build(distillation_losses=features(), distillation_loss_weights=-1),
    ),
    (
        "distillation_loss_weights",
        "finite numbers not below 0",
        lambda: build(distillation_losses=features(), distillation_loss_weights=["1"]),
    ),
    (
        "distillation_loss_weights",
        "finite numbers not below 0",
        lambda: build(distillation_losses=features(), distillation_loss_weights=10**400),
    ),
    ("distillation_losses_at", "must be one of", lambda: build(distillation_losses_at="nowhere")),
    ("features", "must be a callable", lambda: build(features="hidden")),
    (
        "distillation_losses",
        "hidden",
        lambda: build(distillation_losses=features(teacher_layer_name="conv1")),
    ),
    (
        "distillation_losses",
        "hidden",
        lambda: build(distillation_losses=features(student_layer_name="conv1")),
    ),
    (
        "distillation_losses",
        "Functional",
        lambda: build(
            student=Subclassed(), distillation_losses=features(student_layer_name="dense")
        ),
    ),
    (
        "distillation_losses",
        "shape",
        lambda: fit(
            build(
                student=dense(hidden=7),
                distillation_losses=features(
                    teacher_layer_name="hidden", student_layer_name="hidden"
                ),
            )
        ),
    ),
]
CASES = MODELS + OUTPUTS + NUMBERS + REGIONS + TRAINING + METHODS


@pytest.mark.parametrize(
    ("argument", "remedy", "use"),
    CASES,
    ids=[f"line{use.__code__.co_firstlineno}-{argument}" for argument, _, use in CASES],
)
def test_wrong_use_is_refused_in_clear_words(argument, remedy, use):
    with pytest.raises(ValueError) as error:
        use()
    message = str(error.value)
    assert f"`{argument}`" in message
    assert re.search(remedy, message, re.DOTALL)


@pytest.mark.parametrize(
    "setting", ["region_targets", "num_region_points", "replace_fraction", "divergence", "seed"]
)
def test_settings_of_a_traced_step_cannot_be_changed(setting):
    distiller = build()
    with pytest.raises(AttributeError, match=setting):
        setattr(distiller, setting, 2)


def with_an_optional_input():
    """A model of two inputs, of which the second may be `None`."""
    first = keras.Input((4,), name="a")
    second = keras.Input((4,), name="b", optional=True)
    return keras.Model({"a": first, "b": second}, layers.Dense(3)(FirstOnly()([first, second])))


class FirstOnly(layers.Layer):
    """Leaves out its second input where there is none."""

    def call(self, inputs):
        first, second = inputs
        return first if second is None else first + second

    def compute_output_shape(self, shapes):
        return shapes[0]


def test_an_optional_input_that_is_not_there():
    distiller = L2RKDDistiller(with_an_optional_input(), with_an_optional_input())
    distiller.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="`x` must hold a tensor for each input.*None.*'b'"):
        distiller.fit({"a": X, "b": None}, Y, verbose=0)
    distiller.fit({"a": X, "b": X}, Y, verbose=0)


def test_data_with_another_axis_than_before():
    distiller = L2RKDDistiller(dense(), dense())
    distiller.compile("sgd", LOSS)
    distiller.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match=r"known number of axes.*call compile\(\) again"):
        distiller.fit(X[..., None], Y, verbose=0)
    distiller.compile("sgd", LOSS)
    distiller.fit(X[..., None], Y, verbose=0)


@pytest.mark.parametrize("argument", ["x", "validation_data"])
def test_no_examples(argument):
    distiller = L2RKDDistiller(dense(), dense())
    distiller.compile("sgd", LOSS)
    data = (X[:0], Y[:0]) if argument == "x" else (X, Y)
    options = {"validation_data": (X[:0], Y[:0])} if argument == "validation_data" else {}
    with pytest.raises(ValueError, match=f"`{argument}` must have at least one example"):
        distiller.fit(*data, **options, verbose=0)
