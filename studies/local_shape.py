"""Do students match the teacher's local shape?

Students are trained on 100 digits by labels, by KD with augmented images and without, and by L2RKD
with one region after the other at the cost of KD. The rate is the one that validation chooses for
L2RKD and for augmented KD in `fewshot_digits`; it chooses a higher one for KD.
"""

from studies.harness.definitions import Method, Study
from studies.harness.pairs import Network, Pair
from studies.networks import HALF

_REGIONS = (
    "patch",
    "patch:grid=2",
    "patch:grid=8",
    "patch:radius=0.5",
    "segment",
    "segment:radius=0.5",
    'segment:partner="nearest"',
    "simplex",
    'ball:radius=0.1,norm="gaussian"',
    'ball:radius=0.2,norm="gaussian"',
    'ball:radius=0.4,norm="gaussian"',
)
_REFERENCES = {
    "student only": Method(kind="none"),
    "KD": Method(kind="kd"),
    "KD, augmented": Method(kind="kd", augment="affine"),
}
_L2RKD = {
    f"L2RKD, {region}": Method(kind="l2rkd", options=HALF | {"region": region})
    for region in _REGIONS
}
shape_digits = Study(
    title="Local shape of students by region, 100 digits",
    dataset="digits",
    pairs={
        "digits": Pair(
            teacher=Network(widths=(32, 64, 128), convs_per_block=2),
            student=Network(widths=(16, 32)),
        )
    },
    fractions=(0.1,),
    measures=("local_shape",),
    methods=_REFERENCES | _L2RKD,
)
