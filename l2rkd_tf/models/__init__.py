"""Student and teacher networks that output logits."""

from l2rkd_tf.models.applications import application, application_names
from l2rkd_tf.models.catalogue import get, names
from l2rkd_tf.models.ensembles import ensemble
from l2rkd_tf.models.mobilenets import mobilenet_v2
from l2rkd_tf.models.resnets import resnet, resnet50
from l2rkd_tf.models.shufflenets import shufflenet_v1, shufflenet_v2
from l2rkd_tf.models.small import convnet
from l2rkd_tf.models.vggs import vgg
from l2rkd_tf.models.wide_resnets import wide_resnet

__all__ = [
    "application",
    "application_names",
    "convnet",
    "ensemble",
    "get",
    "mobilenet_v2",
    "names",
    "resnet",
    "resnet50",
    "shufflenet_v1",
    "shufflenet_v2",
    "vgg",
    "wide_resnet",
]
