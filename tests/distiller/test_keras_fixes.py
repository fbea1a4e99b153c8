"""Training under strategies of TensorFlow in the documented Keras way, and what is refused."""

import functools
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, regions
from l2rkd_tf.distiller import keras_fixes, positions
from l2rkd_tf.distiller.keras_fixes import DistributedModel
from tests.conftest import KERAS_INITIALIZE
from tests.helpers import (
    TokenClassifier,
    assert_equal_weights,
    compiled,
    convnet,
    cross_entropy,
    few,
    images,
    two_replicas,
)

STRATEGIES = {
    "default": tf.distribute.get_strategy,
    "one device": lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
    "mirrored": two_replicas,
}


def table(count):
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, 5)).astype("float32"), rng.integers(0, 3, count)


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, activation="tanh"), layers.Dense(3)]
    )


def distiller_of(strategy, make_student=lambda: network(1), **options):
    with STRATEGIES[strategy]().scope():
        distiller = L2RKDDistiller(
            network(0), make_student(), region=regions.Ball(1e-6), seed=0, **options
        )
        distiller.compile(keras.optimizers.SGD(0.1), cross_entropy(), metrics=["accuracy"])
    return distiller


@functools.cache
def results_of(strategy, count):
    """History, evaluation, predictions and weights of a run."""
    x, y = table(count)
    distiller = distiller_of(strategy)
    history = distiller.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, validation_data=(x, y), verbose=0
    ).history
    evaluation = distiller.evaluate(x, y, batch_size=8, return_dict=True, verbose=0)
    predictions = distiller.predict(x, batch_size=8, verbose=0)
    return history, evaluation, predictions, distiller.student.get_weights()


def test_slices_of_outputs_still_lose_their_mask():
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.Masking(), keras.layers.Dense(1)])
    outputs = model(tf.ones((4, 3, 2)))
    assert keras_fixes.mask_of(outputs).shape == (4, 3)
    assert keras_fixes.mask_of(outputs[:2]) is None
    assert keras.ops.shape(keras_fixes.mask_of(positions.rows(outputs, slice(2)))) == (2, 3)


@pytest.mark.parametrize(
    "strategy", [pytest.param("one device", marks=pytest.mark.stress), "mirrored"]
)
@pytest.mark.parametrize(
    "count",
    [pytest.param(15, marks=pytest.mark.stress), pytest.param(9, marks=pytest.mark.stress), 7],
    ids=["8+7", "8+1", "7 in one batch"],
)
def test_fit_evaluate_and_predict_are_those_of_one_device(strategy, count):
    results = results_of("default", count), results_of(strategy, count)
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), *results
    )
    assert "val_accuracy" in results[1][0] and "val_kd_loss" not in results[1][0]


