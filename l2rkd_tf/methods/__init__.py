"""Published distillation methods, to use on their own, with KD, or with L2RKD.

Pass them to `L2RKDDistiller(distillation_losses=[...])`, or to `keras.distillation.Distiller`.
Methods that amount to settings of a region are functions that return arguments of `L2RKDDistiller`:
`funmatch`, `mixup_kd`, `noise_kd`, `pe_bkd`.
"""

from l2rkd_tf.methods.base import FeatureMethod, LayersMethod, Method, TrainableMethod
from l2rkd_tf.methods.contrast import CRD
from l2rkd_tf.methods.fitnet_vid import VID, FitNet
from l2rkd_tf.methods.identifiers import METHODS, get
from l2rkd_tf.methods.jacobian import JacobianMatching
from l2rkd_tf.methods.layer_search import find_layers
from l2rkd_tf.methods.logits import DIST, DKD, LogitStandardization
from l2rkd_tf.methods.maps import (
    FSP,
    AttentionTransfer,
    NeuronSelectivityTransfer,
)
from l2rkd_tf.methods.presets import funmatch, mixup_kd, noise_kd, pe_bkd
from l2rkd_tf.methods.relations import (
    PKT,
    CorrelationCongruence,
    RelationalKD,
    SimilarityPreserving,
)

__all__ = [
    "AttentionTransfer",
    "CRD",
    "CorrelationCongruence",
    "DIST",
    "DKD",
    "FSP",
    "FeatureMethod",
    "FitNet",
    "JacobianMatching",
    "LayersMethod",
    "LogitStandardization",
    "METHODS",
    "Method",
    "NeuronSelectivityTransfer",
    "PKT",
    "RelationalKD",
    "SimilarityPreserving",
    "TrainableMethod",
    "VID",
    "find_layers",
    "funmatch",
    "get",
    "mixup_kd",
    "noise_kd",
    "pe_bkd",
]
