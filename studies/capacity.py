"""Do students and teachers of other sizes gain as much?"""

from studies.harness.definitions import Method, Network, Pair, Study
from studies.networks import HALF

_TEACHERS = {
    "small": Network(widths=(16, 32, 64)),
    "large": Network(widths=(32, 64, 128), convs_per_block=2),
}
_STUDENTS = {
    "8x16": Network(widths=(8, 16)),
    "16x32": Network(widths=(16, 32)),
    "16x32x64": Network(widths=(16, 32, 64)),
}

capacity = Study(
    title="Students and teachers of several sizes, 100 digits",
    dataset="digits",
    pairs={
        f"{student} of a {teacher} teacher": Pair(
            teacher=_TEACHERS[teacher], student=_STUDENTS[student]
        )
        for teacher in _TEACHERS
        for student in _STUDENTS
    },
    # As validation chose in `fewshot_digits`, for the middle student.
    methods={
        "KD": Method(kind="kd", options={"temperature": 8.0}, choose={"learning_rate": (9e-2,)}),
        "L2RKD, patches": Method(
            kind="l2rkd",
            options=HALF | {"region": "patch", "temperature": 8.0},
            choose={"learning_rate": (3e-2,)},
        ),
    },
    fractions=(0.1,),
)
