"""Does longer training help? Accuracy on 50 digits after one to eight times the compute.

Primary contrast, written down before the study ran: L2RKD with augmentation minus KD with
augmentation, eight times the compute. All others are secondary.
"""

from studies.compared import AUGMENTED, methods
from studies.fewshot import RATES
from studies.harness.definitions import Method, Study
from studies.networks import DIGITS

_METHODS = methods("affine", choose=RATES)

patience = Study(
    title="Accuracy against training compute, 50 digits",
    **DIGITS,
    methods={name: _METHODS[name] for name in ("KD", AUGMENTED, "L2RKD", "L2RKD, augmented")}
    | {
        "L2RKD, 1 added point each, augmented": Method(
            kind="l2rkd", augment="affine", choose=RATES, against=AUGMENTED
        ),
    },
    fractions=(0.05,),
    lengths=(1.0, 2.0, 4.0, 8.0),
    measures=(),
)
