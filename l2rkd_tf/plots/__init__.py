"""Figures of what a model does between the training examples, and of how it was trained.

`decision_map` draws, side by side, how a teacher and its students classify the plane through three
examples. Its numbers are available separately: `plane_grid` computes the plane, `top1_agreement`
compares two models on it. `fidelity_profiles`, `linearity_gap` and `linear_radii` draw what
`l2rkd_tf.geometry` measures, `training_curves` what `fit` logs. All return a
`matplotlib.figure.Figure` outside pyplot, which therefore does not keep it open.

Matplotlib is imported only when something is drawn: `pip install l2rkd-tf[plots]`.
"""

from l2rkd_tf.plots.curves import training_curves
from l2rkd_tf.plots.linearity import linear_radii, linearity_gap
from l2rkd_tf.plots.maps import decision_map
from l2rkd_tf.plots.plane import Plane, plane_grid, top1_agreement
from l2rkd_tf.plots.profiles import fidelity_profiles

__all__ = [
    "Plane",
    "decision_map",
    "fidelity_profiles",
    "linear_radii",
    "linearity_gap",
    "plane_grid",
    "top1_agreement",
    "training_curves",
]
