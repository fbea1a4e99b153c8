"""Measures of local shape: of one model, and of how well a student matches its teacher's.

`fidelity_profile` compares teacher and student from the examples to the boundary of a region,
`jacobian_distance` compares their input Jacobians, `linearity_gap` measures how far a model is from
linear between two inputs, `linear_radius` and `linear_ball_radius` how far a ReLU network is
exactly linear. All evaluate in batches and in inference mode, and are reproducible by their `seed`.
"""

from l2rkd_tf.geometry.jacobians import JacobianDistance, jacobian_distance
from l2rkd_tf.geometry.linearity import LinearityGap, linearity_gap, linearity_gaps
from l2rkd_tf.geometry.piecewise import (
    BallRadius,
    activation_pattern,
    linear_ball_radius,
    linear_radius,
)
from l2rkd_tf.geometry.profile import FidelityProfile, fidelity_profile
from l2rkd_tf.geometry.scores import expected_calibration_error, teacher_stddev, top1_agreement

__all__ = [
    "BallRadius",
    "FidelityProfile",
    "JacobianDistance",
    "LinearityGap",
    "activation_pattern",
    "expected_calibration_error",
    "fidelity_profile",
    "jacobian_distance",
    "linear_ball_radius",
    "linear_radius",
    "linearity_gap",
    "linearity_gaps",
    "teacher_stddev",
    "top1_agreement",
]
