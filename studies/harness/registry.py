"""Finds the studies: every module of `studies` that holds a `Study`."""

import importlib
import pkgutil

import studies
from studies.harness.definitions import Study


def all_studies():
    """`{name: Study}`, in the order of modules and of their lines."""
    modules = [
        importlib.import_module(f"studies.{module.name}")
        for module in pkgutil.iter_modules(studies.__path__)
        if module.name not in ("__main__", "harness")
    ]
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Study)
    }


def get(name):
    """The study of this name.

    Raises:
        ValueError: If there is none.
    """
    found = all_studies()
    if name not in found:
        raise ValueError(f"The study must be one of {', '.join(found)}. Received: {name!r}")
    return found[name]
