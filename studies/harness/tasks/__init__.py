"""Data and networks of the studies, by kind of input: images, tables, series, texts, scenes.

A study names its data; `get` finds the task, which loads them and builds the networks for them.
This module does not import TensorFlow.
"""

import importlib

# Kinds with a module of their own; all others are images.
_KINDS = ("known", "scenes", "series", "tables", "text")


def score_of(dataset):
    """What a network is judged by on a dataset, in words."""
    return "mean IoU" if dataset.split("/")[0] == "scenes" else "accuracy"


def get(dataset):
    """The task of a dataset, `tables/wine` or `glyphs/gray16`, say.

    Raises:
        ValueError: If there is none.
    """
    kind, _, name = dataset.partition("/")
    if kind not in _KINDS:
        return importlib.import_module("studies.harness.tasks.images").Images(dataset)
    return importlib.import_module(f"studies.harness.tasks.{kind}").task(name)
