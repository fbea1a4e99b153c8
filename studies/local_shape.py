"""Do students match the teacher's local shape?

Students are trained on 100 digits by labels, by KD, and by L2RKD with one region after the other at
the cost of KD.
"""

from studies.harness.definitions import Method, Network, Pair, Study
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
_REFERENCES = {"student only": Method(kind="none"), "KD": Method(kind="kd")}
_L2RKD = {
    f"L2RKD, {region}": Method(kind="l2rkd", options=HALF | {"region": region})
    for region in _REGIONS
}
_SHARED = {
    "dataset": "digits",
    "pairs": {
        "digits": Pair(
            teacher=Network(widths=(32, 64, 128), convs_per_block=2),
            student=Network(widths=(16, 32)),
        )
    },
    "fractions": (0.1,),
    "learning_rate": 6e-3,
    "teacher_steps": 800,
    "teacher_learning_rate": 2e-3,
    "measures": ("local_shape",),
}
_PATCH = _REFERENCES | {"L2RKD, patch": _L2RKD["L2RKD, patch"]}

shape_digits = Study(
    title="Local shape of students by region, 100 digits",
    **_SHARED,
    methods=_REFERENCES | _L2RKD,
)

shape_patient = Study(
    title="Local shape after four times the steps, 100 digits",
    **_SHARED,
    methods=_PATCH,
    steps=6000,
)

shape_long = Study(
    title="Local shape after sixteen times the steps, 100 digits",
    **_SHARED,
    methods=_PATCH,
    steps=24000,
)
