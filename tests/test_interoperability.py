"""Teachers from elsewhere, and several at once."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, models

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import applications  # noqa: E402
import ensembles  # noqa: E402

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def images(shape=(8, 8, 1), count=8):
    random = np.random.default_rng(0)
    return random.uniform(size=(count, *shape)).astype("float32"), np.arange(count) % 10


def fit_a_step(teacher, student, **kwargs):
    distiller = L2RKDDistiller(teacher, student, seed=0, **kwargs)
    distiller.compile(keras.optimizers.SGD(0.1), SPARSE, jit_compile=False)
    return distiller.fit(*images(), batch_size=8, verbose=0).history


# Networks of keras.applications.


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
    teacher = applications.build("MobileNet", (8, 8, 1), 10, trained="head")
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
        applications.build(**(defaults | arguments))


# Ensembles.


def dense(scale, seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Rescaling(scale)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers], name="teacher")


def test_an_ensemble_has_the_mean_of_the_probabilities(tmp_path):
    members = [dense(scale, seed) for seed, scale in enumerate((1.0, 5.0, 300.0))]
    ensemble = ensembles.mean_of_probabilities(members)
    x, _ = images()
    probabilities = [
        scipy.special.softmax(member(x).numpy().astype(float), -1) for member in members
    ]
    expected = np.mean(probabilities, axis=0)
    assert np.min(probabilities[2]) < 1e-30  # a member that is certain excludes nothing
    np.testing.assert_allclose(ensemble(x), np.log(expected), rtol=1e-5, atol=1e-5)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_array_equal(loaded(x), ensemble(x))


def test_an_ensemble_teaches():
    members = [dense(1.0, seed) for seed in range(2)]
    student = dense(1.0, 2)
    x, _ = images()
    targets = np.mean([scipy.special.softmax(member(x).numpy(), -1) for member in members], axis=0)
    log_student = scipy.special.log_softmax(student(x).numpy(), -1)
    expected = np.mean(np.sum(targets * (np.log(targets) - log_student), -1))
    history = fit_a_step(
        ensembles.mean_of_probabilities(members), student, temperature=1.0, region_weight=0.0
    )
    assert history["kd_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_members_of_an_ensemble_must_fit_together():
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"`teachers` must have the same shape.*\(None, 64\)"):
        ensembles.mean_of_probabilities([dense(1.0, 0), other])


# The programs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interoperability")


def run(program, *arguments, folder):
    environment = os.environ | {"TFDS_DATA_DIR": str(folder / "tfds"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / program), *arguments, "--verbose=0"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(program, *arguments, folder):
    finished = run(program, *arguments, "--epochs=1", "--steps_per_epoch=2", folder=folder)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def read(path):
    return json.loads(path.read_text())


def test_distill_learns_from_two_teachers_and_shows_it(folder):
    for seed in range(2):
        dense(1.0, seed).save(folder / f"{seed}.keras")
    succeed(
        "distill.py",
        "--teacher=0.keras,1.keras",
        "--tensorboard=board",
        "--method=kd",
        folder=folder,
    )
    history = read(folder / "runs/distill/seed0/history.json")
    tags = {
        run.name: {
            value.tag: tf.make_ndarray(value.tensor)
            for path in run.glob("*tfevents*")
            for record in tf.data.TFRecordDataset(str(path))
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
        }
        for run in (folder / "board/seed0", *(folder / "board/seed0").iterdir())
        if run.is_dir()
    }
    assert set(tags) == {"seed0", "train", "validation"}
    assert set(tags["seed0"]) == {
        "configuration", "_hparams_/session_start_info", "fidelity_profile", "decision_map",
    }  # fmt: skip
    assert tags["train"]["epoch_kd_loss"] == np.float32(history["kd_loss"][0])
    measured = history["val_fidelity_agreement_0.0"][0]
    assert tags["validation"]["epoch_fidelity_agreement_0.0"] == np.float32(measured)
    assert "| teacher | 0.keras,1.keras |" in tags["seed0"]["configuration"].item().decode()


@pytest.mark.stress
def test_an_application_is_trained_watched_and_distilled(folder):
    succeed(
        "train_teacher.py",
        "--application=MobileNetV2",
        "--trained=head",
        "--tensorboard=of_teacher",
        folder=folder,
    )
    teacher = keras.models.load_model(folder / "runs/teacher/model.keras")
    assert teacher.count_params() == 2_257_984 + 1280 * 10 + 10
    assert list((folder / "of_teacher/validation").glob("*tfevents*"))
    succeed(
        "distill.py", "--teacher=runs/teacher/model.keras", "--output=runs/of_app", folder=folder
    )
    assert read(folder / "runs/of_app/seed0/history.json")["region_loss"][0] > 0


WRONG_FLAGS = {
    ("examples/train_teacher.py", "--application=MobileNetV9"): "must be one of",
    ("examples/train_teacher.py", "--pretrained"): "need --application",
    ("examples/train_teacher.py", "--application=VGG16", "--network=vgg13"): "goes without",
}


def test_flag_mistakes_fail_before_any_work():
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests/flags_of_programs.py")],
        input=json.dumps([(program, words) for program, *words in WRONG_FLAGS]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    refused = finished.stdout.splitlines()
    assert len(refused) == len(WRONG_FLAGS)
    for line, (command, message) in zip(refused, WRONG_FLAGS.items(), strict=True):
        assert line.startswith(" ".join(command)) and message in line
