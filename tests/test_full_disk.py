"""Full disks: a clear error, and earlier files as they were."""

import contextlib
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, export, teacher_cache
from tests.helpers import compiled, convnet, few, images


@contextlib.contextmanager
def full_disk(monkeypatch, size=1000):
    """No file can grow beyond a size, and the disk says that it has no more room than that."""
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10 * size, 9 * size, size))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def student_checkpoint(folder, student, weights_only, name):
    distiller = compiled(L2RKDDistiller(convnet(0), student, seed=0))
    checkpoint = callbacks.StudentCheckpoint(folder / name, save_weights_only=weights_only)
    distiller.fit(*images(8), callbacks=[checkpoint], verbose=0)


WRITE = {
    "student": lambda folder, student: student_checkpoint(folder, student, False, "a.keras"),
    "weights": lambda folder, student: student_checkpoint(folder, student, True, "a.weights.h5"),
    "litert": lambda folder, student: export.export_litert(student, folder / "a.tflite"),
    "cache": lambda folder, student: teacher_cache.cache_teacher(
        tf.data.Dataset.from_tensor_slices(images(16)).batch(8),
        student,
        folder / "cache",
        verbose=False,
    ),
    "saved model": lambda folder, student: export.export_saved_model(student, folder / "model"),
}


@pytest.mark.parametrize("what", few(WRITE.keys() - {"weights"}, WRITE))
def test_a_full_disk_leaves_earlier_files_as_they_were(what, tmp_path, monkeypatch):
    student = convnet(1)
    WRITE[what](tmp_path, student)
    before = contents(tmp_path)
    assert before
    student.set_weights([np.array(weight) + 1.0 for weight in student.get_weights()])
    with monkeypatch.context() as patch, full_disk(patch):
        with pytest.raises((OSError, tf.errors.OpError), match="(?i)too large|no space"):
            WRITE[what](tmp_path, student)
    assert contents(tmp_path) == before
    WRITE[what](tmp_path, student)
    assert contents(tmp_path) != before


def test_a_student_that_cannot_be_saved_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        student_checkpoint(tmp_path / "file", convnet(1), False, "a.keras")


def test_a_saved_student_leaves_no_temporary_files(tmp_path):
    student = convnet(1)
    WRITE["student"](tmp_path, student)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]
    x, _ = images(3)
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), student.predict(x, verbose=0))
