"""What tests of this folder share."""

import shutil

import pytest

from l2rkd_tf.data import digits, offline
from tests.callbacks.backup_runs import PASS, Interrupt, Interrupted, names, train


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    offline.prepare_offline(digits.Digits(data_dir=directory))
    return directory


@pytest.fixture(scope="module")
def interrupted_once(digits_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("interrupted") / "backup"
    with pytest.raises(Interrupted):
        train("student", digits_dir, directory, [Interrupt(2 * PASS + 3)])
    assert names(directory) == ["epoch-000001", "epoch-000002"]
    return directory


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """The folder of a run that was interrupted in its third epoch."""
    return shutil.copytree(interrupted_once, tmp_path / "backup")


@pytest.fixture(scope="module")
def whole(digits_dir):
    return train("student", digits_dir)
