"""What commands read of the run that wrote a model."""

import pytest

from l2rkd_command.errors import UsageError
from l2rkd_command.run_config import read_config, read_record


@pytest.mark.parametrize("part", ["config", "history", "metrics"])
def test_a_record_that_is_not_a_json_object_is_named(part, tmp_path):
    model = str(tmp_path / "model.keras")
    (tmp_path / f"{part}.json").write_text("{")
    with pytest.raises(UsageError, match=f"{part}.json.*must be JSON"):
        read_record(model, part)
    (tmp_path / f"{part}.json").write_text("[1]")
    with pytest.raises(UsageError, match="must hold a JSON object"):
        read_record(model, part)
    (tmp_path / f"{part}.json").unlink()
    assert read_record(model, part) == {}


def test_a_config_is_the_one_next_to_the_model(tmp_path):
    (tmp_path / "config.json").write_text('{"dataset": "digits"}')
    assert read_config(str(tmp_path / "model.keras")) == {"dataset": "digits"}
