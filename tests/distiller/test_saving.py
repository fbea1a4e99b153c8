"""Checkpoints without the teacher, whole-model files with it, and runs that resume."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.distillation import FeatureDistillation, LogitsDistillation

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    CLASSES,
    assert_equal_weights,
    batches,
    convnet,
    cross_entropy,
    few,
    images,
    random_weights,
)
from tests.references import losses as reference

SLACK = 64 * 1024


def compiled(distiller, optimizer=None):
    optimizer = optimizer or keras.optimizers.SGD(0.1, momentum=0.9)
    distiller.compile(optimizer, cross_entropy(), metrics=["accuracy"], run_eagerly=True)
    return distiller


def fit(distiller, epochs=1, **options):
    x, y = images(12)
    return distiller.fit(batches(x, y), epochs=epochs, verbose=0, **options)


def size(*arrays):
    return sum(np.asarray(array).nbytes for array in arrays)


@pytest.fixture(scope="module")
def trained_beside_a_large_teacher():
    distiller = compiled(L2RKDDistiller(convnet(0, 30000), convnet(1), seed=0), "adam")
    x, y = images(2)
    distiller.train_on_batch(x, y)
    assert size(*distiller.get_teacher().get_weights()) > 2**20
    return distiller


def expected_bytes(distiller):
    return size(*distiller.student.get_weights(), *distiller.optimizer.variables)


def test_weight_files_hold_only_the_student_and_its_optimizer(
    trained_beside_a_large_teacher, tmp_path
):
    distiller = trained_beside_a_large_teacher
    path = tmp_path / "distiller.weights.h5"
    distiller.save_weights(path)
    assert os.path.getsize(path) <= expected_bytes(distiller) + SLACK
    shapes = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None
        )
    known = [*distiller.student.get_weights(), *distiller.optimizer.variables]
    assert sorted(shapes) == sorted(tuple(array.shape) for array in known)


def test_tensorflow_checkpoints_hold_no_teacher(trained_beside_a_large_teacher, tmp_path):
    distiller = trained_beside_a_large_teacher
    path = tf.train.Checkpoint(distiller).save(os.fspath(tmp_path / "checkpoint"))
    written = sum(os.path.getsize(file) for file in tmp_path.iterdir())
    assert written <= expected_bytes(distiller) + SLACK
    largest = max(np.prod(shape, initial=1) for _, shape in tf.train.list_variables(path)[1:])
    assert largest <= max(weight.size for weight in distiller.student.get_weights())


def test_tensorflow_checkpoints_restore_the_student(tmp_path):
    distiller, other = (
        compiled(L2RKDDistiller(convnet(0, 8), convnet(seed), seed=0)) for seed in (1, 2)
    )
    fit(distiller)
    fit(other)
    path = tf.train.Checkpoint(distiller).save(os.fspath(tmp_path / "checkpoint"))
    tf.train.Checkpoint(other).restore(path)
    assert_equal_weights(other, distiller)


def test_weight_files_resume_in_a_fresh_distiller(tmp_path):
    path = tmp_path / "distiller.weights.h5"
    distiller, fresh = (
        compiled(L2RKDDistiller(convnet(0, 8), convnet(seed), seed=0)) for seed in (1, 2)
    )
    fit(distiller)
    distiller.save_weights(path)
    fit(distiller)
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(path)
    fit(fresh)
    assert_equal_weights(fresh.student, distiller.student)


# Whole-model files.


REGIONS = {
    "patch": lambda: regions.Patch((2, 3), radius=0.9),
    "segment": lambda: regions.Segment(partner="nearest", alpha=0.5),
    "mixture": lambda: regions.Mixture([regions.Simplex(3), regions.Ball(0.1)], weights=[1, 3]),
}


def adjust(distiller):
    """What callbacks may have changed by the time a model is saved."""
    distiller.temperature = 2.5
    distiller.kd_weight = 0.4
    members = getattr(distiller.region, "regions", [distiller.region])
    members[0].radius = 0.6


@pytest.mark.parametrize("region", REGIONS)
def test_a_loaded_distiller_continues_identically(region, tmp_path):
    path = tmp_path / "distiller.keras"
    distiller = compiled(
        L2RKDDistiller(convnet(0, 8), convnet(1), region=REGIONS[region](), seed=None)
    )
    fit(distiller)
    adjust(distiller)
    distiller.save(path)
    loaded = keras.models.load_model(path)
    loaded.run_eagerly = True
    assert_equal_weights(loaded.student, distiller.student)
    assert_equal_weights(loaded.get_teacher(), distiller.get_teacher())
    expected, actual = fit(distiller).history, fit(loaded).history
    assert_equal_weights(loaded.student, distiller.student, atol=1e-7)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-6)
    for one, other in zip(loaded.optimizer.variables, distiller.optimizer.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def with_methods():
    teacher, student = convnet(0), convnet(1)
    names = {
        "teacher_layer_name": teacher.layers[2].name,
        "student_layer_name": student.layers[2].name,
    }
    return L2RKDDistiller(
        teacher,
        student,
        distillation_losses=[
            FeatureDistillation("mse", **names),
            LogitsDistillation(2.0, keras.losses.KLDivergence()),
        ],
        distillation_loss_weights=[0.5, 2.0],
        region_targets="interpolated",
        num_region_points=2,
        seed=3,
    )


def without_shapes():
    return L2RKDDistiller(
        convnet(0),
        keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)]),
        replace_fraction=0.4,
        seed=3,
    )


def of_compiled_models():
    teacher, student = convnet(0), convnet(1)
    for model in (teacher, student):
        model.compile("adam", cross_entropy(), metrics=["accuracy"], run_eagerly=True)
    fit(teacher)
    return L2RKDDistiller(teacher, student, seed=3)


def with_random_layers():
    """Their draws go on where those of the saved one stop."""
    student = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.RandomFlip(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES),
        ]
    )
    return L2RKDDistiller(convnet(0), student, seed=3)


@pytest.mark.parametrize(
    "make", [with_methods, without_shapes, of_compiled_models, with_random_layers]
)
def test_other_loaded_distillers_train_identically(make, tmp_path):
    path = tmp_path / "distiller.keras"
    distiller = compiled(make())
    fit(distiller)
    distiller.save(path)
    loaded = keras.models.load_model(path)
    assert_equal_weights(loaded.get_teacher(), distiller.get_teacher())
    loaded.run_eagerly = True
    expected, actual = fit(distiller).history, fit(loaded).history
    assert_equal_weights(loaded.student, distiller.student, atol=1e-7)
    assert set(actual) == set(expected)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_random_states_without_compile(is_compiled, tmp_path):
    distiller = with_random_layers()
    if is_compiled:
        fit(compiled(distiller))
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras", compile=False)
    inputs = np.ones((4, 8, 8, 1), "float32")
    expected, found = (one.student(inputs, training=True) for one in (distiller, loaded))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_loaded_teacher_runs_in_inference_mode(tmp_path):
    path = tmp_path / "distiller.keras"
    x, y = images(12)

    def head(*inner):
        return keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), *inner, layers.Dense(CLASSES)]
        )

    teacher, student = head(layers.BatchNormalization(), layers.Dropout(0.9)), head()
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=64), rng.uniform(0.5, 2.0, 64)
    kernel, bias = random_weights(rng, (64,))
    teacher.set_weights([np.ones(64), np.zeros(64), mean, variance, kernel, bias])
    distiller = compiled(L2RKDDistiller(teacher, student), keras.optimizers.SGD(0.0))
    distiller.save(path)
    loaded = keras.models.load_model(path)
    before = loaded.get_teacher().get_weights()
    logs = loaded.train_on_batch(x, y, return_dict=True)

    points = x.reshape(12, -1).astype("float64")
    normalized = (points - mean) / np.sqrt(variance + 1e-3)
    own = [w.astype("float64") for w in student.get_weights()]
    soft = reference.kl(normalized @ kernel + bias, points @ own[0] + own[1], 4.0)
    np.testing.assert_allclose(logs["kd_loss"], soft.mean(), rtol=1e-4)
    for one, other in zip(loaded.get_teacher().get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_student_is_saved_as_a_plain_keras_model(tmp_path):
    path = tmp_path / "student.keras"
    x, _ = images(12)
    distiller = compiled(L2RKDDistiller(convnet(0), convnet(1)))
    fit(distiller)
    distiller.student.save(path)
    with zipfile.ZipFile(path) as file:
        assert sorted(file.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert b"l2rkd" not in file.read("config.json")
    loaded = keras.models.load_model(path)
    assert type(loaded) is keras.Sequential
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), distiller.student.predict(x, verbose=0)
    )


# Configuration.


ARGUMENTS = {
    "region": regions.Mixture([regions.Patch((2, 3), radius=0.5), regions.Segment()], [1, 2]),
    "region_targets": "interpolated",
    "temperature": 2.5,
    "hard_weight": 0.0,
    "kd_weight": 0.3,
    "region_weight": 1.7,
    "num_region_points": 3,
    "replace_fraction": 0.25,
    "divergence": "binary_kl",
    "from_logits": False,
    "distillation_losses": [
        FeatureDistillation("mae"),
        LogitsDistillation(2.0, keras.losses.KLDivergence()),
    ],
    "distillation_loss_weights": (0.5, 2.0),
    "seed": 17,
    "name": "my_distiller",
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_every_argument_survives_the_configuration(argument):
    arguments = {argument: ARGUMENTS[argument]}
    if argument == "distillation_loss_weights":
        arguments["distillation_losses"] = ARGUMENTS["distillation_losses"]
    activation = "softmax" if argument == "from_logits" else None
    models = (convnet(0, activation=activation), convnet(1, activation=activation))
    distiller = L2RKDDistiller(*models, **arguments)
    config = json.loads(json.dumps(distiller.get_config()))
    copy = L2RKDDistiller.from_config(config)
    again = json.loads(json.dumps(copy.get_config()))
    models = ("teacher", "student")
    assert {k: v for k, v in again.items() if k not in models} == {
        k: v for k, v in config.items() if k not in models
    }
    wanted = ARGUMENTS[argument]
    if argument == "region":
        assert repr(copy.region) == repr(wanted)
    elif argument == "distillation_losses":
        assert [type(m) for m in copy.distillation_losses] == [type(m) for m in wanted]
        assert copy.distillation_losses[1].temperature == 2.0
        values = tf.constant([[1.0, 3.0]]), tf.constant([[2.0, 0.0]])
        for one, other in zip(copy.distillation_losses, wanted, strict=True):
            assert float(one.compute_loss(*values)) == float(other.compute_loss(*values))
    else:
        assert getattr(copy, argument) == wanted
    for name in models:
        assert config[name]["config"]["layers"] == again[name]["config"]["layers"]


# Interrupted runs.


class Interrupted(Exception):
    pass


class InterruptAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Interrupted


@pytest.mark.parametrize("region", few(["mixture"], ["patch", "mixture"]))
def test_an_interrupted_and_restored_run_equals_an_uninterrupted_one(region, tmp_path):
    def distiller():
        return compiled(
            L2RKDDistiller(convnet(0, 8), convnet(1), region=REGIONS[region](), seed=0),
            keras.optimizers.Adam(0.01),
        )

    backup = os.fspath(tmp_path / "backup")
    with pytest.raises(Interrupted):
        fit(distiller(), 4, callbacks=[keras.callbacks.BackupAndRestore(backup), InterruptAt(2)])
    resumed, whole = distiller(), distiller()
    history = fit(resumed, 4, callbacks=[keras.callbacks.BackupAndRestore(backup)]).history
    expected = fit(whole, 4).history
    assert_equal_weights(resumed.student, whole.student, atol=1e-7)
    for name, values in history.items():
        np.testing.assert_allclose(values, expected[name][2:], rtol=1e-6)
