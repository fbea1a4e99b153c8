"""Regions from names and configs."""

from typing import Any

from l2rkd_tf.regions.ball import Ball
from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.compose import Compose
from l2rkd_tf.regions.linear import LinearRegion
from l2rkd_tf.regions.mixture import Mixture
from l2rkd_tf.regions.partner_regions import Segment, Simplex
from l2rkd_tf.regions.patch import Patch
from l2rkd_tf.regions.swap import Swap
from l2rkd_tf.utils.identifiers import from_identifier

#: Classes of regions by their names.
REGIONS = {
    "ball": Ball,
    "compose": Compose,
    "linear_region": LinearRegion,
    "mixture": Mixture,
    "patch": Patch,
    "segment": Segment,
    "simplex": Simplex,
    "swap": Swap,
}


def get(identifier: Any) -> Region:
    """A region from an identifier, as `keras.losses.get` does it for losses.

    Args:
        identifier: A `Region`; the name of one with its defaults, such as `"patch"`; or a dict
            `{"class_name": "Patch", "config": {"grid": 2}}`.

    Returns:
        A `Region`.

    Raises:
        ValueError: If there is no such region, or it has no defaults (`Ball`, `Compose`,
            `LinearRegion`, `Mixture`), or `identifier` is a class or anything else.

    Example:
        >>> get("segment")
        Segment(radius=1.0, partner='random', alpha=None)
        >>> get({"class_name": "Ball", "config": {"radius": 0.1}})
        Ball(radius=0.1, norm='l2')
    """
    return from_identifier("region", identifier, Region, REGIONS, "regions.Segment()")
