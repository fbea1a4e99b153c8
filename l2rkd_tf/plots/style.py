"""How curves look: distinguishable without colour, and legible at the width of a page."""

import contextlib
import importlib.resources
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from l2rkd_tf.geometry.evaluation import half_width
from l2rkd_tf.utils.files import atomic_path
from l2rkd_tf.utils.types import PathLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = [
    "PAGE_WIDTH",
    "curve_style",
    "draw_curve",
    "empty_panels",
    "legend_below",
    "named",
    "require_matplotlib",
    "save",
    "show_as_written",
    "use_log_axis",
    "use_share_axis",
]

PAGE_WIDTH = 9.0
_STYLE_FILE = "l2rkd.mplstyle"
# The Okabe-Ito palette without its yellow, which is too pale for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (8, 1.5, 1, 1.5, 1, 1.5)))
_MAX_MARKERS = 12
# Ratio of the largest to the smallest value: below it, a linear axis is easier to read.
_LOG_RATIO = 10.0


def require_matplotlib() -> None:
    """Checks that Matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Plots need Matplotlib. Install it with `pip install l2rkd-tf[plots]`."
        ) from error


def named(argument: str, value: object, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Objects to draw, by name; a single object has an empty name.

    Args:
        argument: Name of the argument.
        value: An object of one of the kinds, or a dict of names and such objects.
        kinds: A class, or a tuple of classes.

    Returns:
        A dict of at least one entry, with names that a legend shows.

    Raises:
        ValueError: If `value` is neither.
    """
    entries = value if isinstance(value, dict) else {"": value}
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    wrong = {name: entry for name, entry in entries.items() if not isinstance(entry, kinds)}
    if wrong or not entries:
        names = " or ".join(kind.__name__ for kind in kinds)
        received = {name: type(entry).__name__ for name, entry in wrong.items()} or "an empty dict"
        raise ValueError(
            f"`{argument}` must be {names}, or a dict of names and these. Received: {received}"
        )
    # Matplotlib leaves names that start with an underscore out of legends.
    return {re.sub("^_", " _", str(name)): entry for name, entry in entries.items()}


def curve_style(number: int) -> dict[str, Any]:
    """Keywords of `Axes.plot` for a curve's number; curves differ in more than colour."""
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _LINES[number % len(_LINES)],
    }


def draw_curve(
    axes: "Axes",
    x: np.ndarray,
    y: np.ndarray,
    stderr: np.ndarray | None = None,
    *,
    number: int,
    label: str,
    **style: Any,
) -> None:
    """Draws a curve, with a band for its 95 % confidence interval if it has standard errors."""
    style = curve_style(number) | {"markevery": -(-len(x) // _MAX_MARKERS)} | style
    with _own_style():
        axes.plot(x, y, label=label, **style)
    if stderr is not None:
        error = half_width(stderr)
        axes.fill_between(x, y - error, y + error, color=style["color"], alpha=0.18, linewidth=0)


def empty_panels(
    count: int, width: float = PAGE_WIDTH, height: float = 3.7
) -> tuple["Figure", list["Axes"]]:
    """A figure with panels side by side, outside pyplot, which would keep it open."""
    from matplotlib import figure as figures

    with _own_style():
        figure = figures.Figure(figsize=(width, height))
        return figure, list(figure.subplots(1, count, squeeze=False)[0])


@contextlib.contextmanager
def _own_style():
    """Applies `l2rkd.mplstyle` for a block, and restores the caller's settings afterwards."""
    from matplotlib import style

    source = importlib.resources.files(__package__) / _STYLE_FILE
    with importlib.resources.as_file(source) as path, style.context(path):
        yield


def use_log_axis(axes: "Axes", values: Iterable[np.ndarray]) -> bool:
    """Makes the vertical axis logarithmic if the values are positive and span a wide range.

    Args:
        axes: `matplotlib.axes.Axes`.
        values: All values of its curves.

    Returns:
        Whether the axis is now logarithmic.
    """
    from matplotlib import ticker

    joined = np.concatenate([np.ravel(curve) for curve in values])
    finite = joined[np.isfinite(joined)]
    if not len(finite) or finite.min() <= 0 or finite.max() < _LOG_RATIO * finite.min():
        return False
    axes.set_yscale("log")
    # Limits from the curves only: a band may reach 0, which has no place on the axis.
    axes.set_ylim(finite.min() / 1.5, finite.max() * 1.5)
    few_decades = finite.max() < 1e3 * finite.min()
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    return True


def use_share_axis(axes: "Axes", label: str) -> None:
    """Labels the vertical axis in percent, and ends it at 100 % if a band goes further."""
    from matplotlib import ticker

    axes.set_ylim(top=min(axes.get_ylim()[1], 1.005))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{100 * share:.4g} %"))
    axes.set_ylabel(label)


def legend_below(figure: "Figure", title: str | None = None, max_columns: int = 4) -> None:
    """One legend for all panels, below them, where no curve crosses it."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    rows = -(-len(entries) // max_columns)
    with _own_style():
        legend = figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=-(-len(entries) // rows),
            title=title,
        )
    show_as_written(legend)


def show_as_written(legend: "Legend") -> None:
    """Keeps names with dollar signs from being read as formulas."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def save(figure: "Figure", path: PathLike) -> None:
    """Writes a figure atomically; the suffix of the path is its format."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
