"""The teacher's cache with everything else: the student's updates are those of a live teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, callbacks, methods
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher
from tests.helpers import (
    CLASSES,
    assert_equal_weights,
    compiled,
    convnet,
    cross_entropy,
    few,
    images,
    run_on_two_workers,
    two_replicas,
    under_policy,
)
from tests.programs.cache_replicas import CACHES, train

EXAMPLES, BATCH, FEATURES = 10, 4, 4  # the last batch of a pass has 2 examples
QUIET = {"verbose": False}
INTERPOLATED = {"region_targets": "interpolated"}


def table():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, EXAMPLES)


def network(seed, activation=None, policy="float32"):
    def make():
        keras.utils.set_random_seed(seed)
        hidden = layers.Dense(5, activation="tanh", name="hidden")
        last = layers.Dense(CLASSES, activation=activation)
        return keras.Sequential([keras.Input((FEATURES,)), hidden, last])

    return under_policy(policy, make)


def of_two_inputs(seed, structure):
    keras.utils.set_random_seed(seed)
    inputs = [keras.Input((FEATURES,), name="a"), keras.Input((2,), name="b")]
    outputs = layers.Dense(CLASSES)(layers.Concatenate()(inputs))
    return keras.Model(structure(inputs), outputs)


def as_dict(pair):
    return dict(zip("ab", pair, strict=True))


def batched(*components, size=BATCH):
    return tf.data.Dataset.from_tensor_slices(components).batch(size)


def assert_same_training(make, data, arguments, cache=(), atol=1e-6, fit=(), **options):
    """Trains with the teacher, and with its cache in its place; step by step, which is faster.

    Args:
        make: Function of a seed that makes a model.
        data: Dataset without teacher.
        arguments: Arguments of the distiller.
        cache: Arguments of `cache_teacher`.
        atol: Largest difference of an update and of a log, in addition to 1e-5 of their sizes.
        fit: Arguments of `fit`.
        **options: Arguments of `compile`.
    """
    teacher, students, logs = make(0), [make(1), make(1)], []
    before = students[0].get_weights()
    cached = cache_teacher(data, teacher, shuffle=False, **dict(cache), **QUIET)
    options = {"loss": cross_entropy(), "run_eagerly": True, **options}
    for student, asked, elements in zip(students, (teacher, None), (data, cached), strict=True):
        distiller = L2RKDDistiller(asked, student, seed=3, **arguments)
        distiller.compile(keras.optimizers.SGD(0.1), **options)
        logs.append(distiller.fit(elements, verbose=0, **dict(fit)).history)
    live, other = ([w - b for w, b in zip(s.get_weights(), before, strict=True)] for s in students)
    assert max(np.abs(update).max() for update in live) > 1e-3
    for one, update in zip(live, other, strict=True):
        np.testing.assert_allclose(update, one, rtol=1e-5, atol=atol)
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-5, atol=atol, err_msg=name)


# Losses, weights and outputs.

X, Y = table()
ONE_HOT = np.eye(CLASSES, dtype="float32")[Y]
WEIGHTS = np.linspace(0.2, 3.0, EXAMPLES, dtype="float32")
PROBABILITIES = {"loss": keras.losses.SparseCategoricalCrossentropy()}
BINARY = {"loss": keras.losses.BinaryCrossentropy(from_logits=True)}

IN_A_GRAPH = {"run_eagerly": False}

# Data, arguments of the distiller, and those of `compile` and `fit`.
CASES = {
    "class weights": ((X, Y), {}, {"fit": {"class_weight": {0: 0.5, 1: 1.0, 2: 3.0}}}),
    "example weights": ((X, Y, WEIGHTS), {"num_region_points": 2}, {"weighted_metrics": ["acc"]}),
    "weights, replaced": ((X, Y, WEIGHTS), {"replace_fraction": 0.5}, {}),
    "squares": ((X, ONE_HOT, WEIGHTS), {"divergence": "mse"}, {"loss": "mse"}),
    "binary": ((X, ONE_HOT), {"divergence": "binary_kl"}, BINARY),
    "no labels": ((X,), {"hard_weight": 0.0}, {"loss": None}),
    "executions": ((X, Y), {"replace_fraction": 0.5}, IN_A_GRAPH | {"steps_per_execution": 2}),
    "methods": ((X, Y), {"distillation_losses": [methods.DKD(), methods.DIST()]}, {}),
    "loss of Keras": (
        (X, Y),
        {"distillation_losses": keras.distillation.LogitsDistillation()},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_that_with_a_live_teacher(case):
    data, arguments, options = CASES[case]
    assert_same_training(network, batched(*data), INTERPOLATED | arguments, **options)


@pytest.mark.parametrize(
    ("activation", "divergence", "y", "loss"),
    [
        ("softmax", "kl", Y, keras.losses.SparseCategoricalCrossentropy()),
        ("sigmoid", "binary_kl", ONE_HOT, keras.losses.BinaryCrossentropy()),
    ],
)
def test_probabilities_train_as_those_of_a_live_teacher(activation, divergence, y, loss):
    arguments = {**INTERPOLATED, "from_logits": False, "divergence": divergence}
    assert_same_training(
        lambda seed: network(seed, activation), batched(X, y), arguments, loss=loss
    )


@pytest.mark.stress
@pytest.mark.parametrize("case", ["example weights", "weights, replaced", "methods"])
def test_compiled_training_is_that_with_a_live_teacher(case):
    data, arguments, options = CASES[case]
    options = options | IN_A_GRAPH | {"jit_compile": True}
    assert_same_training(network, batched(*data), INTERPOLATED | arguments, **options)


# Inputs and precision.


@pytest.mark.parametrize("options", [INTERPOLATED, {"region_weight": 0.0}])
def test_whole_grey_levels_train_as_with_a_live_teacher(options):
    x, y = images(EXAMPLES)
    data = batched((x * 255).astype("uint8"), y)
    cached = cache_teacher(data, convnet(0), **QUIET)
    assert cached.element_spec[0].inputs.dtype == tf.uint8

    def make(seed):
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), convnet(seed)])

    assert_same_training(make, data, options, atol=1e-5)


@pytest.mark.parametrize("structure", [as_dict, tuple], ids=["dict", "tuple"])
def test_several_inputs_train_as_with_a_live_teacher(structure):
    pair = structure([X, X[:, :2] ** 2])
    make = lambda seed: of_two_inputs(seed, structure)  # noqa: E731
    assert_same_training(make, batched(pair, Y), INTERPOLATED | {"num_region_points": 2})


def test_lists_of_arrays_may_carry_outputs():
    pair = [X, X[:, :2] ** 2]
    teacher, students = of_two_inputs(0, list), [of_two_inputs(1, list) for _ in range(2)]
    known = CachedInputs(pair, teacher.predict(pair, verbose=0))
    options = {"sample_weight": WEIGHTS, "batch_size": BATCH, "shuffle": False, "verbose": 0}
    for asked, student, x in zip((teacher, None), students, (pair, known), strict=True):
        distiller = compiled(
            L2RKDDistiller(asked, student, seed=3, **INTERPOLATED), run_eagerly=True
        )
        distiller.fit(x, Y, **options)
    assert_equal_weights(*students, atol=1e-6)


@pytest.mark.parametrize("policies", [("float32", "mixed_float16"), ("mixed_float16",) * 2])
def test_mixed_precision_trains_as_with_a_live_teacher(policies):
    # Outputs of a teacher in half precision depend on how its graph was compiled.
    atol = 1e-6 if policies[0] == "float32" else 2e-3
    assert_same_training(
        lambda seed: network(seed, policy=policies[min(seed, 1)]),
        batched(X, Y, WEIGHTS),
        INTERPOLATED,
        atol=atol,
    )


@pytest.mark.covering
@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("method", [None, methods.DKD])
def test_half_precision_of_the_cache_changes_updates_only_by_rounding(activation, method):
    arguments = INTERPOLATED | {"from_logits": activation is None}
    if method:
        arguments["distillation_losses"] = method()
    # Outputs of size one are rounded by 2^-12; six steps of 0.1 add up what comes of it.
    assert_same_training(
        lambda seed: network(seed, activation),
        batched(X, Y),
        arguments,
        cache={"dtype": "float16"},
        atol=2e-3,
        **({} if activation is None else PROBABILITIES),
    )


# Methods of inner features.

INNER = {
    "hint": lambda: methods.FitNet("hidden", "hidden"),
    "relations": lambda: methods.SimilarityPreserving("hidden", "hidden"),
    "gradients": methods.JacobianMatching,
    "of Keras": lambda: keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="hidden", student_layer_name="hidden"
    ),
}


@pytest.mark.parametrize("method", INNER)
def test_inner_features_need_the_teacher_and_train_as_without_a_cache(method):
    with pytest.raises(ValueError, match="`distillation_losses` must compare the models' outputs"):
        L2RKDDistiller(None, network(1), distillation_losses=INNER[method]())
    teacher, students, data = network(0), [network(1), network(1)], batched(X, Y)
    for student, elements in zip(
        students, (data, cache_teacher(data, teacher, shuffle=False, **QUIET)), strict=True
    ):
        keras.utils.set_random_seed(0)
        distiller = L2RKDDistiller(
            teacher, student, seed=3, distillation_losses=INNER[method](), **INTERPOLATED
        )
        compiled(distiller, rate=0.1, run_eagerly=True).fit(elements, verbose=0)
    assert_equal_weights(*students, atol=1e-6)


# Evaluation.


def test_cached_data_evaluate_as_plain_ones():
    teacher, plain = network(0), batched(X, Y, WEIGHTS)
    cached = cache_teacher(plain, teacher, shuffle=False, **QUIET)
    results = []
    for data in (plain, cached):
        asked = None if data is cached else teacher
        distiller = L2RKDDistiller(asked, network(1), seed=3, **INTERPOLATED)
        measures = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
        compiled(distiller, rate=0.1, run_eagerly=True, **measures)
        logs = distiller.fit(data, validation_data=data, verbose=0).history
        assert "val_hard_loss" in logs
        evaluation = distiller.evaluate(data, verbose=0)
        results.append((logs, evaluation, distiller.predict(data, verbose=0)))
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), *results
    )


# Going on.


@pytest.mark.parametrize("is_on_disk", few([True], [False, True]))
def test_a_killed_run_resumes_within_a_pass_of_shuffled_data(is_on_disk, tmp_path):
    teacher = network(0)
    options = {"path": tmp_path / "cache", "memory_bytes": 200} if is_on_disk else {}

    def run(folder, student, *others):
        data = cache_teacher(batched(X, Y, WEIGHTS), teacher, seed=1, **options, **QUIET)
        backup = callbacks.TrainingBackup(tmp_path / folder, data)
        distiller = L2RKDDistiller(None, student, seed=3, **INTERPOLATED)
        compiled(distiller, rate=0.1, run_eagerly=True)
        distiller.fit(
            data.repeat(), steps_per_epoch=2, epochs=5, callbacks=[backup, *others], verbose=0
        )
        return student

    def kill(epoch, logs):
        if epoch == 1:  # after 4 batches; a pass has 3
            raise KeyboardInterrupt

    whole = run("whole", network(1))
    with pytest.raises(KeyboardInterrupt):
        run("resumed", network(1), keras.callbacks.LambdaCallback(on_epoch_end=kill))
    assert_equal_weights(run("resumed", network(1)), whole)


# Replicas and workers.


def of_one_device(cache, folder):
    """Results of a live teacher, or of a cache whose order is its own."""
    strategy = tf.distribute.get_strategy()
    return train(strategy, cache, folder) if cache == "shuffled" else train(strategy)


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for what, value in expected.items():
        np.testing.assert_allclose(found[what], value, rtol=0, atol=1e-6, err_msg=what)


@pytest.mark.parametrize(
    "cache",
    [pytest.param(cache, marks=[pytest.mark.stress] * (cache != "in memory")) for cache in CACHES],
)
@pytest.mark.stress
def test_two_replicas_equal_one_device(cache, tmp_path):
    found = train(two_replicas(), cache, tmp_path / "of replicas")
    assert_equal(found, of_one_device(cache, tmp_path / "of one device"))


@pytest.mark.stress
def test_two_workers_that_build_at_once_equal_one_device(tmp_path):
    run_on_two_workers("cache_replicas", tmp_path)
    for worker in (0, 1):
        results = np.load(tmp_path / f"{worker}.npz")
        for cache in CACHES:
            expected = of_one_device(cache, tmp_path / "of one device")
            found = {key: results[f"{cache}/{key}"] for key in expected}
            assert_equal(found, expected)
