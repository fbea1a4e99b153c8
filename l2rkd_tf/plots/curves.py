"""Training curves: the terms of the objective and the accuracies, by epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from l2rkd_tf.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["training_curves"]

# Index of the style of the first accuracy, after the styles of the losses.
_BLACK = 6


def training_curves(history: Mapping[str, Sequence[float]]) -> "Figure":
    """Draws the losses and the accuracies of a training against its epochs.

    On the left `loss` and every entry that ends in `_loss`: the terms that
    `l2rkd_tf.L2RKDDistiller` logs, unweighted, and `val_loss`, which is only that of the student.
    On the right every entry with `accuracy` in its name. Hollow markers are for validation, in the
    colour of the training counterpart. The losses have a logarithmic axis where they differ by a
    factor of ten or more. A term that is 0 in all epochs was not computed and is left out.

    Args:
        history: Dict of log names and their values in each epoch: `fit(...).history`, or the
            contents of a run's `history.json`. Other entries are ignored.

    Returns:
        `matplotlib.figure.Figure`, 9 inches wide, or 5.5 with one panel.

    Raises:
        ValueError: If `history` is not such a dict, has neither losses nor accuracies, or lacks
            values in some epochs.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> history = {"loss": [2.0, 1.0], "kd_loss": [1.5, 0.5], "accuracy": [0.5, 0.75]}
        >>> figure = training_curves(history)
        >>> [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
        [['loss', 'kd_loss'], ['accuracy']]
    """
    losses, accuracies = _checked_curves(history)
    style.require_matplotlib()
    count = bool(losses) + bool(accuracies)
    figure, panels = style.empty_panels(count, style.PAGE_WIDTH if count == 2 else 5.5)
    if losses:
        _draw_curves(panels[0], losses)
        if not style.use_log_axis(panels[0], losses.values()):
            panels[0].set_ylim(bottom=min(0.0, panels[0].get_ylim()[0]))
        panels[0].set_ylabel("loss")
    if accuracies:
        _draw_curves(panels[-1], accuracies, first=_BLACK)
        style.use_share_axis(panels[-1], "accuracy")
    style.legend_below(figure)
    return figure


def _checked_curves(history):
    """Losses and accuracies by name, each an array with a value for every epoch."""
    if not isinstance(history, dict):
        raise ValueError(
            "`history` must be a dict of names and values in each epoch, as `fit(...).history`. "
            f"Received: {type(history).__name__}"
        )
    # The total first, so that it looks the same in all figures.
    names = sorted(filter(_is_loss, history), key=lambda name: name != "loss")
    losses = {name: _array(name, history[name]) for name in names}
    losses = {name: values for name, values in losses.items() if values.any()}
    accuracies = {name: _array(name, history[name]) for name in history if "accuracy" in name}
    lengths = {name: len(values) for name, values in (losses | accuracies).items()}
    if not lengths:
        raise ValueError(
            "`history` must have a loss (`loss`, `*_loss`) or an accuracy (`*accuracy*`). "
            f"Received: entries {sorted(history)}"
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "`history` must have a value for every epoch. Received: numbers of values "
            f"{lengths}. Fill epochs without validation with NaN."
        )
    return losses, accuracies


def _is_loss(name):
    return name == "loss" or name.endswith("_loss")


def _array(name, values):
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(
            "`history` must have one number for each of at least one epoch. Received: "
            f"{name!r} of shape {array.shape}"
        )
    return array


def _draw_curves(axes, curves, first=0):
    from matplotlib import ticker

    numbers = {}
    for name, values in curves.items():
        # Validation looks like its training counterpart, which may come later or be missing.
        number = first + numbers.setdefault(name.removeprefix("val_"), len(numbers))
        hollow = {"markerfacecolor": "white", "linestyle": ":"} if name.startswith("val_") else {}
        epochs = np.arange(1, len(values) + 1)
        style.draw_curve(axes, epochs, values, number=number, label=name, **hollow)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
