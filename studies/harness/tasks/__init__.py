"""Data and networks of the studies, by kind of input: images, tables, series, texts, scenes.

A study names its data; `get` finds the task, which loads them and builds the networks for them.
This module does not import TensorFlow.
"""

import importlib

#: Kinds that have a teacher for each seed; but for `known`, a seed also divides the examples again.
BY_SEED = ("known", "scenes", "series", "tables", "text")


def has_teacher_by_seed(dataset):
    """Whether each seed has its own division of the data, and its own teacher."""
    return dataset.split("/")[0] in BY_SEED


def score_of(dataset):
    """What a network is judged by on a dataset, in words."""
    return "mean IoU" if dataset.split("/")[0] == "scenes" else "accuracy"


def get(dataset):
    """The task of a dataset, `tables/wine` or `glyphs/gray16`, say.

    Raises:
        ValueError: If there is none.
    """
    kind, _, name = dataset.partition("/")
    if kind not in BY_SEED:
        return importlib.import_module("studies.harness.tasks.images").Images(dataset)
    return importlib.import_module(f"studies.harness.tasks.{kind}").task(name)
