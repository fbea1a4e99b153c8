"""What tests of this folder share."""

import shutil

import pytest

from tests.callbacks.backup_runs import PASS, Interrupt, Interrupted, names, train


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def uninterrupted_run(digits_dir):
    return train("student", digits_dir)
