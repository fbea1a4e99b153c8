"""Distillation methods from names and configs."""

from typing import Any

import keras

from l2rkd_tf.methods.contrast import CRD
from l2rkd_tf.methods.fitnet_vid import VID, FitNet
from l2rkd_tf.methods.jacobian import JacobianMatching
from l2rkd_tf.methods.logits import DIST, DKD, LogitStandardization
from l2rkd_tf.methods.maps import FSP, AttentionTransfer, NeuronSelectivityTransfer
from l2rkd_tf.methods.relations import (
    PKT,
    CorrelationCongruence,
    RelationalKD,
    SimilarityPreserving,
)
from l2rkd_tf.utils.identifiers import from_identifier

#: Classes of methods by their names.
METHODS = {
    "attention_transfer": AttentionTransfer,
    "correlation_congruence": CorrelationCongruence,
    "crd": CRD,
    "dist": DIST,
    "dkd": DKD,
    "fitnet": FitNet,
    "fsp": FSP,
    "jacobian_matching": JacobianMatching,
    "logit_standardization": LogitStandardization,
    "nst": NeuronSelectivityTransfer,
    "pkt": PKT,
    "rkd": RelationalKD,
    "similarity_preserving": SimilarityPreserving,
    "vid": VID,
}


def get(identifier: Any) -> keras.distillation.DistillationLoss:
    """A distillation method from an identifier, as `keras.losses.get` does it for losses.

    Args:
        identifier: A `keras.distillation.DistillationLoss`; the name of a method with its
            defaults, such as `"rkd"` or `"RelationalKD"`; or a dict
            `{"class_name": "DKD", "config": {"beta": 2.0}}`.

    Returns:
        A `keras.distillation.DistillationLoss`.

    Raises:
        ValueError: If there is no such method, or `identifier` is a class or anything else.

    Example:
        >>> type(get("rkd")).__name__
        'RelationalKD'
    """
    return from_identifier(
        "distillation_losses",
        identifier,
        keras.distillation.DistillationLoss,
        METHODS,
        "methods.FitNet()",
    )
