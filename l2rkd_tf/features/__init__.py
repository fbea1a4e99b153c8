"""Outputs and inner features of a model in one forward pass, and the paths of its layers."""

from l2rkd_tf.features.extract import feature_model, grey_levels, model_outputs
from l2rkd_tf.features.graph import LayerOutput, has_graph
from l2rkd_tf.features.ids import reads_ids
from l2rkd_tf.features.layers import layer_outputs, layer_path, layer_shapes
from l2rkd_tf.features.names import INPUT_GRADIENT, LOGITS, OUTPUT
from l2rkd_tf.features.taken import check_taken, taken_leaves

__all__ = [
    "INPUT_GRADIENT",
    "LOGITS",
    "LayerOutput",
    "OUTPUT",
    "check_taken",
    "feature_model",
    "grey_levels",
    "has_graph",
    "layer_outputs",
    "layer_path",
    "layer_shapes",
    "model_outputs",
    "reads_ids",
    "taken_leaves",
]
