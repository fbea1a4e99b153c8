"""The record of a run: the `config.json` next to the model that it describes."""

import json
import os

__all__ = ["read_config", "take_from_run"]


def read_config(model_file):
    """The configuration of the run that wrote a model.

    Args:
        model_file: Path of a `.keras` file.

    Returns:
        A dict of flags with their values, and more; empty if no `config.json` lies next to the
        file.
    """
    path = os.path.join(os.path.dirname(model_file), "config.json")
    if not os.path.isfile(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


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
