"""Regions one after the other."""

from typing import Any

from l2rkd_tf.regions.ball import Ball
from l2rkd_tf.regions.base import register
from l2rkd_tf.regions.draws import split
from l2rkd_tf.regions.members import RegionOfRegions
from l2rkd_tf.utils.types import TensorLike, Tensors


@register
class Compose(RegionOfRegions):
    """Regions one after the other: each moves the points to which the one before it went.

    `x' = move_n(... move_1(x))`. All draw for the examples: the partners of each are examples as
    they are, moved by the regions before it, and a scale is that of the examples.

    Its radii are those of its members (`compose.regions[0].radius = 0.5`).

    Args:
        regions: Sequence of regions, in their order.

    Raises:
        ValueError: If `regions` is empty or holds anything but regions.

    Example:
        >>> noise = Ball(1.0, norm="gaussian", scale="std")
        >>> region = Compose([Swap(), noise])  # of a table: values of two rows, and noise
        >>> x = tf.random.normal((8, 5))
        >>> region.apply(x, region.draw(x, seed=[0, 0])).shape.as_list()
        [8, 5]

    """

    def draw(self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None) -> Any:
        """See `Region.draw`; a tuple of what each member draws."""
        return self._draw_each(inputs, split(seed, len(self.regions)), labels)

    def _move(self, method, tensor, coefficients):
        for region, drawn in zip(self.regions, coefficients, strict=True):
            tensor = getattr(region, method)(tensor, drawn)
        return tensor

    def at_fraction(self, coefficients: Any, fraction: TensorLike) -> Any:
        """See `Region.at_fraction`; the way is straight if all but the first are a `Ball`.

        Raises:
            NotImplementedError: If another one than the first isn't a `Ball`.
        """
        if not all(isinstance(region, Ball) for region in self.regions[1:]):
            raise NotImplementedError(
                "`at_fraction` of a Compose needs balls after its first region, since the way to "
                f"its points is not straight otherwise. Received: {self!r}"
            )
        return self._at_fraction_each(coefficients, fraction)

    def __repr__(self) -> str:
        return f"Compose({self.regions!r})"
