"""Regions of noise around an example."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.base import Region, in_float, register, scaled
from l2rkd_tf.regions.draws import in_unit_l2_ball, in_unit_linf_ball, normal, split
from l2rkd_tf.regions.leaves import (
    is_mixable,
    map_leaves,
    mixable_leaves,
    named_leaves,
    position_axes,
)
from l2rkd_tf.utils.types import Config, TensorLike, Tensors
from l2rkd_tf.utils.validation import check_choice

_NORMS = {"l2": in_unit_l2_ball, "linf": in_unit_linf_ball, "gaussian": normal}


@register
class Ball(Region):
    """A ball around each point, in units of the input.

    `x' = x + e` with `e` uniform in the ball `||e||_2 <= radius` (`norm="l2"`), uniform in the cube
    `max |e| <= radius` (`"linf"`), or normal with standard deviation `radius` in each coordinate
    (`"gaussian"`, unbounded). Each of several inputs has its own ball; token ids, categories,
    strings and masks next to them stay as they are. There is no corresponding map of logits, so the
    targets must come from the teacher.

    Args:
        radius: Size of the ball, positive, in units of the input.
        norm: `"l2"`, `"linf"` or `"gaussian"`.
        scale: `"std"`: the radius of `"gaussian"` is in units of the standard deviation over the
            batch (the share of a replica), of each coordinate of a vector, or of each channel over
            all positions. So inputs need no common scale. `None`: in units of the input.
        fixed: Names of inputs that stay as they are, see `Segment`.

    Raises:
        ValueError: If `radius` is not positive, `norm` or `scale` is unknown, `scale` is given for
            another norm than `"gaussian"`, or if `apply` gets anything but the inputs.

    Example:
        >>> region = Ball(radius=0.1, norm="linf")
        >>> x = tf.zeros((2, 3))
        >>> bool(tf.reduce_all(tf.abs(region.apply(x, region.draw(x, seed=[0, 0]))) <= 0.1))
        True

    """

    max_radius = np.inf
    interpolates_targets = False

    def __init__(
        self,
        radius: float,
        norm: Literal["l2", "linf", "gaussian"] = "l2",
        scale: Literal["std"] | None = None,
        fixed: Sequence[str | int] = (),
    ) -> None:
        super().__init__(radius, fixed)
        check_choice("norm", norm, tuple(_NORMS))
        check_choice("scale", scale, (None, "std"))
        if scale is not None and norm != "gaussian":
            raise ValueError(
                "`scale` must be None for balls with a boundary. Received: "
                f"scale={scale!r} and norm={norm!r}. Use norm='gaussian'."
            )
        self.norm = norm
        self.scale = scale
        self._data_format: str | None = None

    @property
    def needs_partners(self) -> bool:  # type: ignore[override]  # follows `scale`
        """Whether the noise depends on the spread of the batch."""
        return self.scale is not None

    def set_data_format(self, data_format: str | None) -> None:
        """See `Region.set_data_format`."""
        self._data_format = data_format

    def draw(self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None) -> Any:
        """See `Region.draw`."""
        seeds = iter(split(seed, len(mixable_leaves(inputs, self.fixed))))

        def noise(name, leaf):
            if name in self.fixed or not is_mixable(leaf.dtype):
                return tf.zeros(tf.shape(leaf))
            noise = self.radius_variable * _NORMS[self.norm](tf.shape(leaf), next(seeds))
            return noise if self.scale is None else noise * self._deviation(leaf)

        return map_leaves(noise, inputs)

    def _deviation(self, leaf):
        """Standard deviation of each coordinate of a vector, or of each channel."""
        positions = position_axes(leaf.shape.rank, self._data_format)
        return tf.math.reduce_std(tf.cast(leaf, tf.float32), axis=[0, *positions], keepdims=True)

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """See `Region.apply`."""
        keras.tree.assert_same_structure(tensor, coefficients)
        noises = named_leaves(coefficients)

        def add(name, leaf):
            noise = noises[name]
            if not leaf.shape.is_compatible_with(noise.shape):
                raise ValueError(
                    "`region=Ball(...)` maps inputs only, not logits or labels. "
                    f"Received: a tensor of shape {leaf.shape} where the inputs have shape "
                    f"{noise.shape}. Use region_targets='teacher'."
                )
            if not is_mixable(leaf.dtype):
                return leaf
            return in_float(leaf, lambda point: point + tf.cast(noise, point.dtype))

        return map_leaves(add, tensor, self.fixed)

    def move_mask(self, mask: tf.Tensor, coefficients: Any) -> tf.Tensor:
        """See `Region.move_mask`: padding stays where it is."""
        del coefficients
        return mask

    def at_fraction(self, coefficients: Any, fraction: TensorLike) -> Any:
        """See `Region.at_fraction`; Gaussian noise has no boundary, so 1 is the drawn point."""
        if self.norm == "gaussian":
            return keras.tree.map_structure(lambda noise: scaled(noise, fraction), coefficients)

        def move(noise):
            axes = list(range(1, noise.shape.rank))
            # Divide by the largest coordinate first, since squares of small noise vanish in
            # float32.
            size = tf.reduce_max(tf.abs(noise), axis=axes, keepdims=True)
            noise = tf.math.divide_no_nan(noise, size)
            if self.norm == "l2":
                length = tf.sqrt(tf.reduce_sum(noise**2, axis=axes, keepdims=True))
                noise = tf.math.divide_no_nan(noise, length)
            return scaled(self.radius_variable * noise, fraction)

        return keras.tree.map_structure(move, coefficients)

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        given = {} if self.scale is None else {"scale": self.scale}
        return super().get_config() | {"norm": self.norm} | given
