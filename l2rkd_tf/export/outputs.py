"""The outputs of a student, and their names in its artifact."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from l2rkd_tf.utils.outputs import tensor_or_dict

__all__ = ["ONLY_OUTPUT", "concatenated", "inference", "of_output"]

#: Name of the output of an artifact that has one.
ONLY_OUTPUT = "output_0"


def inference(student: keras.Model, inputs: Any) -> Any:
    """The student's outputs when it does not train: a tensor, or a dict by name of several."""
    return tensor_or_dict("student", student, student(inputs, training=False))


def concatenated(batches: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Outputs by name of all batches."""
    found = list(batches)
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def of_output(name: str, outputs: Mapping[str, Any]) -> str:
    """Words for one of several outputs, to end a clause with; none for the only one."""
    return f" in the output {name!r}" if len(outputs) > 1 else ""
