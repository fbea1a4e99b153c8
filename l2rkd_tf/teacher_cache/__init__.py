"""Teacher outputs that are computed once, or elsewhere, and carried by the data."""

from l2rkd_tf.teacher_cache.bank import cache_regions
from l2rkd_tf.teacher_cache.caching import cache_teacher
from l2rkd_tf.teacher_cache.given import from_outputs
from l2rkd_tf.teacher_cache.inputs import CachedInputs, CachedRegions

__all__ = ["CachedInputs", "CachedRegions", "cache_regions", "cache_teacher", "from_outputs"]
