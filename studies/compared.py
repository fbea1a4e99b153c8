"""The methods that several studies compare, with the ordinary augmentation of a dataset.

Those of one study have the same learning rate, or each chooses its own.
"""

from studies.harness.definitions import Method
from studies.networks import HALF

#: What the others are compared with.
AUGMENTED = "KD, augmented"


def methods(augment, **shared):
    """`{method: Method}`: labels only, KD, PE-BKD and L2RKD."""
    shared = {"against": AUGMENTED} | shared
    augmented = {"augment": augment} | shared
    return {
        "student only, augmented": Method(kind="none", **augmented),
        "KD": Method(kind="kd", **shared),
        AUGMENTED: Method(kind="kd", **augmented),
        "PE-BKD, augmented": Method(kind="pe_bkd", **augmented),
        "L2RKD": Method(kind="l2rkd", options=HALF, **shared),
        "L2RKD, augmented": Method(kind="l2rkd", options=HALF, **augmented),
    }


def other_regions(augment, **shared):
    """`{method: Method}`: regions of noise, and FunMatch, which has no labels and only mixtures."""
    augmented = {"augment": augment, "against": AUGMENTED} | shared
    return {
        "noise, augmented": Method(
            kind="l2rkd",
            options=HALF | {"region": 'ball:radius=0.3,norm="gaussian",scale="std"'},
            **augmented,
        ),
        # Few training points pass through the student, for BatchNorm.
        "FunMatch, augmented": Method(
            kind="funmatch", options={"replace_fraction": 0.9}, **augmented
        ),
    }
