"""`--backup`: an interrupted run is resumed by the command that began it, and by no other."""

import csv
import json

import keras
import pytest

from l2rkd_tf.cli import tune
from l2rkd_tf.cli.common import training
from tests.cli import commands

SHORT = ("--epochs=4", "--steps_per_epoch=2", "--widths=2", "--fraction=0.1", "--verbose=0")


class Interrupted(BaseException):
    """Ends a command as a signal would."""


class Interruption(keras.callbacks.Callback):
    """Ends a training at the beginning of its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        """Raises."""
        if epoch == 2:
            raise Interrupted


@pytest.fixture
def interrupted(tmp_path, teacher_file, monkeypatch):
    """Words of a command that was interrupted in the third epoch, without `--output`."""
    words = ["distill", *SHORT, f"--teacher={teacher_file}", f"--backup={tmp_path}/backup"]
    fit = training.fit

    def fit_with_interruption(*args, callbacks, **kwargs):
        return fit(*args, callbacks=[*callbacks, Interruption()], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", fit_with_interruption)
        with pytest.raises(Interrupted):
            commands.run(*words, f"--output={tmp_path}/lost")
    return words


def test_the_same_command_resumes_and_logs_all_epochs(interrupted, tmp_path):
    commands.succeed(*interrupted, f"--output={tmp_path}/found", "--seeds=0")
    history = json.loads((tmp_path / "found/seed0/history.json").read_text())
    assert len(history["loss"]) == 4
    with open(tmp_path / "found/seed0/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    for name, values in history.items():
        assert [float(row[name]) for row in rows] == values, name
    assert not list((tmp_path / "backup").rglob("*"))


def test_other_flags_are_refused(interrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "fit", commands.refuse_work)
    for flag, begun in (
        ("--temperature=1.0", "--temperature=4.0"),
        ("--region=ball:radius=0.05", "--region="),
        ("--epochs=5", "--epochs=4"),
        ("--learning_rate=0.5", "--learning_rate=0.01"),
        ("--method=kd", "--method=l2rkd"),
        ("--fraction=0.2", "--fraction=0.1"),
    ):
        line = commands.fail(*interrupted, f"--output={tmp_path}/found", flag)
        assert "--backup must be new, or hold an interrupted run with the same flags" in line
        assert f"begun with {begun}, not {flag}." in line


def test_a_search_is_resumed_by_the_same_command_only(tmp_path, teacher_file, monkeypatch):
    words = ["tune", f"--teacher={teacher_file}", f"--backup={tmp_path}/backup", *SHORT]
    words += ["--trials=2", "--radius=0.5", "--region_weight=1"]
    tried = []

    class Trials(tune.Trials):
        def __call__(self, setting):
            if len(tried) == 1:
                tried.append("interrupted")
                raise Interrupted
            tried.append(setting)
            return super().__call__(setting)

    monkeypatch.setattr(tune, "Trials", Trials)
    with pytest.raises(Interrupted):
        commands.run(*words, f"--output={tmp_path}/lost")
    line = commands.fail(*words, f"--output={tmp_path}/other", "--temperature=6,8")
    assert "begun with --temperature=['1', '8'], not --temperature=['6', '8']." in line
    commands.succeed(*words, f"--output={tmp_path}/found", "--trials=2")
    assert len(tried) == 3  # one before and one after the interruption
    assert not list((tmp_path / "backup").rglob("*"))
