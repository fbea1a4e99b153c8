"""`L2RKDDistiller`, the Keras model that trains a student with its teacher."""

from l2rkd_tf.distiller.model import L2RKDDistiller

__all__ = ["L2RKDDistiller"]