@pytest.mark.parametrize("strategy", few(("default", "mirrored"), STRATEGIES))
def test_a_pass_over_the_data_is_not_taken_before_training(strategy):
    passes = []

    def generate():
        passes.append(len(passes))
        yield from zip(*table(4), strict=True)

    spec = (tf.TensorSpec((5,)), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(generate, output_signature=spec).batch(4)
    distiller_of(strategy).fit(data, epochs=2, verbose=0)
    assert len(passes) == 2


def test_fit_makes_no_more_datasets_than_keras(monkeypatch):
    make, numbers = tf.data.Dataset.from_tensors, []
    for model in (network(1), L2RKDDistiller(network(0), network(1), seed=0)):
        made = []

        def noted(*args, made=made, **kwargs):
            made.append(make(*args, **kwargs))
            return made[-1]

        monkeypatch.setattr(tf.data.Dataset, "from_tensors", noted)
        compiled(model, run_eagerly=True).fit(*table(8), batch_size=4, verbose=0)
        numbers.append(len(made))
    assert numbers[0] == numbers[1] > 0


class NotedSteps:
    """Counts how often the step of a model is traced."""

    traces = 0

    def train_step(self, data):
        self.traces += 1
        return super().train_step(data)


class NotedDistiller(NotedSteps, L2RKDDistiller):
    """A distiller whose traces are counted."""


class NotedModel(NotedSteps, keras.Sequential):
    """A model of Keras's, which traces its first step twice: it makes variables in it."""


@pytest.mark.parametrize("by_batch", [False, True])
def test_the_step_is_traced_once_where_that_of_keras_is_traced_twice(by_batch, monkeypatch):
    monkeypatch.setattr(keras.Variable, "_initialize", KERAS_INITIALIZE)
    models = NotedDistiller(network(0), network(1), seed=0), NotedModel(network(1).layers)
    for model, traces in zip(models, (1, 2), strict=True):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"], weighted_metrics=["accuracy"])
        if by_batch:
            model.train_on_batch(*table(8))
        else:
            model.fit(*table(8), verbose=0)
        assert model.traces == traces


@pytest.mark.parametrize("strategy", few(("default", "mirrored"), STRATEGIES))
def test_unbuilt_students_of_integers_train(strategy):
    x, y = np.arange(12).reshape(4, 3) % 9, np.arange(4) % 3
    with STRATEGIES[strategy]().scope():
        teacher = TokenClassifier()
        teacher(x)
        distiller = compiled(
            L2RKDDistiller(teacher, TokenClassifier(), region_weight=0.0, seed=0), rate=0.0
        )
    hard_loss = distiller.fit(x, y, batch_size=4, verbose=0).history["hard_loss"][0]
    np.testing.assert_allclose(hard_loss, distiller.loss(y, distiller.student(x)), rtol=1e-5)


@pytest.mark.parametrize(
    ("repair", "broken"),
    [
        ("_maybe_symbolic_build", "a first batch of unequal shares"),
        ("_get_metrics_result_or_logs", "the evaluation of unequal shares"),
    ],
)
def test_keras_still_needs_the_repair(monkeypatch, repair, broken):
    monkeypatch.delattr(DistributedModel, repair)
    x, y = table(7)
    if repair == "_maybe_symbolic_build":
        with pytest.raises(Exception, match="(?i)shape|size|dimension"):
            distiller_of("mirrored").fit(x, y, batch_size=7, verbose=0)
    else:
        losses = [
            distiller_of(name).evaluate(x, y, batch_size=7, verbose=0, return_dict=True)["loss"]
            for name in ("default", "mirrored")
        ]
        assert abs(losses[0] - losses[1]) > 1e-4


@pytest.mark.parametrize(
    "read",
    [keras_fixes.compiled_loss_object, keras_fixes.loss_tracker, keras_fixes.compiled_metrics],
)
def test_keras_has_no_public_name_for_what_is_read(read):
    model = network(0)
    model.compile("sgd", cross_entropy(), metrics=["accuracy"])
    model.fit(*table(4), verbose=0)
    public = [name for name in dir(model) if not name.startswith("_")]
    assert [name for name in public if getattr(model, name, None) is read(model)] == []


def test_the_public_compute_loss_still_adds_regularization():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3, kernel_regularizer="l2")])
    model.compile("sgd", cross_entropy())
    x, y = table(4)
    model.fit(x, y, verbose=0)
    outputs = model(x)
    expected = cross_entropy()(y, outputs)
    np.testing.assert_allclose(
        keras_fixes.compiled_loss(model, y, outputs, None), expected, rtol=1e-6
    )
    assert model.compute_loss(x, y, outputs) > expected + 1e-3


def test_the_public_strategy_of_a_model_does_not_tell_whether_it_was_made_in_a_scope():
    assert network(0).distribute_strategy is tf.distribute.get_strategy()


