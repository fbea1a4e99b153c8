"""Float32 copies of students that compute in another precision."""

from collections.abc import Mapping

import keras
import numpy as np

from l2rkd_tf.export.inputs import declared_inputs
from l2rkd_tf.export.outputs import of_output
from l2rkd_tf.export.parity import compare_each
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.utils.model_checks import all_layers

__all__ = ["check_copy", "computes_in_float32", "float32_copy"]

# As a fraction of the spread of the outputs. A measured float32 copy differs from its bfloat16
# original by 0.005; one with misplaced weights by about the whole spread.
_COPY_TOLERANCE = 0.1
_OTHER_PRECISIONS = ("float16", "bfloat16", "float64")


def computes_in_float32(model: keras.Model) -> bool:
    """Whether no layer of a model computes in half or double precision."""
    return not any(one.compute_dtype in _OTHER_PRECISIONS for one in [model, *all_layers(model)])


def float32_copy(student: keras.Model) -> keras.Model:
    """A model with the student's weights that computes in float32."""
    if declared_inputs(student) is None:
        raise ValueError(
            "`student` is a subclassed model in mixed or double precision, which cannot be copied "
            "in float32. Build one under the dtype policy 'float32', set its weights to "
            "`student.get_weights()`, and export that."
        )
    copy = keras.models.clone_model(student, clone_function=_float32_layer, recursive=True)
    copy.set_weights(student.get_weights())
    return copy


def check_copy(
    original_outputs: Mapping[str, np.ndarray], copy_outputs: Mapping[str, np.ndarray]
) -> float:
    """Checks that a copy equals its student up to precision; returns the largest difference."""
    comparisons = compare_each(original_outputs, copy_outputs)
    for name, comparison in comparisons.items():
        if not comparison.is_within(_COPY_TOLERANCE):
            raise ExportError(
                "The float32 copy of the student differs from it"
                f"{of_output(name, comparisons)} by {comparison.max_abs_difference:.3g}, at "
                f"outputs with a spread of {comparison.output_spread:.3g}. Build the student under "
                "the dtype policy 'float32', set its weights to `student.get_weights()`, and "
                "export that."
            )
    return max(comparison.max_abs_difference for comparison in comparisons.values())


def _float32_layer(layer):
    return type(layer).from_config(_float32_config(layer.get_config()))


def _float32_config(config):
    """A layer's config, with float32 in every dtype policy, also of wrapped layers."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32_config, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "float32"
        if key == "dtype" and _names_other_precision(value)
        else _float32_config(value)
        for key, value in config.items()
    }


def _names_other_precision(dtype):
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return isinstance(dtype, str) and dtype.endswith(_OTHER_PRECISIONS)
