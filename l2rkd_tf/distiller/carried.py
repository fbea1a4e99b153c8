"""Region points that the data carry, in the place of drawn ones."""

from collections.abc import Sequence
from typing import Any

from l2rkd_tf.regions.points import RegionPoints, given_points
from l2rkd_tf.teacher_cache.inputs import CarriedPoints
from l2rkd_tf.utils.types import TensorLike

__all__ = ["carried_points"]


def carried_points(
    carried: CarriedPoints,
    seed: TensorLike,
    num_points: int,
    replace_fraction: float | None,
    front: Any,
    mask_values: Sequence[float | None],
) -> RegionPoints:
    """A batch split into training examples and the region points that it carries.

    Args:
        carried: The points.
        seed: As in `draw_points`.
        num_points: Region points for each example.
        replace_fraction: As in `draw_points`.
        front: The student up to the layer after which regions are drawn, or `None`.
        mask_values: Value of padding of each input, or `None`.

    Raises:
        ValueError: If the points are not all that a step needs of them.
    """
    if num_points != 1:
        raise ValueError(
            "`num_region_points` must be 1 for data that carry region points: each example has one "
            f"in each pass. Received: num_region_points={num_points}"
        )
    if front is not None:
        raise ValueError(
            "`region_at` must be None for data that carry region points, which are inputs. Leave "
            "it out, or train on teacher_cache.cache_teacher."
        )
    if any(value is not None for value in mask_values):
        raise ValueError(
            "`x` must not carry region points where a model masks padding (keras.layers.Masking): "
            "they were drawn without regard to it. Train on teacher_cache.cache_teacher."
        )
    return given_points(carried.points, seed, replace_fraction)