# What is refused or warned of.


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"jit_compile": True}, r"`jit_compile` must be 'auto' or False.*jit_compile=True on 2"),
        ({"steps_per_execution": 3}, r"`steps_per_execution` must be 1.*=3 on 2 replicas"),
    ],
)
@pytest.mark.stress
def test_what_keras_cannot_run_on_replicas_is_refused(option, message):
    with STRATEGIES["mirrored"]().scope():
        distiller = compiled(L2RKDDistiller(network(0), network(1), seed=0), **option)
    for act in (distiller.fit, distiller.evaluate, distiller.train_on_batch):
        with pytest.raises(ValueError, match=message):
            act(*table(6))
    assert distiller.optimizer.iterations == 0
    compiled(distiller_of("one device"), **option).fit(*table(6), verbose=0)


# In a process of its own, since the usual way to reduce serves one strategy of a process only.
PLAIN_KERAS_ON_REPLICAS = """
import keras, numpy as np, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
for options in ({"jit_compile": True}, {"steps_per_execution": 3}):
    try:
        with model.distribute_strategy.scope():
            model.compile("sgd", "mse", **options)
        model.fit(np.ones((12, 5)), np.ones(12), batch_size=4, verbose=0)
        print("trains with", options)
    except Exception as error:
        print("fails with", options)
"""


@pytest.mark.stress
def test_keras_still_cannot_run_it_on_replicas():
    run = subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS_ON_REPLICAS], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [
        "fails with {'jit_compile': True}",
        "fails with {'steps_per_execution': 3}",
    ]


def test_separate_statistics_of_batch_normalization_are_warned_of():
    def normalized(synchronized):
        return keras.Sequential(
            [
                keras.Input((5,)),
                layers.BatchNormalization(synchronized=synchronized, name="first"),
                keras.Sequential(
                    [layers.BatchNormalization(synchronized=synchronized, name="inner")]
                ),
                layers.Dense(3),
            ]
        )

    x, y = table(4)
    with pytest.warns(UserWarning, match=r"\['first', 'inner'\].*synchronized=True"):
        distiller_of("mirrored", lambda: normalized(False)).train_on_batch(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distiller_of("mirrored", lambda: normalized(True)).train_on_batch(x, y)
        distiller_of("default", lambda: normalized(False)).train_on_batch(x, y)


def test_parameter_servers_are_refused(monkeypatch):
    class Servers(type(tf.distribute.get_strategy())):
        pass

    monkeypatch.setattr(tf.distribute, "ParameterServerStrategy", Servers)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: Servers.__new__(Servers))
    with pytest.raises(ValueError, match="MirroredStrategy.*Received: Servers"):
        L2RKDDistiller(network(0), network(1))


# NaN or Inf.


def broken_data(where, bad=np.nan):
    x, y = table(24)
    if where == "x":
        x[17, 3] = bad  # in batch 2 of 8 examples
    return x, y


class Infinite(keras.layers.Layer):
    """Gives an infinite logit where the first feature is large."""

    def call(self, inputs):
        large = inputs[:, :1] > 100.0
        return tf.where(large, np.inf, 0.0) + tf.zeros((1, 3))


@pytest.mark.parametrize(
    ("strategy", "bad"),
    [
        ("mirrored", np.nan),
        ("default", np.inf),
        pytest.param("mirrored", np.inf, marks=pytest.mark.stress),
        pytest.param("one device", np.nan, marks=pytest.mark.stress),
    ],
)
def test_inputs_that_are_not_finite_end_training(strategy, bad):
    x, y = broken_data("x", bad)
    message = "NaN or Inf in the inputs `x`.* at step 2, counted from 0"
    with pytest.raises(FloatingPointError, match=message):
        distiller_of(strategy).fit(x, y, batch_size=8, shuffle=False, verbose=0)
    history = distiller_of(strategy, check_finite=False).fit(x, y, batch_size=8, verbose=0).history
    assert not np.isfinite(history["loss"][0])
    assert set(history) == {"accuracy", "hard_loss", "kd_loss", "loss", "region_loss"}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.stress),
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 2},
    ],
    ids=str,
)
def test_the_step_is_named_in_every_mode(options):
    x, y = broken_data("x")
    distiller = compiled(distiller_of("default"), **options)
    with pytest.raises(FloatingPointError, match="`x`.*outputs.*hard_loss.*`loss` at step 2"):
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)


