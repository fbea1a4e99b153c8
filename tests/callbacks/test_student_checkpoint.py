"""Checkpoints of the student."""

import os
import zipfile

import keras
import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, callbacks, methods
from tests.callbacks.helpers import (
    CLASSES,
    FEATURES,
    HARD_ONLY,
    data,
    linear,
    make_distiller,
    random_weights,
    train,
)

# Name of the files, options, and how many files six epochs of three batches leave.
CHECKPOINTS = [
    ("{epoch:02d}-{val_loss:.2f}.keras", {}, 6),
    ("{epoch:02d}-{val_accuracy:.3f}.weights.h5", {"save_weights_only": True}, 6),
    ("{epoch}.keras", {"save_best_only": True}, 4),
    ("{epoch}.keras", {"save_best_only": True, "monitor": "val_accuracy"}, 4),
    ("{epoch}.keras", {"save_best_only": True, "monitor": "val_loss", "mode": "max"}, 1),
    ("{epoch}.keras", {"save_best_only": True, "initial_value_threshold": 1.0}, 2),
    ("{epoch}-{batch}.keras", {"save_freq": 2}, 9),
    ("{epoch}-{batch}-{loss:.3f}.weights.h5", {"save_freq": 5, "save_weights_only": True}, 3),
]


@pytest.fixture(scope="module")
def checkpoint_folders(tmp_path_factory):
    """Folders of a distiller that trains on labels only, and of its student without one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("distiller", "student")]
    kinds = [callbacks.StudentCheckpoint, keras.callbacks.ModelCheckpoint]
    distiller = make_distiller(**HARD_ONLY)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for folder, kind, model in zip(folders, kinds, [distiller, distiller.student], strict=True):
        distiller.student.set_weights(random_weights(2))
        model.compile(keras.optimizers.SGD(9.0), loss, metrics=["accuracy"], run_eagerly=True)
        checkpoints = []
        for number, (name, options, _) in enumerate(CHECKPOINTS):
            (folder / str(number)).mkdir()
            checkpoints.append(kind(folder / str(number) / name, **options))
        # Up and down, so that not every epoch is better than the one before.
        rates = keras.callbacks.LearningRateScheduler([-0.1, 0.5, -0.5, 2.0, 0.5, -0.1].__getitem__)
        callback = [rates, *checkpoints]
        train(model, *callback, batch_size=2, epochs=6, validation_data=data())
    return folders


@pytest.mark.parametrize("number", range(len(CHECKPOINTS)))
def test_checkpoints_are_those_of_keras_for_the_student(checkpoint_folders, number):
    folders = [folder / str(number) for folder in checkpoint_folders]
    files, expected = (sorted(os.listdir(folder)) for folder in folders)
    assert files == expected and len(files) == CHECKPOINTS[number][2]
    for file in files:
        weights = []
        for folder in folders:
            if file.endswith(".keras"):
                model = keras.models.load_model(folder / file, compile=False)
            else:
                model = linear(random_weights(9))
                model.load_weights(folder / file)
            weights.append(model.get_weights())
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_checkpoint_holds_the_student_and_nothing_else(tmp_path):
    teacher, student = (
        keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(width, "relu", name=f"{name}_hidden"),
                keras.layers.Dense(CLASSES, name=f"{name}_outputs"),
            ]
        )
        for name, width in (("teacher", 7), ("student", 5))
    )
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0,
        distillation_losses=methods.FitNet("teacher_hidden", "student_hidden"),
    )
    distiller.compile("adam")
    x, _ = data()
    path = tmp_path / "new" / "student.keras"
    checkpoint = callbacks.StudentCheckpoint(path, monitor="loss", save_best_only=True)
    distiller.fit(x, callbacks=[checkpoint], verbose=0)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), student.predict(x, verbose=0))
    assert [v.shape for v in loaded.variables] == [v.shape for v in student.variables]
    config = zipfile.ZipFile(path).read("config.json").decode()
    assert "student_hidden" in config and "teacher" not in config and "l2rkd" not in config
