"""Does L2RKD on 50 digits match KD on 200 in the same number of steps?"""

from studies.fewshot import KD
from studies.harness.definitions import Method, Study
from studies.networks import DIGITS, TEMPERATURES

_FOUR_TIMES = {
    "choose": TEMPERATURES,
    "compute": 4.0,
    "against": "KD, four times the compute",
}

equal_steps = Study(
    title="50 digits against 200, at equal steps",
    **DIGITS,
    methods={
        "KD": KD,
        "KD, four times the compute": Method(kind="kd", **_FOUR_TIMES),
        "L2RKD, 3 added points each": Method(
            kind="l2rkd", options={"region": "patch", "num_region_points": 3}, **_FOUR_TIMES
        ),
    },
    fractions=(0.05, 0.2),
    contrasts=(
        (("L2RKD, 3 added points each", 0.05, 1.0), ("KD", 0.2, 1.0)),
        (("L2RKD, 3 added points each", 0.05, 1.0), ("KD, four times the compute", 0.2, 1.0)),
    ),
)
