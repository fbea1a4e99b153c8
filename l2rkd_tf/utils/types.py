"""Argument types shared by several modules.

TensorFlow and Keras have no type information of their own, so a type checker treats their classes
as `Any`; the rest of a signature is still checked.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "Config",
    "Data",
    "DistillationLosses",
    "Divergence",
    "FeatureFunction",
    "Features",
    "Logs",
    "Partner",
    "PathLike",
    "Quantization",
    "RegionTargets",
    "Schedule",
    "Shape",
    "TeacherDtype",
    "TeacherLike",
    "TeacherPreprocessing",
    "TensorLike",
    "Tensors",
    "Where",
]

#: Convertible to one tensor: a tensor, an array, a number, nested lists of numbers.
TensorLike: TypeAlias = tf.Tensor | np.ndarray | Sequence[Any] | float
#: One of these, or a list or dict of such: the inputs of a model.
Tensors: TypeAlias = TensorLike | Mapping[str, Any]
#: Many examples.
Data: TypeAlias = Tensors | tf.data.Dataset
#: Sizes along the axes; `None` for unknown sizes.
Shape: TypeAlias = tuple[int | None, ...]
#: A model's output and features of its layers, by name.
Features: TypeAlias = dict[str, tf.Tensor]
#: `(model, inputs, training) -> (outputs, features)`.
FeatureFunction: TypeAlias = Callable[[keras.Model, Any, bool], tuple[tf.Tensor, Features]]

#: Arguments of a constructor, as `get_config` returns them.
Config: TypeAlias = dict[str, Any]
#: What Keras passes to callbacks, by name.
Logs: TypeAlias = dict[str, Any]
PathLike: TypeAlias = str | os.PathLike[str]
#: A function of the epoch, or of the epoch and the current value.
Schedule: TypeAlias = Callable[..., float]

#: A trained model or layer, or several, whose mean is taken.
TeacherLike: TypeAlias = keras.layers.Layer | Sequence[keras.layers.Layer]
#: From the student's inputs to the teacher's: a layer, a model, or a registered function.
TeacherPreprocessing: TypeAlias = keras.layers.Layer | Callable[[Any], Any]

_DistillationLoss: TypeAlias = keras.distillation.DistillationLoss | str | Config
#: One or several published methods: objects, names or configs.
DistillationLosses: TypeAlias = _DistillationLoss | Sequence[_DistillationLoss]

Divergence: TypeAlias = Literal["kl", "binary_kl", "mse"]
Partner: TypeAlias = Literal["random", "nearest", "same_class"]
Quantization: TypeAlias = Literal["dynamic", "float16", "int8"]
RegionTargets: TypeAlias = Literal["teacher", "interpolated"]
TeacherDtype: TypeAlias = Literal["bfloat16", "float16"] | None
#: Inputs of a training step: training examples, region points, or all of them.
Where: TypeAlias = Literal["data", "region", "both"]
