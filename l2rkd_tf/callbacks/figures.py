"""The picture that the monitor writes: how faithful a student is on the way out of its regions."""

import numpy as np

__all__ = ["figure_image", "profile_figure", "require_matplotlib"]


def profile_figure(profile):
    """Draws a fidelity profile: divergence and agreement against the fraction of the way.

    Args:
        profile: `l2rkd_tf.geometry.FidelityProfile`.

    Returns:
        `matplotlib.figure.Figure` with two panels. Bars are one standard error.
    """
    from matplotlib import figure as figures

    figure = figures.Figure(figsize=(7.0, 3.0), dpi=100, layout="constrained")
    panels = figure.subplots(1, 2)
    curves = [
        ("divergence from the teacher", profile.kl, profile.kl_stderr),
        ("same class as the teacher", profile.agreement, profile.agreement_stderr),
    ]
    for axes, (label, values, errors) in zip(panels, curves, strict=True):
        axes.errorbar(profile.fractions, values, yerr=errors, marker="o", capsize=2)
        axes.set(xlabel="fraction of the way to the edge of the region", ylabel=label)
        axes.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0.0)
    panels[1].set_ylim(0.0, 1.02)
    return figure


def figure_image(figure):
    """Renders a figure: RGBA, uint8, shape `(height, width, 4)`."""
    from matplotlib.backends import backend_agg

    canvas = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def require_matplotlib():
    """Checks that Matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs Matplotlib. Install it with `pip install l2rkd-tf[examples]`."
        ) from error
