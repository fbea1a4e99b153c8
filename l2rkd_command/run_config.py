"""The record of a run: the `config.json` next to the model that it describes."""

import json
import os

from l2rkd_command.errors import UsageError

__all__ = ["read_config", "read_record", "take_from_run"]


def read_config(model_file):
    """The configuration of the run that wrote a model.

    Args:
        model_file: Path of a `.keras` file.

    Returns:
        A dict of flags with their values, and more; empty if no `config.json` lies next to the
        file.

    Raises:
        UsageError: If that file is not what a run writes.
    """
    return read_record(model_file, "config")


def read_record(model_file, part):
    """One part of what a run recorded next to its model.

    Args:
        model_file: Path of a `.keras` file.
        part: `"config"`, `"history"` or `"metrics"`.

    Returns:
        A dict; empty if there is no such file.

    Raises:
        UsageError: If the file is not what a run writes.
    """
    path = os.path.join(os.path.dirname(model_file), f"{part}.json")
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise UsageError("", f"{path}, next to the model, must be JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError("", f"{path}, next to the model, must hold a JSON object")
    return content


def take_from_run(flags, model_file, names):
    """Sets flags that are not on the command line to the values of the run that wrote a model.

    Args:
        flags: Parsed `absl.flags.FlagValues`.
        model_file: Path of a `.keras` file.
        names: Names of the flags to set. Those that the run did not have keep their defaults.

    Returns:
        Names of the flags that were set.

    Raises:
        absl.flags.IllegalFlagValueError: If a flag refuses the run's value.
    """
    config = read_config(model_file)
    taken = [name for name in names if name in config and flags[name].using_default_value]
    for name in taken:
        setattr(flags, name, config[name])
    return taken
