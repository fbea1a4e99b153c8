"""What regions that are made of other regions share."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.regions.base import Region
from l2rkd_tf.utils.types import Config, Tensors


class RegionOfRegions(Region):
    """Base class of regions that are made of others.

    Its radii are those of its members (`region.regions[0].radius = 0.5`).

    Args:
        regions: Sequence of regions.

    Raises:
        ValueError: If `regions` is empty or holds anything but regions.
    """

    def __init__(self, regions: Sequence[Region]) -> None:
        members = list(regions) if isinstance(regions, (list, tuple)) else []
        if not members or not all(isinstance(region, Region) for region in members):
            raise ValueError(
                "`regions` must be a sequence of at least one region. "
                f"Received: regions={regions!r}"
            )
        self.regions = members

    @property  # type: ignore[override]  # its members have one each
    def radius(self) -> tuple[Any, ...]:
        """Radii of the members, a tuple."""
        return tuple(region.radius for region in self.regions)

    @radius.setter
    def radius(self, value: object) -> None:
        raise ValueError(
            f"`radius` of a {type(self).__name__} is that of its members: set "
            f"`region.regions[i].radius`. Received: radius={value!r}"
        )

    @property
    def interpolates_targets(self) -> bool:  # type: ignore[override]  # follows its members
        """Whether all members interpolate logits."""
        return all(region.interpolates_targets for region in self.regions)

    @property
    def needs_partners(self) -> bool:  # type: ignore[override]  # follows its members
        """Whether points of a member depend on other examples of the batch."""
        return any(region.needs_partners for region in self.regions)

    @property
    def fixed(self) -> tuple[str, ...]:  # type: ignore[override]  # follows its members
        """Names of inputs that stay as they are in all members."""
        first, *others = (region.fixed for region in self.regions)
        return tuple(name for name in first if all(name in names for names in others))

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        return self._move("apply", tensor, coefficients)

    def targets(self, outputs: Tensors, coefficients: Any) -> Any:
        """See `Region.targets`."""
        return self._move("targets", outputs, coefficients)

    def move_mask(self, mask: tf.Tensor, coefficients: Any) -> tf.Tensor:
        """See `Region.move_mask`."""
        return self._move("move_mask", mask, coefficients)

    def _move(self, method: str, tensor: Any, coefficients: Any) -> Any:
        """What this method of the members makes of a tensor."""
        raise NotImplementedError(f"{type(self).__name__} must implement `_move`.")

    def _draw_each(self, inputs, seeds, labels):
        """What each member draws, a tuple."""
        members = zip(self.regions, seeds, strict=True)
        return tuple(region.draw(inputs, seed, labels) for region, seed in members)

    def _at_fraction_each(self, coefficients, fraction):
        """Coefficients of each member at a fraction of the way, a tuple."""
        members = zip(self.regions, coefficients, strict=True)
        return tuple(region.at_fraction(drawn, fraction) for region, drawn in members)

    def set_data_format(self, data_format: str | None) -> None:
        """See `Region.set_data_format`."""
        for region in self.regions:
            region.set_data_format(data_format)

    def rename_fixed(self, names: Mapping[str, str]) -> None:
        """See `Region.rename_fixed`."""
        for region in self.regions:
            region.rename_fixed(names)

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """See `Region.set_teacher`."""
        for region in self.regions:
            region.set_teacher(teacher)

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return {"regions": [keras.saving.serialize_keras_object(region) for region in self.regions]}

    @classmethod
    def from_config(cls, config: Config) -> "RegionOfRegions":
        """Creates a region from `get_config()`."""
        regions = [keras.saving.deserialize_keras_object(region) for region in config["regions"]]
        return cls(**(config | {"regions": regions}))


def kind_of(region: Region | None) -> list[Any]:
    """Name of a region's class, with those of its members."""
    members = region.regions if isinstance(region, RegionOfRegions) else ()
    return [type(region).__name__, *map(kind_of, members)]


def set_radii(region: Region, radius: Any) -> None:
    """Sets the radius of a region, or those of its members, where it is another one."""
    if isinstance(region, RegionOfRegions):
        for member, member_radius in zip(region.regions, radius, strict=True):
            set_radii(member, member_radius)
    elif region.radius != radius:
        region.radius = radius
