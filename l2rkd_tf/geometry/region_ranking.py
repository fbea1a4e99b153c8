"""Which region suits a teacher, judged without training a student."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.geometry.evaluation import batched, check_region, per_example
from l2rkd_tf.geometry.linearity import linearity_gap
from l2rkd_tf.geometry.scores import teacher_stddev
from l2rkd_tf.regions import Ball, Patch, Region, Segment, Simplex, Swap, default_region
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.types import Data, TensorLike
from l2rkd_tf.utils.validation import checked_seed, is_positive_integer

__all__ = ["RegionScore", "rank_regions"]

# Standard deviations of noise, as fractions of that of the data.
_NOISE = (0.1, 0.3)


class RegionScore(NamedTuple):
    """A region and its scores.

    Attributes:
        region: The region, ready for a distiller.
        radius: Its radius; a tuple of them for a `Mixture`.
        score: `l2rkd_tf.geometry.teacher_stddev` with the region: a lower score predicts a better
            student.
        linearity_gap: How far the teacher is from linear on the way to the region's points:
            relative gap of `l2rkd_tf.geometry.linearity_gap`, mean over fractions 1/4, 1/2 and 3/4;
            0 for linear, NaN if the outputs do not change. It is not used for the ranking.
    """

    region: Region
    radius: float | tuple
    score: float
    linearity_gap: float


def rank_regions(
    teacher: keras.Model,
    data: Data,
    regions: Region | Iterable[Region] | None = None,
    *,
    labels: TensorLike | None = None,
    num_draws: int = 30,
    num_points: int = 320,
    batch_size: int = 64,
    seed: int = 0,
    verbose: bool = True,
) -> list[RegionScore]:
    """Ranks regions and radii for a teacher and its data, without training a student.

    The score is the teacher's standard deviation, `l2rkd_tf.geometry.teacher_stddev`: according to
    its paper, the *lower* it is, the better the student that is trained with these points. It is a
    heuristic: use it as an order in which to try regions, and see this project's study of regions
    for how well it agrees with the accuracy of students. It has a blind spot: a region so large
    that the teacher outputs the same everywhere scores well and teaches nothing. A `linearity_gap`
    far above the others' is a sign of this.

    All regions are scored with the same examples in the same draws. The score's own relative error
    is about `1 / sqrt(2 * num_draws)` for each class: regions that are closer than that are tied.

    Args:
        teacher: Built Keras model that outputs logits, shape `(batch, classes)`.
        data: Inputs, an array of shape `(examples, ...)` or a list or dict of such; or a batched
            `tf.data.Dataset` of inputs or `(inputs, labels[, weights])`, which is read into
            memory. Weights are ignored.
        regions: The candidates, a sequence of `l2rkd_tf.regions.Region`, one for each radius to
            try. `None` for `Segment` of radius 1 and 0.5 and towards the nearest partner,
            `Simplex`, for vectors `Swap`, Gaussian `Ball`s of 0.1 and 0.3 standard deviations of
            the data, and for images `Patch`es of a 2x2 grid and a 4x4 grid, the latter with radius
            1 and 0.5.
        labels: Labels of `data`, for regions that need them, if it is not a dataset.
        num_draws: Number of draws, at least 2.
        num_points: Examples in each draw.
        batch_size: Examples evaluated together, among which a region finds partners.
        seed: Integer seed of all draws.
        verbose: Whether to print a table.

    Returns:
        List of `RegionScore`, best first: `rank_regions(...)[0].region` is the suggestion.

    Raises:
        ValueError: If `teacher` is not built or does not output logits, `regions` is empty or holds
            something else, `num_draws` is below 2, or another argument is not as above.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> regions = [l2rkd_tf.regions.Segment(radius) for radius in (0.5, 1.0)]
        >>> ranking = rank_regions(teacher, x, regions, num_draws=5, verbose=False)
        >>> len(ranking), ranking[0].score <= ranking[1].score
        (2, True)

    Reference: Wang, Lohit, Jones and Fu, What Makes a "Good" Data Augmentation in Knowledge
    Distillation (arXiv:2012.02909), for the score; the candidates are not from the paper.
    """
    check_models_are_built(teacher=teacher)
    seed = checked_seed(seed)
    candidates = None if regions is None else _checked_candidates(regions)
    data, labels = _in_memory(data, labels, num_draws, num_points, batch_size, seed)
    if candidates is None:
        candidates = _default_candidates(data)
    options: dict[str, Any] = {"labels": labels, "batch_size": batch_size, "seed": seed}
    counts = {"num_draws": num_draws, "num_points": num_points}
    ranking = [
        RegionScore(
            region,
            region.radius,
            teacher_stddev(teacher, data, region, **counts, **options),
            _mean_gap(teacher, data, region, num_points, **options),
        )
        for region in candidates
    ]
    ranking.sort(key=lambda entry: entry.score)
    if verbose:
        print(_table(ranking))
    return ranking


def _checked_candidates(regions):
    candidates = [regions] if isinstance(regions, Region) else regions
    candidates = list(candidates) if np.iterable(candidates) else []
    if not candidates:
        raise ValueError(
            "`regions` must hold at least one region, or be None for the default candidates. "
            f"Received: regions={regions!r}"
        )
    for region in candidates:
        check_region(region)
    return candidates


def _in_memory(data, labels, num_draws, num_points, batch_size, seed):
    """Inputs and labels as arrays: at most as many examples as all draws use, chosen at random."""
    for name, value, least in (("num_draws", num_draws, 2), ("num_points", num_points, 1)):
        if not is_positive_integer(value) or value < least:
            raise ValueError(
                f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}"
            )
    arrays = per_example(
        lambda inputs, labels, number: (inputs,) if labels is None else (inputs, labels),
        batched(data, batch_size, labels),
    )
    count = len(keras.tree.flatten(arrays)[0])
    if count > num_draws * num_points:
        rows = _some_rows(count, num_draws * num_points, seed)
        arrays = keras.tree.map_structure(lambda leaf: leaf[rows], arrays)
    inputs, *labels = arrays
    return inputs, labels[0] if labels else None


def _some_rows(count, wanted, seed):
    return np.random.default_rng(seed).permutation(count)[:wanted]


def _default_candidates(inputs):
    regions = [Segment(), Segment(radius=0.5), Segment(partner="nearest"), Simplex()]
    if isinstance(default_region(inputs), Swap):
        regions.append(Swap())
    leaves = keras.tree.flatten(inputs)
    first = 2 if keras.config.image_data_format() == "channels_first" else 1
    sides = [size for leaf in leaves if leaf.ndim == 4 for size in leaf.shape[first : first + 2]]
    for grid, radius in ((2, 1.0), (4, 1.0), (4, 0.5)):
        if sides and grid <= min(sides):
            regions.append(Patch(grid, radius))
    variances = np.concatenate([leaf.var(axis=0, dtype="float64").ravel() for leaf in leaves])
    spread = float(np.sqrt(variances.mean()))
    if spread > 0.0:
        regions += [Ball(float(f"{share * spread:.3g}"), norm="gaussian") for share in _NOISE]
    return regions


def _mean_gap(teacher, inputs, region, num_points, *, labels, batch_size, seed):
    """Relative linearity gap of the teacher on the way to region points of some examples."""
    rows = _some_rows(len(keras.tree.flatten(inputs)[0]), num_points, seed)
    inputs = keras.tree.map_structure(lambda leaf: leaf[rows], inputs)
    labels = None if labels is None else labels[rows]

    def draw(inputs, labels, number):
        return region.apply(inputs, region.draw(inputs, tf.stack([seed, number]), labels))

    points = per_example(draw, batched(inputs, batch_size, labels))
    return float(linearity_gap(teacher, inputs, points, batch_size=batch_size).relative.mean())


def _table(ranking):
    names = [repr(entry.region) for entry in ranking]
    width = max(map(len, ["region", *names]))
    lines = [f"{'region':<{width}}  {'radius':>9}  {'T. stddev':>9}  {'linearity gap':>13}"]
    for name, entry in zip(names, ranking, strict=True):
        radius = f"{entry.radius:.3g}" if isinstance(entry.radius, float) else "mixed"
        lines.append(
            f"{name:<{width}}  {radius:>9}  {entry.score:>9.5f}  {entry.linearity_gap:>13.3f}"
        )
    return "\n".join([*lines, "Best first: lower T. stddev is better, by a heuristic."])
