"""Types of arguments that signatures of several modules share.

A type checker without type information of TensorFlow and Keras, which have none of their own,
takes their classes for `Any`; the rest of a signature is checked all the same.
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
    "TensorLike",
    "Tensors",
    "Where",
]

#: What TensorFlow makes one tensor of: a tensor, an array, a number, nested lists of numbers.
TensorLike: TypeAlias = tf.Tensor | np.ndarray | Sequence[Any] | float
#: One of these, or a list or dict of such: the inputs of a model.
Tensors: TypeAlias = TensorLike | Mapping[str, Any]
#: Many examples.
Data: TypeAlias = Tensors | tf.data.Dataset
#: Sizes along the axes; `None` where a size is not known beforehand.
Shape: TypeAlias = tuple[int | None, ...]
#: A model's output and features of its layers, by name.
Features: TypeAlias = dict[str, tf.Tensor]
#: `(model, inputs, training) -> (outputs, features)`.
FeatureFunction: TypeAlias = Callable[[keras.Model, Any, bool], tuple[tf.Tensor, Features]]

#: Arguments of a constructor, as `get_config` gives them.
Config: TypeAlias = dict[str, Any]
#: What Keras tells callbacks, by name.
Logs: TypeAlias = dict[str, Any]
PathLike: TypeAlias = str | os.PathLike[str]
#: A function of the epoch, or of the epoch and the present value.
Schedule: TypeAlias = Callable[..., float]

DistillationLosses: TypeAlias = (
    keras.distillation.DistillationLoss | Sequence[keras.distillation.DistillationLoss]
)

Divergence: TypeAlias = Literal["kl", "binary_kl", "mse"]
Partner: TypeAlias = Literal["random", "nearest", "same_class"]
Quantization: TypeAlias = Literal["dynamic", "float16", "int8"]
RegionTargets: TypeAlias = Literal["teacher", "interpolated"]
#: Points of a training step: training points, region points, or all of them.
Where: TypeAlias = Literal["data", "region", "both"]
