"""Does longer training help? Accuracy on 50 digits after one to eight times the compute."""

from studies.fewshot import KD, L2RKD_PATCHES
from studies.harness.definitions import Method, Study
from studies.networks import DIGITS, HALF, TEMPERATURES

patience = Study(
    title="Accuracy against training compute, 50 digits",
    **DIGITS,
    methods={
        "KD": KD,
        "KD + mixup": Method(kind="mixup_kd", options=HALF, choose=TEMPERATURES),
        "L2RKD, patches": L2RKD_PATCHES,
        "L2RKD, 1 added point each": Method(
            kind="l2rkd", options={"region": "patch"}, choose=TEMPERATURES
        ),
    },
    fractions=(0.05,),
    lengths=(1.0, 2.0, 4.0, 8.0),
)
