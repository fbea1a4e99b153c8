"""States of the random numbers of layers such as dropout, which weight files do not contain."""

from typing import Any

import keras
import numpy as np

from l2rkd_tf.utils.types import PathLike

__all__ = ["load_seeds", "optimizer_variables", "save_seeds"]


def save_seeds(model: keras.Model, path: PathLike) -> None:
    """Writes the states of a model's seed generators to a `.npz` file."""
    np.savez(path, *[variable.numpy() for variable in _seeds_of(model)])


def load_seeds(model: keras.Model, path: PathLike) -> None:
    """Sets the states of a model's seed generators to those of a file of `save_seeds`.

    Raises:
        ValueError: If there are more or fewer of them.
    """
    variables = _seeds_of(model)
    with np.load(path) as states:
        values = [states[f"arr_{i}"] for i in range(len(states.files))]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def optimizer_variables(model: keras.Model) -> list[Any]:
    """Variables of the optimizer, if there is one: a model that is not compiled has none."""
    optimizer = getattr(model, "optimizer", None)
    return [] if optimizer is None else optimizer.variables


def _seeds_of(model):
    stored = [*model.weights, *model.metrics_variables, *optimizer_variables(model)]
    stored = {id(variable) for variable in stored}
    return [variable for variable in model.variables if id(variable) not in stored]
