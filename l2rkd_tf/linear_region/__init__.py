"""Regions that ask the teacher: how far it is linear, and which region suits it.

`LinearRegion` goes from each example only as far as its teacher stays linear; `suggest_region`
ranks regions by scores that need a teacher and data but no student.
"""

from l2rkd_tf.linear_region.region import LinearCoefficients, LinearRegion
from l2rkd_tf.linear_region.suggestion import RegionScore, suggest_region

__all__ = ["LinearCoefficients", "LinearRegion", "RegionScore", "suggest_region"]
