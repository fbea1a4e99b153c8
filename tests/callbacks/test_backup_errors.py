"""Backups: folders that cannot be written to, and wrong use."""

import json
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import data, regions
from l2rkd_tf.callbacks import TrainingBackup
from tests.callbacks.backup_runs import (
    EPOCHS,
    RUNS,
    assert_equal_runs,
    compiled,
    distiller,
    load,
    names,
    train,
)
from tests.programs.killed_run import network

# Folders that cannot be written to.


@pytest.mark.stress
def test_a_folder_that_somebody_deletes(digits_dir, tmp_path, uninterrupted_run):
    deleting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch < EPOCHS - 1 or shutil.rmtree(tmp_path)
    )
    with pytest.raises(OSError, match=f"epoch {EPOCHS} could not be written"):
        train("student", digits_dir, tmp_path, [deleting])
    assert_equal_runs(
        train("student", digits_dir, tmp_path, [deleting], save_freq=EPOCHS + 1), uninterrupted_run
    )


def test_a_folder_that_cannot_be_made(digits_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file.*could not be made"):
        train("student", digits_dir, tmp_path / "file" / "backup")


def test_a_full_disk_leaves_earlier_backups(
    digits_dir, interrupted, uninterrupted_run, monkeypatch
):
    usage = type(shutil.disk_usage("/"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage(9000, 8000, 1000))
        with pytest.raises(OSError, match="(?s)epoch 3 .*backup'.*untouched.*1,000 bytes free"):
            train("student", digits_dir, interrupted)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("student", digits_dir, interrupted), uninterrupted_run)


def test_a_file_that_cannot_be_written_leaves_earlier_backups(
    digits_dir, interrupted, uninterrupted_run, monkeypatch
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    dump = json.dump

    def limited(value, file):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            dump(value, file)
            file.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", limited)
        with pytest.raises(OSError, match="epoch 3 .*backup'.*File too large"):
            train("student", digits_dir, interrupted)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("student", digits_dir, interrupted), uninterrupted_run)


# Wrong use.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directory": ""}, "`directory` must be .* Received: directory=''"),
        ({"directory": None}, "`directory` must be .* Received: directory=None"),
        ({"directory": __file__}, "`directory` must be a folder. .*which is a file"),
        ({"save_freq": 0}, "`save_freq` .* Received: save_freq=0"),
        ({"save_freq": 1.5}, "`save_freq`"),
        ({"data": tf.data.Dataset.range(3)}, "`data` must be .* Received: data=<"),
        ({"data": np.zeros(3)}, "`data`"),
    ],
)
def test_arguments_out_of_range(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TrainingBackup(**{"directory": tmp_path / "a", **arguments})
    assert not (tmp_path / "a").exists()


def test_data_whose_passes_are_alike(digits_dir, tmp_path):
    validation = data.load("digits", "validation", batch_size=100, data_dir=digits_dir)
    with pytest.raises(ValueError, match="`data` must be .* shuffled or augmented"):
        TrainingBackup(tmp_path, validation)


@pytest.mark.parametrize("derive", [lambda train, other: other, lambda train, other: train.cache()])
def test_data_that_are_not_what_is_trained_on(derive, digits_dir, tmp_path):
    train_data = load(digits_dir)
    model = RUNS["student"][0]()
    with pytest.raises(ValueError, match="`data` must be what fit"):
        model.fit(
            derive(train_data, load(digits_dir)),
            epochs=2,
            callbacks=[TrainingBackup(tmp_path, train_data)],
            verbose=0,
        )


def test_a_model_that_is_not_built(tmp_path):
    model = compiled(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="TrainingBackup only in the fit.* of a built model"):
        model.fit(np.zeros((4, 3)), np.zeros(4), callbacks=[TrainingBackup(tmp_path)], verbose=0)


@pytest.mark.parametrize("build", [lambda: network(7), lambda: distiller()])
def test_a_backup_of_another_model(build, digits_dir, interrupted):
    with pytest.raises(ValueError, match="`directory` must hold backups of the run.*epoch-000002"):
        compiled(build()).fit(load(digits_dir), callbacks=[TrainingBackup(interrupted)], verbose=0)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]


def test_a_backup_of_another_kind_of_region(digits_dir, tmp_path):
    """Its radius means something else."""
    options = {"steps_per_epoch": 1, "verbose": 0}
    for region in (regions.Patch(radius=0.9), regions.Ball(radius=0.05)):
        backup = TrainingBackup(tmp_path, delete_checkpoint=False)
        model = compiled(distiller(region=region))
        if isinstance(region, regions.Ball):
            with pytest.raises(ValueError, match="does not fit model and region"):
                model.fit(load(digits_dir), epochs=2, callbacks=[backup], **options)
            assert region.radius == 0.05
        else:
            model.fit(load(digits_dir), callbacks=[backup], **options)
