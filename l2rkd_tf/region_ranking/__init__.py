"""Which region suits a teacher, a student and data: short trainings, judged without labels."""

from l2rkd_tf.region_ranking.ranking import rank_regions
from l2rkd_tf.region_ranking.trials import RankedRegion

__all__ = ["RankedRegion", "rank_regions"]
