"""Existing distillation methods, for use alone, with KD, or with L2RKD.

Pass them to `L2RKDDistiller(distillation_losses=[...])`, or to `keras.distillation.Distiller`.
Methods that are regions with certain settings are functions that return arguments of
`L2RKDDistiller`: `funmatch`, `mixup_kd`, `noise_kd`, `pe_bkd`.
"""

from l2rkd_tf.methods.base import FeatureMethod, LayersMethod, LearnedMethod, Method
from l2rkd_tf.methods.contrast import ContrastiveRepresentation
from l2rkd_tf.methods.hints import FitNet, VariationalInformation
from l2rkd_tf.methods.jacobian import JacobianMatching
from l2rkd_tf.methods.layers import find_layers
from l2rkd_tf.methods.logits import DIST, DecoupledKD, NormalizedLogits
from l2rkd_tf.methods.maps import (
    AttentionTransfer,
    FlowOfSolutionProcedure,
    NeuronSelectivityTransfer,
)
from l2rkd_tf.methods.presets import funmatch, mixup_kd, noise_kd, pe_bkd
from l2rkd_tf.methods.relations import (
    CorrelationCongruence,
    ProbabilisticKT,
    RelationalKD,
    SimilarityPreserving,
)

__all__ = [
    "AttentionTransfer",
    "ContrastiveRepresentation",
    "CorrelationCongruence",
    "DIST",
    "DecoupledKD",
    "FeatureMethod",
    "FitNet",
    "FlowOfSolutionProcedure",
    "JacobianMatching",
    "LayersMethod",
    "LearnedMethod",
    "Method",
    "NeuronSelectivityTransfer",
    "NormalizedLogits",
    "ProbabilisticKT",
    "RelationalKD",
    "SimilarityPreserving",
    "VariationalInformation",
    "find_layers",
    "funmatch",
    "mixup_kd",
    "noise_kd",
    "pe_bkd",
]
