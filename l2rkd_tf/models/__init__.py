"""Student and teacher networks that give logits."""

from l2rkd_tf.models.small import convnet

__all__ = ["convnet"]
