"""Teacher outputs that are computed once and carried by the data."""

from l2rkd_tf.teacher_cache.caching import cache_teacher
from l2rkd_tf.teacher_cache.inputs import CachedInputs

__all__ = ["CachedInputs", "cache_teacher"]
