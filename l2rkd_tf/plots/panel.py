"""One panel of a decision map: classes, their boundaries and names, and the examples."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from l2rkd_tf.plots.colours import shades
from l2rkd_tf.plots.plane import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BOUNDARY_WIDTH",
    "DASHED",
    "draw_boundaries",
    "draw_classes",
    "draw_examples",
    "draw_names",
]

# Of the boundaries, in points and in Matplotlib's notation.
BOUNDARY_WIDTH = 0.9
DASHED = (0, (3, 2))
# Side of a thumbnail, as a fraction of the side of its panel.
_THUMBNAIL = 0.15


def draw_classes(
    axes: "Axes", plane: Plane, scores: np.ndarray, palette: Mapping[int, str], from_logits: bool
) -> None:
    """Colours the panel by class and confidence."""
    axes.imshow(
        shades(scores, palette, from_logits),
        extent=_edges(plane.horizontal) + _edges(plane.vertical),
        origin="lower",
        interpolation="nearest",
    )
    axes.set(xticks=[], yticks=[])


def _edges(centres):
    """Outer edges of the cells around evenly spaced centres."""
    half_cell = (centres[1] - centres[0]) / 2
    return (centres[0] - half_cell, centres[-1] + half_cell)


def draw_boundaries(
    axes: "Axes", plane: Plane, scores: np.ndarray, linestyle: Any = "solid"
) -> None:
    """Draws lines where the predicted class changes, interpolated between grid points."""
    classes = scores.argmax(axis=-1)
    for label in np.unique(classes)[:-1]:
        lead = scores[..., label] - np.delete(scores, label, axis=-1).max(axis=-1)
        # Borders with smaller class numbers are already drawn, and dashes drawn twice would fill
        # up.
        lead = np.ma.masked_where(classes < label, lead)
        if lead.min() < 0.0:
            axes.contour(
                plane.horizontal,
                plane.vertical,
                lead,
                levels=[0.0],
                colors="black",
                linewidths=BOUNDARY_WIDTH,
                linestyles=[linestyle],
            )


def draw_examples(axes: "Axes", plane: Plane, examples: np.ndarray) -> np.ndarray:
    """Marks the examples; returns which grid points the marks cover."""
    from matplotlib import patches

    axes.add_patch(patches.Polygon(plane.corners, fill=False, edgecolor="white", linewidth=0.8))
    axes.plot(*plane.corners.T, "o", markersize=5, color="white", markeredgecolor="black")
    size = _THUMBNAIL * np.ptp(plane.horizontal)
    marks = [(corner, 0.3 * size) for corner in plane.corners]
    if examples.ndim == 4 and examples.shape[-1] in (1, 3, 4):
        for image, corner in zip(examples, plane.corners, strict=True):
            centre = _thumbnail_centre(plane, corner, size)
            _draw_thumbnail(axes, image, centre, size)
            marks.append((centre, size / 2))
    return np.any(
        [np.abs(plane.coordinates - centre).max(axis=-1) < half for centre, half in marks], axis=0
    )


def _thumbnail_centre(plane, corner, size):
    """A position next to the example, outside the triangle and inside the panel."""
    outward = corner - plane.corners.mean(axis=0)
    place = corner + 0.85 * size * outward / np.abs(outward).max()
    low = np.array([plane.horizontal[0], plane.vertical[0]])
    high = np.array([plane.horizontal[-1], plane.vertical[-1]])
    return np.clip(place, low + 0.55 * size, high - 0.55 * size)


def _draw_thumbnail(axes, image, centre, size):
    from matplotlib import patches

    left, bottom = centre - size / 2
    limits = axes.axis()
    picture = (image - image.min()) / (np.ptp(image) or 1.0)
    axes.imshow(
        picture.squeeze(axis=-1) if picture.shape[-1] == 1 else picture,
        extent=(left, left + size, bottom, bottom + size),
        cmap="gray",
        interpolation="nearest",
        zorder=3,
    )
    axes.add_patch(
        patches.Rectangle((left, bottom), size, size, fill=False, color="white", zorder=4)
    )
    axes.axis(limits)


def draw_names(
    axes: "Axes", plane: Plane, scores: np.ndarray, covered: np.ndarray, names: Sequence[str]
) -> None:
    """Writes class names where there is room, for readers who cannot tell the colours apart."""
    from matplotlib import patheffects

    classes = scores.argmax(axis=-1)
    for label in np.unique(classes).tolist():
        row, column, depth = _deepest_point((classes == label) & ~covered)
        if depth < (0.035 + 0.01 * len(names[label])) * len(classes):
            continue
        axes.text(
            plane.horizontal[column],
            plane.vertical[row],
            names[label],
            fontsize=9,
            ha="center",
            va="center",
            parse_math=False,
            path_effects=[patheffects.withStroke(linewidth=2, foreground="white")],
        )


def _deepest_point(mask):
    """Row and column of the point of the mask that is farthest from its border, and how far."""
    # Imported here, since nothing else needs it.
    from scipy import ndimage

    depths = ndimage.distance_transform_cdt(np.pad(mask, 1), metric="taxicab")[1:-1, 1:-1]
    points = np.argwhere(depths == depths.max())
    row, column = points[len(points) // 2].tolist()
    return row, column, int(depths.max())
