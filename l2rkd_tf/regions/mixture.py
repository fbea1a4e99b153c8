"""Mixtures of other regions."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.base import Region, append_axes, register
from l2rkd_tf.regions.draws import split, uniform
from l2rkd_tf.regions.members import RegionOfRegions
from l2rkd_tf.utils.types import Config, TensorLike, Tensors
from l2rkd_tf.utils.validation import is_number, is_weight


class MixtureCoefficients(NamedTuple):
    """Which region each example drew, and the coefficients of all of them.

    Attributes:
        choice: Index of the region, int32, shape `(batch,)`.
        coefficients: One entry for each region of the mixture.
    """

    choice: tf.Tensor
    coefficients: tuple


@register
class Mixture(RegionOfRegions):
    """A mixture of regions: each example draws one of them.

    Its radii are those of its members (`mixture.regions[0].radius = 0.5`).

    Args:
        regions: Sequence of regions.
        weights: Their probabilities, non-negative, normalized to sum 1. `None` for equal ones.

    Raises:
        ValueError: If `regions` is empty or holds anything but regions, or `weights` are not one
            non-negative number for each region.

    Example:
        >>> region = Mixture([Patch(grid=4), Ball(0.1)], weights=[3, 1])
        >>> x = tf.random.uniform((8, 28, 28, 1))
        >>> region.apply(x, region.draw(x, seed=[0, 0])).shape.as_list()
        [8, 28, 28, 1]

    """

    def __init__(
        self, regions: Sequence[Region], weights: Sequence[float] | np.ndarray | None = None
    ) -> None:
        super().__init__(regions)
        self.weights = _checked_probabilities(weights, len(self.regions))

    def draw(
        self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None
    ) -> MixtureCoefficients:
        """See `Region.draw`."""
        batch = tf.shape(keras.tree.flatten(inputs)[0])[:1]
        choice_seed, *seeds = split(seed, 1 + len(self.regions))
        # The last bound is 1, which a uniform draw never reaches: it is left out of the sum.
        bounds = tf.constant(np.cumsum(self.weights)[:-1], tf.float32)
        position = uniform(batch, choice_seed)
        choice = tf.reduce_sum(tf.cast(position[:, None] >= bounds, tf.int32), axis=-1)
        coefficients = self._draw_each(inputs, seeds, labels)
        return MixtureCoefficients(choice, coefficients)

    def _move(self, method, tensor, coefficients):
        """The result of a method of the region that each example drew."""
        moved = [
            getattr(region, method)(tensor, drawn)
            for region, drawn in zip(self.regions, coefficients.coefficients, strict=True)
        ]

        def select(*candidates):
            # A uint8 image stays one where it is swapped, and is float32 where it is mixed.
            floats = [one.dtype for one in candidates if one.dtype.is_floating]
            if floats:
                candidates = [tf.cast(one, floats[0]) for one in candidates]
            chosen = candidates[0]
            for index, candidate in enumerate(candidates[1:], start=1):
                is_chosen = tf.equal(coefficients.choice, index)
                chosen = tf.where(append_axes(is_chosen, candidate.shape.rank), candidate, chosen)
            return chosen

        return keras.tree.map_structure(select, *moved)

    def at_fraction(
        self, coefficients: MixtureCoefficients, fraction: TensorLike
    ) -> MixtureCoefficients:
        """See `Region.at_fraction`; the boundary is that of the region that the example drew."""
        moved = self._at_fraction_each(coefficients.coefficients, fraction)
        return MixtureCoefficients(coefficients.choice, moved)

    def __repr__(self) -> str:
        return f"Mixture({self.regions!r}, weights={self.weights})"

    def get_config(self) -> Config:
        """See `Region.get_config`."""
        return super().get_config() | {"weights": list(self.weights)}


def _is_share(value):
    """Whether the value is a weight, or a probability too small for float32."""
    return is_weight(value) or (is_number(value) and 0.0 <= value <= 1.0)


def _checked_probabilities(weights, count):
    weights = [1.0] * count if weights is None else weights
    values = weights if isinstance(weights, (list, tuple, np.ndarray)) else []
    if len(values) != count or not all(map(_is_share, values)):
        raise ValueError(
            f"`weights` must be {count} non-negative numbers, one for each region. "
            f"Received: weights={weights!r}"
        )
    values = np.asarray(values, dtype=np.float64)
    if values.sum() == 0.0:
        raise ValueError(f"`weights` must not all be zero. Received: weights={weights!r}")
    return tuple(float(value) for value in values / values.sum())
