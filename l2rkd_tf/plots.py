"""Pictures of what a model does between the training points.

`decision_map` draws the plane through three examples as a teacher and its students classify it,
side by side. The numbers behind the picture are functions of their own: `plane_grid` gives the
plane, `class_agreement` compares two models on it.

Matplotlib is imported only when something is drawn: `pip install l2rkd-tf[examples]`.
"""

import dataclasses
import pathlib
import tempfile

import keras
import numpy as np

__all__ = ["Plane", "class_agreement", "decision_map", "plane_grid"]

# Ten colours that stay apart under the common colour vision deficiencies: the Okabe-Ito palette
# without black and with its yellow darkened, as paleness is taken for confidence, and three more.
_PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#C9B800",
    "#6A3D9A",
    "#8C564B",
    "#666666",
)
_OTHER_CLASSES = "#B0B0B0"
_PALEST = 0.4
_BATCH_SIZE = 512
_MAX_COLUMNS = 4
# Side of a thumbnail, as a fraction of the side of its panel.
_THUMBNAIL = 0.15
_WIDTH_INCHES = 9.0
_DOTS_PER_INCH = 200


@dataclasses.dataclass(frozen=True)
class Plane:
    """A square piece of the plane through three examples.

    A point of it is `origin + u * basis[0] + v * basis[1]`. The basis is orthonormal, so distances
    between coordinates `(u, v)` are distances between inputs.

    Attributes:
        origin: The first example, float64, flattened, shape `(features,)`.
        basis: Two orthonormal directions, float64, shape `(2, features)`.
        corners: Coordinates of the three examples, shape `(3, 2)`.
        horizontal: Coordinates `u` of the columns of the grid, ascending, `(resolution,)`.
        vertical: Coordinates `v` of the rows of the grid, ascending, `(resolution,)`.
        input_shape: Shape of one input, without the batch axis.
    """

    origin: np.ndarray
    basis: np.ndarray
    corners: np.ndarray
    horizontal: np.ndarray
    vertical: np.ndarray
    input_shape: tuple

    @property
    def coordinates(self):
        """Coordinates of the grid, shape `(resolution, resolution, 2)`: row, column, `(u, v)`."""
        return np.stack(np.meshgrid(self.horizontal, self.vertical), axis=-1)

    def points(self, coordinates=None):
        """Inputs at the given coordinates.

        Args:
            coordinates: Coordinates `(u, v)`, shape `(..., 2)`. Default: those of the grid.

        Returns:
            Inputs, float32, shape `(..., *input_shape)`.
        """
        coordinates = self.coordinates if coordinates is None else np.asarray(coordinates)
        flat = self.origin + coordinates @ self.basis
        return flat.reshape(*coordinates.shape[:-1], *self.input_shape).astype("float32")


