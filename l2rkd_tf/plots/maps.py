"""Decision maps: how several models classify the plane through three examples, side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from l2rkd_tf.plots import panel, style
from l2rkd_tf.plots.colours import OTHER_CLASSES, class_palette
from l2rkd_tf.plots.plane import plane_grid, top1_agreement
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import PathLike, TensorLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["decision_map"]

_BATCH_SIZE = 512
_MAX_COLUMNS = 4
_WIDTH_INCHES = 9.0
_DOTS_PER_INCH = 200


def decision_map(
    models: Mapping[str, keras.Model],
    examples: TensorLike,
    *,
    class_names: Sequence[str] | None = None,
    resolution: int = 120,
    extent: float = 0.3,
    from_logits: bool = True,
    path: PathLike | None = None,
    title: str | None = None,
) -> "Figure":
    """Draws how each model classifies the plane through three examples, side by side.

    Every point of the plane is an input. Its colour is the predicted class, paler for less
    confidence (largest probability). Lines are the boundaries between classes; dashed lines repeat
    those of the first model, usually the teacher, over the other models. The titles show on which
    fraction of the plane a model predicts the same class as the first.

    Args:
        models: Keras models by name, the reference first. Each maps inputs to scores of shape
            `(batch, classes)`, for the same classes.
        examples: Three inputs, shape `(3, ...)`. Those of images, `(3, height, width, channels)`
            with one, three or four channels, are shown next to their points.
        class_names: Names of the classes, in the order of the scores. Default: class numbers.
        resolution: Number of points along each side of the plane.
        extent: Margin around the triangle of the examples, as a fraction of its size.
        from_logits: Whether the models output logits. Pass `False` for models that end in a
            softmax.
        path: File to save the figure to; the suffix (`.png`, `.svg`, `.pdf`) is the format.
            Default: not saved.
        title: Title above the panels. Default: none.

    Returns:
        The `matplotlib.figure.Figure`, 9 inches wide.

    Raises:
        ValueError: If `models` is empty or the models differ in classes, `examples` are not three
            inputs that span a plane, `class_names` does not fit, or `resolution` or `extent` is out
            of range.
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
    style.require_matplotlib()
    examples = np.asarray(examples, "float64")
    plane = plane_grid(examples, resolution, extent)
    scores = {name: _scores_on(model, plane, name) for name, model in models.items()}
    names = _checked_names(scores, class_names)
    palette = class_palette(scores)
    reference_name, reference = next(iter(scores.items()))
    handles = _legend_handles(palette, names, reference_name if len(models) > 1 else None)
    legend_columns = len(handles) if len(handles) <= 11 and class_names is None else 6
    figure, panels = _empty_panels(len(models), -(-len(handles) // legend_columns), title)
    for axes, (name, values) in zip(panels, scores.items(), strict=True):
        panel.draw_classes(axes, plane, values, palette, from_logits)
        panel.draw_boundaries(axes, plane, values)
        subtitle = "reference" if len(models) > 1 else ""
        if name != reference_name:
            panel.draw_boundaries(axes, plane, reference, panel.DASHED)
            agreement = top1_agreement(values, reference)
            subtitle = f"agrees with {reference_name}: {100 * agreement:.1f} %"
        covered = panel.draw_examples(axes, plane, examples)
        panel.draw_names(axes, plane, values, covered, names)
        axes.set_title(name, fontsize=10, fontweight="bold", pad=17, parse_math=False)
        placed = {"ha": "center", "transform": axes.transAxes, "parse_math": False}
        axes.text(0.5, 1.02, subtitle, fontsize=9, **placed)
    _draw_legend(figure, handles, legend_columns)
    if path is not None:
        style.save(figure, path)
    return figure


def _scores_on(model, plane, name):
    """Scores of the model on the grid, shape `(resolution, resolution, classes)`."""
    coordinates = plane.coordinates.reshape(-1, 2)
    # In batches, since the whole grid would not fit into memory for large images.
    batches = np.array_split(coordinates, -(-len(coordinates) // _BATCH_SIZE))
    scores = [
        keras.ops.convert_to_numpy(
            keras.ops.cast(only_output(model(plane.points(batch), training=False)), "float32")
        )
        for batch in batches
    ]
    shape = scores[0].shape
    if len(shape) != 2 or shape[-1] < 2:
        raise ValueError(
            "`models` must output scores of shape (batch, classes) for at least two classes. "
            f"Received: shape {shape} from {name!r}."
        )
    return np.concatenate(scores).reshape(*plane.coordinates.shape[:2], -1)


def _checked_names(scores, class_names):
    """A name for each class, in the order of the scores."""
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
    return [str(name) for name in (range(count) if class_names is None else class_names)]


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
        drawing.suptitle(title, y=1 - 0.06 / height, va="top", fontsize=12, parse_math=False)
    return drawing, panels


def _legend_handles(palette, names, reference_name):
    from matplotlib import lines, patches

    handles = [
        patches.Patch(facecolor=colour, edgecolor="black", linewidth=0.5, label=names[label])
        for label, colour in palette.items()
        if colour != OTHER_CLASSES
    ]
    if OTHER_CLASSES in palette.values():
        handles.append(patches.Patch(facecolor=OTHER_CLASSES, label="other"))
    if reference_name is not None:
        dashes = {
            "color": "black",
            "linewidth": panel.BOUNDARY_WIDTH,
            "linestyle": panel.DASHED,
            "label": f"boundaries of {reference_name}",
        }
        handles.append(lines.Line2D([], [], **dashes))
    return handles


def _draw_legend(figure, handles, columns):
    legend = figure.legend(
        handles=handles,
        loc="lower center",
        ncols=columns,
        title="predicted class (paler: less confident)",
        title_fontsize=9,
        fontsize=9,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.2,
    )
    style.show_as_written(legend)
