"""Pictures of what a model does between the training points.

`decision_map` draws the plane through three examples as a teacher and its students classify it,
side by side. The numbers behind the picture are functions of their own: `plane_grid` gives the
plane, `class_agreement` compares two models on it.

Matplotlib is imported only when something is drawn: `pip install l2rkd-tf[examples]`.
"""

from l2rkd_tf.plots.maps import decision_map
from l2rkd_tf.plots.plane import Plane, class_agreement, plane_grid

__all__ = ["Plane", "class_agreement", "decision_map", "plane_grid"]