def plane_grid(examples, resolution=120, extent=0.3):
    """The plane through three examples, with true distances, and a grid on it.

    The first example is the origin, the second lies on the horizontal axis and the third above
    it (Gram-Schmidt). The grid is a square around the triangle they form.

    Args:
        examples: Three inputs that do not lie on one line, shape `(3, ...)`.
        resolution: Number of grid points along each side, at least 2.
        extent: Margin around the triangle on each side, as a fraction of the longer side of its
            bounding box; not negative.

    Returns:
        A `Plane`.

    Raises:
        ValueError: If an argument cannot be used; the message says what would work.

    Example:
        >>> plane = plane_grid([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]], resolution=5, extent=0.0)
        >>> plane.corners.tolist()
        [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]
        >>> plane.horizontal.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    examples = np.asarray(examples, "float64")
    _check_grid(examples, resolution, extent)
    flat = examples.reshape(3, -1)
    to_second, to_third = flat[1] - flat[0], flat[2] - flat[0]
    width = np.linalg.norm(to_second)
    across = to_second / width if width else to_second
    along = to_third @ across
    upward = to_third - along * across
    height = np.linalg.norm(upward)
    if min(width, height) <= 1e-6 * max(width, np.linalg.norm(to_third)):
        raise ValueError(
            "`examples` must be three different inputs that do not lie on one line. Received: "
            f"distances {width:.3g} from the first to the second and {height:.3g} from the line "
            "through both to the third."
        )
    corners = np.array([[0.0, 0.0], [width, 0.0], [along, height]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    half_side = (0.5 + extent) * (high - low).max()
    steps = np.linspace(-half_side, half_side, resolution)
    horizontal, vertical = (low + high)[:, None] / 2 + steps
    basis = np.stack([across, upward / height])
    return Plane(flat[0], basis, corners, horizontal, vertical, examples.shape[1:])


def _check_grid(examples, resolution, extent):
    if examples.ndim < 2 or len(examples) != 3 or not np.isfinite(examples).all():
        raise ValueError(
            "`examples` must be three inputs with finite values, an array of shape (3, ...). "
            f"Received: examples of shape {examples.shape}."
        )
    if not isinstance(resolution, (int, np.integer)) or resolution < 2:
        raise ValueError(
            f"`resolution` must be an integer of at least 2. Received: resolution={resolution!r}"
        )
    if not np.isfinite(extent) or extent < 0:
        raise ValueError(
            "`extent` must be a finite number that is not negative, the margin as a fraction of "
            f"the size of the triangle. Received: extent={extent!r}"
        )


def class_agreement(scores, reference_scores):
    """Fraction of points at which two models predict the same class.

    Args:
        scores: Logits or probabilities, shape `(..., classes)`.
        reference_scores: Those of the other model, of the same shape.

    Returns:
        The fraction, a float between 0 and 1.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> class_agreement([[2.0, 1.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 0.0]])
        0.5
    """
    scores, reference_scores = np.asarray(scores), np.asarray(reference_scores)
    if scores.shape != reference_scores.shape:
        raise ValueError(
            "`scores` and `reference_scores` must have the same shape (..., classes). Received: "
            f"{scores.shape} and {reference_scores.shape}."
        )
    return float(np.mean(scores.argmax(axis=-1) == reference_scores.argmax(axis=-1)))


def decision_map(
    models,
    examples,
    *,
    class_names=None,
    resolution=120,
    extent=0.3,
    from_logits=True,
    path=None,
    title=None,
):
    """Draws the plane through three examples as each model classifies it, side by side.

    Every point of the plane is an input. Its colour is the predicted class, and it is the paler
    the less confident the model is (largest probability). Lines are the boundaries between
    classes; the dashed ones are those of the first model, usually the teacher, repeated over
    each other model. The titles say on how much of the plane a model predicts the first one's
    class.

    Args:
        models: Keras models by name, the reference first. Each maps inputs to scores of shape
            `(batch, classes)`, for the same classes.
        examples: Three inputs, shape `(3, ...)`. Those of images, `(3, height, width, channels)`
            with one, three or four channels, are shown beside their points.
        class_names: Names of the classes, in the order of the scores. Default: their numbers.
        resolution: Number of points along each side of the plane.
        extent: Margin around the triangle of the examples, as a fraction of its size.
        from_logits: Whether the models give logits. Pass `False` for models that end in softmax.
        path: Where to save the picture; the suffix (`.png`, `.svg`, `.pdf`) is the format.
            Default: it is not saved.
        title: Title above the panels. Default: none.

    Returns:
        The `matplotlib.figure.Figure`, 9 inches wide.

    Raises:
        ValueError: If an argument cannot be used; the message says what would work.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> models = {
        ...     "teacher": keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]),
        ...     "student": keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]),
        ... }
        >>> figure = decision_map(models, [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], resolution=20)
        >>> len(figure.axes)
        2
    """
    if not isinstance(models, dict) or not models:
        raise ValueError(f"`models` must be a dict of names and models. Received: {models!r}")
    _require_matplotlib()
    examples = np.asarray(examples, "float64")
    plane = plane_grid(examples, resolution, extent)
    scores = {name: _scores_on(model, plane, name) for name, model in models.items()}
    _check_classes(scores, class_names)
    palette = _palette(scores)
    reference_name, reference = next(iter(scores.items()))
    handles = _legend_handles(palette, class_names, reference_name if len(models) > 1 else None)
    legend_columns = len(handles) if len(handles) <= 11 and class_names is None else 6
    figure, panels = _empty_panels(len(models), -(-len(handles) // legend_columns), title)
    for axes, (name, values) in zip(panels, scores.items(), strict=True):
        _draw_classes(axes, plane, values, palette, from_logits)
        _draw_boundaries(axes, plane, values, linewidths=0.9)
        subtitle = "reference" if len(models) > 1 else ""
        if name != reference_name:
            _draw_boundaries(axes, plane, reference, linewidths=0.9, linestyles=[(0, (3, 2))])
            agreement = class_agreement(values, reference)
            subtitle = f"agrees with {reference_name}: {100 * agreement:.1f} %"
        covered = _draw_examples(axes, plane, examples)
        _draw_names(axes, plane, values, covered, class_names)
        axes.set_title(name, fontsize=10, fontweight="bold", pad=17)
        axes.text(0.5, 1.02, subtitle, fontsize=9, ha="center", transform=axes.transAxes)
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=legend_columns,
        title="predicted class (paler: less confident)",
        title_fontsize=9,
        fontsize=9,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.2,
    )
    if path is not None:
        _save(figure, pathlib.Path(path))
    return figure


def _require_matplotlib():
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Plots need Matplotlib. Install it with `pip install l2rkd-tf[examples]`."
        ) from error


def _scores_on(model, plane, name):
    """Scores of the model on the grid, shape `(resolution, resolution, classes)`."""
    coordinates = plane.coordinates.reshape(-1, 2)
    # In batches, because the whole grid of a large image would not fit into memory.
    batches = np.array_split(coordinates, -(-len(coordinates) // _BATCH_SIZE))
    scores = np.concatenate(
        [
            keras.ops.convert_to_numpy(
                keras.ops.cast(model(plane.points(batch), training=False), "float32")
            )
            for batch in batches
        ]
    )
    if scores.ndim != 2 or scores.shape[-1] < 2:
        raise ValueError(
            "`models` must give scores of shape (batch, classes) for at least two classes. "
            f"Received: shape {scores.shape} from {name!r}."
        )
    return scores.reshape(*plane.coordinates.shape[:2], -1)


def _check_classes(scores, class_names):
    counts = {name: values.shape[-1] for name, values in scores.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"`models` must all have the same classes. Received: numbers of classes {counts}."
        )
    count = next(iter(counts.values()))
    if class_names is not None and len(class_names) != count:
        raise ValueError(
            f"`class_names` must hold one name for each of the {count} classes. "
            f"Received: {len(class_names)} names."
        )


def _empty_panels(count, legend_rows, title):
    """A figure with square panels and room for their titles and for the legend below them."""
    from matplotlib import figure

    rows = -(-count // _MAX_COLUMNS)
    columns = -(-count // rows)
    gap, header = 0.12, 0.45
    side = min((_WIDTH_INCHES - gap * (columns + 1)) / columns, 4.4)
    below = 0.4 + 0.2 * legend_rows
    height = below + rows * (side + header) + (0.3 if title else 0.0)
    left = (_WIDTH_INCHES - columns * side - (columns - 1) * gap) / 2
    drawing = figure.Figure(figsize=(_WIDTH_INCHES, height), dpi=_DOTS_PER_INCH)
    panels = []
    for index in range(count):
        row, column = divmod(index, columns)
        x = left + column * (side + gap)
        y = below + (rows - 1 - row) * (side + header)
        box = (x / _WIDTH_INCHES, y / height, side / _WIDTH_INCHES, side / height)
        panels.append(drawing.add_axes(box))
    if title:
        drawing.suptitle(title, y=1 - 0.06 / height, va="top", fontsize=12)
    return drawing, panels


def _palette(scores):
    """A colour for each class that occurs, the same in all panels, in the order of classes."""
    classes = np.concatenate([values.argmax(axis=-1).ravel() for values in scores.values()])
    occurring, counts = np.unique(classes, return_counts=True)
    if max(occurring) < len(_PALETTE):
        return {label: _PALETTE[label] for label in occurring.tolist()}
    largest = sorted(occurring[np.argsort(-counts)][: len(_PALETTE)].tolist())
    colours = dict(zip(largest, _PALETTE, strict=False))
    return {label: colours.get(label, _OTHER_CLASSES) for label in occurring.tolist()}


def _shades(scores, palette, from_logits):
    """RGB colours in [0, 1]: the class gives the colour, the confidence its strength."""
    from matplotlib import colors

    classes = scores.argmax(axis=-1)
    if from_logits:
        exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
        confidence = 1.0 / exponentials.sum(axis=-1)
    else:
        confidence = scores.max(axis=-1)
    chance = 1.0 / scores.shape[-1]
    certainty = np.clip((confidence - chance) / (1.0 - chance), 0.0, 1.0)
    strength = (_PALEST + (1.0 - _PALEST) * certainty)[..., None]
    table = np.ones((scores.shape[-1], 3))
    for label, colour in palette.items():
        table[label] = colors.to_rgb(colour)
    return 1.0 - strength * (1.0 - table[classes])


def _draw_classes(axes, plane, scores, palette, from_logits):
    axes.imshow(
        _shades(scores, palette, from_logits),
        extent=_edges(plane.horizontal) + _edges(plane.vertical),
        origin="lower",
        interpolation="nearest",
    )
    axes.set(xticks=[], yticks=[])


def _edges(centres):
    """Outer edges of the cells around evenly spaced centres."""
    half_cell = (centres[1] - centres[0]) / 2
    return (centres[0] - half_cell, centres[-1] + half_cell)


def _draw_boundaries(axes, plane, scores, **style):
    """Lines where the best class changes, placed between grid points by interpolation."""
    classes = scores.argmax(axis=-1)
    for label in np.unique(classes)[:-1]:
        lead = scores[..., label] - np.delete(scores, label, axis=-1).max(axis=-1)
        # Borders of smaller classes are drawn already, and dashes drawn twice would fill up.
        lead = np.ma.masked_where(classes < label, lead)
        if lead.min() < 0.0:
            axes.contour(
                plane.horizontal, plane.vertical, lead, levels=[0.0], colors="black", **style
            )


def _draw_examples(axes, plane, examples):
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
    """A place beside the example, outside the triangle and inside the panel."""
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


def _draw_names(axes, plane, scores, covered, class_names):
    """Names each class where it has room, for readers who cannot tell the colours apart."""
    from matplotlib import patheffects

    classes = scores.argmax(axis=-1)
    for label in np.unique(classes).tolist():
        name = str(label) if class_names is None else str(class_names[label])
        row, column, depth = _deepest_point((classes == label) & ~covered)
        if depth < (0.035 + 0.01 * len(name)) * len(classes):
            continue
        axes.text(
            plane.horizontal[column],
            plane.vertical[row],
            name,
            fontsize=9,
            ha="center",
            va="center",
            path_effects=[patheffects.withStroke(linewidth=2, foreground="white")],
        )


def _deepest_point(mask):
    """Row and column of a grid point farthest from all that the mask leaves out, and how far."""
    remaining, depth = np.pad(mask, 1), 0
    deepest = remaining
    while remaining.any():
        deepest, depth = remaining, depth + 1
        remaining = remaining.copy()
        for axis in (0, 1):
            for step in (1, -1):
                remaining &= np.roll(deepest, step, axis)
    points = np.argwhere(deepest) - 1
    if not depth:
        return 0, 0, 0
    row, column = points[len(points) // 2].tolist()
    return row, column, depth


def _legend_handles(palette, class_names, reference_name):
    from matplotlib import lines, patches

    names = {
        label: str(label) if class_names is None else str(class_names[label])
        for label, colour in palette.items()
        if colour != _OTHER_CLASSES
    }
    handles = [
        patches.Patch(facecolor=palette[label], edgecolor="black", linewidth=0.5, label=name)
        for label, name in names.items()
    ]
    if len(names) < len(palette):
        handles.append(patches.Patch(facecolor=_OTHER_CLASSES, label="other"))
    if reference_name is not None:
        dashes = {"color": "black", "linewidth": 0.9, "linestyle": (0, (3, 2))}
        handles.append(lines.Line2D([], [], label=f"boundaries of {reference_name}", **dashes))
    return handles


def _save(figure, path):
    """Writes to a temporary name first, so that a picture appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unfinished = pathlib.Path(folder) / path.name
        figure.savefig(unfinished)
        unfinished.replace(path)
