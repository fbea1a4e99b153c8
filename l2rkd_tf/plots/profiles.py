"""How well students match their teacher, from the examples to the boundary of a region."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from l2rkd_tf.geometry import FidelityProfile
from l2rkd_tf.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["fidelity_profiles"]


def fidelity_profiles(
    profiles: FidelityProfile | Mapping[str, FidelityProfile], *, averaged_over: str = "examples"
) -> "Figure":
    """Draws how well students match their teacher, from the examples to a region's boundary.

    On the left the divergence from the teacher, on the right the fraction of equal predictions,
    against the fraction of the way. Bands are 95 % confidence intervals of the means, ±1.96
    standard errors. The divergence has a logarithmic axis if the students differ by a factor of ten
    or more.

    Args:
        profiles: A `l2rkd_tf.geometry.FidelityProfile`, or a dict of the students' names and
            theirs, all of one divergence. Those of `divergence="mse"` have no agreement, and the
            right panel is left out.
        averaged_over: What the means of the profiles are taken over, in words; `num_points` of
            them.

    Returns:
        `matplotlib.figure.Figure`, 9 inches wide, or 5.5 with one panel.

    Raises:
        ValueError: If `profiles` holds anything but `FidelityProfile`s, or some with
            `divergence="mse"` and some without.
        ImportError: If Matplotlib is not installed.

    Example:
        >>> def profile(kl):
        ...     return l2rkd_tf.geometry.FidelityProfile(
        ...         np.array([0.0, 1.0]), np.array(kl), np.array([0.01, 0.02]),
        ...         np.array([0.98, 0.9]), np.array([0.01, 0.02]), num_points=200,
        ...     )
        >>> figure = fidelity_profiles({"KD": profile([0.1, 0.9]), "L2RKD": profile([0.1, 0.2])})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['KL from the teacher, nats', 'agrees with the teacher']
    """
    profiles = style.named("profiles", profiles, FidelityProfile)
    kinds = {not np.isnan(profile.agreement).all() for profile in profiles.values()}
    if len(kinds) > 1:
        raise ValueError(
            "`profiles` must be of one divergence. Received: some with agreement and some without "
            "(divergence='mse'); draw them in two figures."
        )
    style.require_matplotlib()
    (know_decisions,) = kinds
    figure, panels = style.empty_panels(2) if know_decisions else style.empty_panels(1, 5.5)
    for number, (name, profile) in enumerate(profiles.items()):
        curves = [(profile.kl, profile.kl_stderr), (profile.agreement, profile.agreement_stderr)]
        for axes, curve in zip(panels, curves, strict=False):
            style.draw_curve(axes, profile.fractions, *curve, number=number, label=name)
    label = "KL from the teacher, nats" if know_decisions else "mean squared error to the teacher"
    if not style.use_log_axis(panels[0], [profile.kl for profile in profiles.values()]):
        panels[0].set_ylim(bottom=0.0)
    panels[0].set_ylabel(label)
    if know_decisions:
        style.use_share_axis(panels[1], "agrees with the teacher")
    for axes in panels:
        axes.set_xlabel("fraction of the way to the region's boundary")
    counts = sorted({profile.num_points for profile in profiles.values()})
    points = " or ".join(map(str, counts))
    style.legend_below(figure, f"bands: 95 % intervals of the means over {points} {averaged_over}")
    return figure
