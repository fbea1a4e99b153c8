"""Checks of what `fit` was given, before it reads the first batch."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.distiller.heads import Heads

__all__ = ["check_labels_are_numbers", "checked_arguments", "joined_callbacks"]


def checked_arguments(
    student: keras.Model, heads: Heads, *args: Any, **kwargs: Any
) -> dict[str, Any]:
    """The arguments of a call of `keras.Model.fit` by their names, with weights of all classes.

    Args:
        student: The student.
        heads: The compared outputs.
        *args: As in `fit`.
        **kwargs: As in `fit`.

    Raises:
        ValueError: If a dataset is empty, or never ends and the number of steps is not given, if
            labels are text, or `class_weight` is not a dict of the student's classes.
    """
    arguments = inspect.signature(keras.Model.fit).bind(None, *args, **kwargs).arguments
    given = {name: value for name, value in arguments.items() if name != "self"}
    if isinstance(given.get("x"), tf.data.Dataset):
        given.setdefault("shuffle", False)  # Of the default, Keras warns that it has no effect.
    _check_ends(given)
    check_labels_are_numbers(given.get("y"))
    if given.get("class_weight") is not None:
        given["class_weight"] = _full_class_weight(given["class_weight"], student, heads)
    return given


def joined_callbacks(given: Any, *last: keras.callbacks.Callback) -> Any:
    """The argument `callbacks` of `fit` with more, which are called after all others.

    Args:
        given: A callback, a list of callbacks, a `keras.callbacks.CallbackList` or `None`.
        *last: More callbacks.
    """
    if isinstance(given, keras.callbacks.CallbackList):
        given.callbacks.extend(one for one in last if one not in given.callbacks)
        return given
    return [*keras.tree.flatten([] if given is None else given), *last]


def _check_ends(arguments):
    """Checks that there are data, and that a pass over a dataset ends."""
    for argument, steps in (("x", "steps_per_epoch"), ("validation_data", "validation_steps")):
        data = arguments.get(argument)
        if not isinstance(data, tf.data.Dataset):
            _check_not_empty(argument, data)
            continue
        cardinality = data.cardinality()
        if cardinality == 0:
            raise ValueError(
                f"`{argument}` must have at least one batch. Received: an empty dataset. "
                "`drop_remainder=True` leaves out the only batch of fewer examples than its size."
            )
        if cardinality == tf.data.INFINITE_CARDINALITY and arguments.get(steps) is None:
            raise ValueError(
                f"`{steps}` must be given for a dataset without an end. Received: `{argument}`, "
                f"which repeats forever, and {steps}=None. Pass {steps}=100, for example, or leave "
                "out `.repeat()`."
            )


def _check_not_empty(argument, data):
    shapes = [tuple(getattr(leaf, "shape", ())) for leaf in keras.tree.flatten(data)]
    if any(shape[:1] == (0,) for shape in shapes):
        raise ValueError(
            f"`{argument}` must have at least one example. Received: arrays of shapes {shapes}"
        )


def check_labels_are_numbers(labels: Any) -> None:
    """Checks that labels are not text.

    Args:
        labels: Anything that `fit` takes for `y`, labels of a batch, or their specs.

    Raises:
        ValueError: If they are text.
    """
    for leaf in keras.tree.flatten(labels):
        kind = getattr(getattr(leaf, "dtype", None), "kind", None)  # of NumPy's and pandas's
        is_text = kind in ("S", "U") or getattr(leaf, "dtype", None) == tf.string
        if kind == "O":
            is_text = isinstance(next(iter(np.ravel(np.asarray(leaf))), None), (str, bytes))
        if is_text:
            raise ValueError(
                "`y` must be numbers. Received: text. `names, y = numpy.unique(y, "
                "return_inverse=True)` numbers the classes in alphabetical order, and "
                "keras.layers.StringLookup(vocabulary=names, num_oov_indices=0) does so in a "
                "dataset."
            )


def _full_class_weight(class_weight, student, heads):
    """Weights of all classes; 1 for those without.

    Keras takes them to be 1 for arrays only, and fails for datasets.
    """
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            "`class_weight` must be a dict of class numbers and their weights. Received: "
            f"class_weight={class_weight!r}. For weights in the order of the classes, pass "
            "dict(enumerate(class_weight))."
        )
    outputs = getattr(student, "outputs", None)
    if outputs and (len(outputs) > 1 or len(outputs[0].shape) > 2):
        raise ValueError(
            "`class_weight` must be None for students of several outputs, or with a class for each "
            f"position: Keras cannot weigh them. Received: class_weight={class_weight!r}. Pass "
            "sample_weight=weights[y] for the labels y of an output, with an array `weights` of "
            "the weights of classes."
        )
    divergence = heads.heads[0].divergence
    num_outputs = outputs[0].shape[-1] if outputs else None
    if divergence == "binary_kl" and num_outputs not in (None, 1):
        raise ValueError(
            "`class_weight` must be None for independent yes/no outputs: Keras would weigh each "
            "example by its first label that is a yes. Received: "
            f"class_weight={class_weight!r} and divergence='binary_kl'. Pass `sample_weight`, or "
            "a loss that weighs the outputs."
        )
    num_classes = num_outputs if num_outputs is not None and num_outputs > 1 else None
    if not all(_is_class(key, num_classes) for key in class_weight):
        last = "" if num_classes is None else f" to {num_classes - 1}"
        raise ValueError(
            f"`class_weight` must have class numbers, from 0{last}, as its keys. Received: the "
            f"keys {list(class_weight)}. Others would have no effect."
        )
    count = num_classes or max([1, *class_weight]) + 1
    return {number: class_weight.get(number, 1.0) for number in range(count)}


def _is_class(key, num_classes):
    is_integer = isinstance(key, (int, np.integer)) and not isinstance(key, bool)
    return is_integer and 0 <= key and (num_classes is None or key < num_classes)
