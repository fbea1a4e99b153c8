"""The outputs of a student at inference, which must not depend on chance or on other examples."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.export.examples import batches
from l2rkd_tf.export.layer_search import describe, inner_outputs, layer_of_variable
from l2rkd_tf.export.outputs import ONLY_OUTPUT, concatenated, inference
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.export.spread import robust_spread

__all__ = ["student_outputs"]

# Accepted difference of one example alone and in a batch, as a fraction of the spread: by whether
# the student has changed a variable meanwhile. Half precision rounds by as much as the larger one.
_REPEATED_TOLERANCE = {True: 1e-4, False: 5e-2}
_NUM_REPEATED = 4


def student_outputs(student: keras.Model, arrays: Any) -> dict[str, np.ndarray]:
    """The student's outputs on all examples by name, float32, of shape `(examples, ...)`.

    They are those of `student(x, training=False)`. Its variables do not change.

    Raises:
        ValueError: If an output does not have the shape `(batch, ...)`, or one of several has no
            name of its own.
        ExportError: If an example alone has other outputs than in its batch: the student draws
            random numbers, or keeps or shares a state, although it does not train.
    """
    state = [(variable, variable.value.numpy()) for variable in student.non_trainable_variables]
    try:
        outputs = _run(student, batches(arrays))
        repeated = _run(student, _few(arrays))
        changed = [
            variable
            for variable, before in state
            if not np.array_equal(variable.value.numpy(), before)
        ]
    finally:
        for variable, before in state:
            variable.assign(before)
    tolerance = _REPEATED_TOLERANCE[bool(changed)]
    if not all(_equal(outputs[name], repeated[name], tolerance) for name in outputs):
        raise ExportError(_cause(student, arrays, changed))
    return outputs


def _few(arrays):
    """The first examples, one by one."""
    first = next(batches(arrays, _NUM_REPEATED))
    return batches(first, 1)


def _run(student, inputs):
    # On the CPU, where the artifact runs: a GPU may round float32 products to fewer bits.
    with tf.device("CPU"):
        outputs = concatenated(_checked(student, batch) for batch in inputs)
    return {name: array.astype("float32") for name, array in outputs.items()}


def _checked(student, batch):
    """Outputs by name, all with a row of numbers for each example."""
    outputs = inference(student, batch)
    outputs = outputs if isinstance(outputs, dict) else {ONLY_OUTPUT: outputs}
    count = len(keras.tree.flatten(batch)[0])
    for output in outputs.values():
        is_usable = tf.is_tensor(output) and output.dtype != tf.string and len(output.shape) > 1
        if not is_usable or output.shape[0] != count:
            raise ValueError(
                "`student` must have outputs of numbers, of shape (batch, ...). Received: a "
                f"student whose outputs for a batch of {count} are "
                f"{', '.join(f'{one.dtype.name} {one.shape}' for one in outputs.values())}."
            )
    return outputs


def _equal(outputs, repeated, tolerance):
    finite = np.isfinite(outputs).all() and np.isfinite(repeated).all()
    if not finite or outputs.shape[1:] != repeated.shape[1:]:
        return True  # which is another error
    difference = np.abs(outputs[: len(repeated)].astype("float64") - repeated).max()
    return difference <= tolerance * robust_spread(outputs)


def _cause(student, arrays, changed):
    """Says which layer is not the same each time."""
    layers = dict.fromkeys(layer_of_variable(student, variable) for variable in changed)
    is_random = any("seed_generator" in variable.path for variable in changed)
    if not layers:
        layers, is_random = _unstable_layers(student, arrays), True
    what = "draw random numbers" if is_random else "change a state or mix examples of a batch"
    return (
        "`student` has other outputs each time it runs on the same inputs, so that no exported "
        f"file can equal it. Also with training=False, {' and '.join(layers) or 'layers'} {what}. "
        "Let `call` of the layer take `training`, do this only if it is True, and pass it on to "
        "the layers inside; or export a student without the layer."
    )


def _unstable_layers(student, arrays):
    """The first layer that outputs something else the second time."""
    first = next(batches(arrays, _NUM_REPEATED))
    runs = inner_outputs(student, first), inner_outputs(student, first)
    for (layer, once), (_, twice) in zip(*runs, strict=True):
        if not np.allclose(once, twice, rtol=1e-3, atol=1e-5):
            return [describe(layer)]
    return []
