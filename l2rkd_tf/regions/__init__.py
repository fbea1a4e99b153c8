"""Regions around training examples, in which a student learns to match its teacher.

A region maps each example of a batch to a point nearby: `x' = x + sum_j lambda_j (x_j - x)` with
partners `x_j` from the same batch, `lambda_j >= 0` and `sum_j lambda_j <= radius <= 1` (a `Ball`
adds noise instead, and a `Swap` takes each part from `x` or from a partner). It has two halves:

- `draw(inputs, seed, labels=None)` draws coefficients for each example, statelessly;
- `apply(tensor, coefficients)` moves a batch by them, deterministically and linearly.

Because `apply` is linear, it works for inputs, logits and one-hot labels.

Inputs that cannot be interpolated (token ids, categories, strings) are taken from one of the
examples; inputs that are named in `fixed=` stay as they are.
"""

from l2rkd_tf.regions.ball import Ball
from l2rkd_tf.regions.base import Region
from l2rkd_tf.regions.compose import Compose
from l2rkd_tf.regions.default import default_region
from l2rkd_tf.regions.identifiers import REGIONS, get
from l2rkd_tf.regions.linear import LinearCoefficients, LinearRegion
from l2rkd_tf.regions.mixture import Mixture, MixtureCoefficients
from l2rkd_tf.regions.partner_regions import Coefficients, Segment, Simplex
from l2rkd_tf.regions.patch import Patch
from l2rkd_tf.regions.swap import Swap, SwapCoefficients

__all__ = [
    "Ball",
    "Coefficients",
    "Compose",
    "LinearCoefficients",
    "LinearRegion",
    "Mixture",
    "MixtureCoefficients",
    "Patch",
    "REGIONS",
    "Region",
    "Segment",
    "Simplex",
    "Swap",
    "SwapCoefficients",
    "default_region",
    "get",
]
