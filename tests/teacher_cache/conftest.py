"""What tests of this folder share."""

import pytest

from l2rkd_tf.teacher_cache import runner
from tests.helpers import convnet


@pytest.fixture(scope="session")
def teacher():
    return convnet(0, 8)


@pytest.fixture
def small_shards(monkeypatch):
    """A shard for each batch."""
    monkeypatch.setattr(runner, "_SHARD_BYTES", 1)
