"""How linear models are: between two inputs, and exactly around one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from l2rkd_tf.geometry import BallRadius, LinearityGap
from l2rkd_tf.plots import style
from l2rkd_tf.utils.validation import is_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["linear_radii", "linearity_gap"]

Radii: TypeAlias = BallRadius | np.ndarray | Sequence[float]

_WIDTH = 6.5
_NUM_BINS = 30


def linearity_gap(
    gap: LinearityGap | Mapping[str, LinearityGap], radius: float | None = None
) -> "Figure":
    """Draws how far models are from linear on the way from an example to its partner.

    The relative gap, `mean ||f(x_f) - straight line|| / mean ||f(partner) - f(x)||`, against the
    fraction of the way. Bands are 95 % intervals, ±1.96 standard errors.

    Args:
        gap: A `l2rkd_tf.geometry.LinearityGap`, or a dict of models' names and theirs.
        radius: Radius of a region towards the same partners, from 0 to 1, to mark its extent.
            Default: none.

    Returns:
        `matplotlib.figure.Figure`, 6.5 inches wide.

    Raises:
        ValueError: If `gap` holds anything but `LinearityGap`s, `radius` is not in `(0, 1]`, or a
            model's outputs do not change between the ends.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> absolute = keras.Sequential([keras.Input((1,)), keras.layers.Activation(abs)])
        >>> gap = l2rkd_tf.geometry.linearity_gap(absolute, [[-1.0], [1.0]], [[3.0], [2.0]])
        >>> figure = linearity_gap({"teacher": gap}, radius=0.5)
        >>> figure.axes[0].get_lines()[0].get_ydata().tolist()
        [0.5, 0.333..., 0.166...]
    """
    gaps = style.named("gap", gap, LinearityGap)
    if radius is not None and not (is_number(radius) and 0.0 < radius <= 1.0):
        raise ValueError(
            "`radius` must be a fraction of the way to the partner, above 0 and at most 1, or "
            f"None. Received: radius={radius!r}"
        )
    constant = [name for name, values in gaps.items() if np.isnan(values.relative).all()]
    if constant:
        raise ValueError(
            "`gap` must be for models whose outputs differ between the two ends. Received: no "
            f"relative gap for {constant}"
        )
    style.require_matplotlib()
    figure, (axes,) = style.empty_panels(1, _WIDTH)
    for number, (name, values) in enumerate(gaps.items()):
        style.draw_curve(
            axes,
            values.fractions,
            values.relative,
            values.relative_stderr,
            number=number,
            label=name,
        )
    if radius is not None:
        axes.axvspan(0.0, radius, color="0.5", alpha=0.12, linewidth=0)
        axes.axvline(
            radius, color="0.35", linewidth=1.2, linestyle=":", label=f"region, radius {radius:g}"
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("fraction of the way to the partner")
    axes.set_ylabel("gap to a straight line\nrelative to the whole change")
    style.legend_below(figure, "bands: 95 % intervals")
    return figure


def linear_radii(
    radii: Radii | Mapping[str, Radii], neighbour_distances: Sequence[float] | np.ndarray
) -> "Figure":
    """Draws how far models are exactly linear, and how far the nearest neighbours are.

    Histograms on a logarithmic axis. If the radius exceeds the distance of a neighbour, a region
    towards it lies within one linear piece; otherwise its points tell a student more than the
    teacher's Jacobian at the example. Values of 0 (an example on the boundary of its piece, as when
    a blank part of an image ties in a max-pooling window) and infinity cannot be drawn: the legend
    counts them.

    Args:
        radii: Radii in units of the input, shape `(examples,)`, or a
            `l2rkd_tf.geometry.BallRadius`; or a dict of models' names and theirs. For
            `l2rkd_tf.geometry.linear_radius`, take directions of length 1.
        neighbour_distances: Distances of examples from their nearest neighbours in the same units
            and norm, shape `(examples,)`.

    Returns:
        `matplotlib.figure.Figure`, 6.5 inches wide. The medians in its legend count all values.

    Raises:
        ValueError: If a value is negative or NaN, an array is empty or not one-dimensional, or
            there is no value between 0 and infinity to draw.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> figure = linear_radii({"teacher": np.array([0.02, 0.05, np.inf])}, [1.0, 2.0, 1.5])
        >>> [entry.get_text() for entry in figure.legends[0].get_texts()]
        ['linear radius of teacher: median 0.05 (1 infinite)', 'nearest neighbour: median 1.5']
    """
    entries = style.named("radii", radii, (BallRadius, np.ndarray, list, tuple))
    samples = [
        (_label_of(name, entry), _checked_distances("radii", _values_of(entry)))
        for name, entry in entries.items()
    ]
    distances = _checked_distances("neighbour_distances", neighbour_distances)
    samples.append(("nearest neighbour", distances))
    drawable = np.concatenate([_drawable(values) for _, values in samples])
    if not len(drawable):
        raise ValueError(
            "`radii` and `neighbour_distances` must hold a value between 0 and infinity. "
            "Received: none"
        )
    style.require_matplotlib()
    figure, (axes,) = style.empty_panels(1, _WIDTH)
    bins = _log_bins(drawable)
    for number, (label, values) in enumerate(samples):
        _draw_histogram(axes, values, bins, label, number, is_last=number == len(samples) - 1)
    axes.set_xscale("log")
    axes.set_xlabel("distance in the units of the input")
    axes.set_ylabel("examples")
    style.legend_below(figure, max_columns=1)
    return figure


def _label_of(name, entry):
    bound = isinstance(entry, BallRadius) and not entry.exact
    kind = "linear radius (upper bound)" if bound else "linear radius"
    return f"{kind} of {name}" if name else kind


def _values_of(entry):
    return entry.radius if isinstance(entry, BallRadius) else entry


def _checked_distances(argument, values):
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array) or not (array >= 0.0).all():
        raise ValueError(
            f"`{argument}` must be distances, not negative, of shape (examples,). Received: an "
            f"array of shape {array.shape}"
            + (f" with a smallest value of {array.min():g}" if array.size else "")
        )
    return array


def _drawable(values):
    return values[(values > 0.0) & np.isfinite(values)]


def _log_bins(values):
    """Edges of logarithmic bins for all values."""
    low, high = values.min(), values.max()
    return np.geomspace(low / 1.01, high * 1.01, _NUM_BINS + 1)


def _draw_histogram(axes, values, bins, label, number, is_last):
    """Draws outlines, so that none hides another; that of the neighbours is black and hatched."""
    lost = {"zero": np.sum(values == 0.0), "infinite": np.sum(np.isinf(values))}
    counts = ", ".join(f"{count} {what}" for what, count in lost.items() if count)
    look = style.curve_style(number)
    axes.hist(
        _drawable(values),
        bins,
        histtype="stepfilled",
        facecolor="none" if is_last else (look["color"], 0.15),
        edgecolor="black" if is_last else look["color"],
        hatch="///" if is_last else None,
        linestyle="-" if is_last else look["linestyle"],
        linewidth=1.2 if is_last else 1.8,
        label=f"{label}: median {np.median(values):.3g}" + (f" ({counts})" if counts else ""),
    )
