"""Folders of backups, which only the command that began them resumes."""

import json
import os
from typing import Any

from absl.flags import FlagValues

from l2rkd_command.errors import UsageError
from l2rkd_tf.cli.common.run_folder import NOT_OF_TRAINING, config_of
from l2rkd_tf.utils.files import write_json
from l2rkd_tf.utils.types import PathLike

__all__ = ["begin"]

_FLAGS = "flags.json"
# Flags that may differ when a run is resumed. A search may have more trials.
_FREE = {"trials", *NOT_OF_TRAINING}


def begin(folder: PathLike, command: str, flags: FlagValues) -> None:
    """Makes a folder for the backups of a run, or checks that it holds those of the same run.

    Raises:
        UsageError: If the run in the folder was begun with other flags.
    """
    wanted = {name: value for name, value in config_of(command, flags).items() if name not in _FREE}
    path = os.path.join(folder, _FLAGS)
    if not os.path.exists(path):
        write_json(path, wanted)
        return
    with open(path, encoding="utf-8") as file:
        begun = json.load(file)
    differing = [name for name in begun | wanted if begun.get(name) != _as_read(wanted.get(name))]
    if differing:
        raise UsageError(
            "backup",
            f"must be new, or hold an interrupted run with the same flags. Received: {folder}, "
            f"begun with {_told(begun, differing)}, not {_told(wanted, differing)}.",
        )


def _as_read(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _told(values, names):
    return " ".join(f"--{name}={values.get(name)}" for name in names[:3])
