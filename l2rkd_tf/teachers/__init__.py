"""Teachers of every kind, as Keras models."""

from l2rkd_tf.teachers.callable_teacher import CallableTeacher
from l2rkd_tf.teachers.kinds import as_teacher, features_of_given, kind_without_layers

__all__ = ["CallableTeacher", "as_teacher", "features_of_given", "kind_without_layers"]