def test_only_the_first_cause_is_named():
    x, y = table(8)
    distiller = distiller_of("default")
    with np.errstate(all="ignore"):
        distiller.student.set_weights([1e38 * w for w in distiller.student.get_weights()])
    with pytest.raises(FloatingPointError, match="step 0") as error:
        distiller.train_on_batch(x, y)
    assert "`x`" not in str(error.value) and "teacher's" not in str(error.value)
    assert "`kd_loss`" in str(error.value)


def test_a_teacher_that_is_not_finite_is_named():
    x, y = table(8)
    x[3, 0] = 1000.0
    teacher = keras.Sequential([keras.Input((5,)), Infinite()])
    distiller = compiled(L2RKDDistiller(teacher, network(1), seed=0))
    with pytest.raises(FloatingPointError, match="the teacher's outputs") as error:
        distiller.train_on_batch(x, y)
    assert "`x`" not in str(error.value)


def test_training_continues_after_the_cause_is_gone():
    x, y = table(8)
    distiller = distiller_of("default")
    weights = distiller.student.get_weights()
    with pytest.raises(FloatingPointError):
        distiller.train_on_batch(x * np.nan, y)
    distiller.student.set_weights(weights)
    distiller.reset_metrics()  # Keras before 3.15 leaves them as they are between batches
    assert np.isfinite(distiller.train_on_batch(x, y, return_dict=True)["loss"])


def test_integers_need_no_check():
    x, y = images(8)
    x = (255 * x).astype("uint8")
    logs = compiled(L2RKDDistiller(convnet(0), convnet(1), seed=0)).train_on_batch(x, y)
    assert np.all(np.isfinite(logs))


def test_equal_weights_with_and_without_the_check():
    x, y = table(16)
    students = []
    for check in (True, False):
        distiller = distiller_of("default", check_finite=check)
        distiller.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(*students)


def test_keras_has_no_public_name_for_the_place_of_a_variable():
    optimizer = keras.optimizers.SGD()
    variables = network(0).trainable_variables
    optimizer.build(variables)
    assert [keras_fixes.variable_index(optimizer, variable) for variable in variables] == [
        0,
        1,
        2,
        3,
    ]
    public = {name for name in dir(optimizer) if not name.startswith("_")}
    assert not {name for name in public if "index" in name}


def test_keras_has_no_public_name_for_averages_of_weights():
    model = network(0)
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), cross_entropy())
    model.train_on_batch(*table(4))  # the average starts with the weights after it
    before = model.trainable_variables[0].numpy()
    model.train_on_batch(*table(4))
    after = model.trainable_variables[0].numpy()
    average = keras_fixes.average_of_weight(model.optimizer, model.trainable_variables[0])
    expected = (before + after) / 2
    np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)
    keras_fixes.swap_averages(model)
    np.testing.assert_allclose(model.trainable_variables[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(average, after, rtol=1e-5, atol=1e-6)
    assert keras_fixes.average_of_weight(keras.optimizers.SGD(), None) is None
    for public in (model.optimizer, keras.callbacks.SwapEMAWeights()):
        names = {name for name in dir(public) if not name.startswith("_")}
        assert not {name for name in names if "average" in name or "swap_var" in name}


def test_keras_has_no_public_name_for_layers_within_layers():
    attention = keras.layers.MultiHeadAttention(2, 4)
    attention(np.zeros((1, 3, 4)), np.zeros((1, 3, 4)))
    within = keras_fixes.layers_within(attention)
    assert within[0] is attention
    assert {"query", "key", "value"} < {layer.name for layer in within}
    public = {name for name in dir(attention) if not name.startswith("_")}
    assert not {name for name in public if "layers" in name}
