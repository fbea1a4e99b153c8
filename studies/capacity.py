"""Do students and teachers of other sizes gain as much?

Each pair and method chooses its learning rate. Primary contrast, written down before the study ran:
L2RKD with augmentation minus KD with augmentation, the smallest student of the large teacher.
"""

from studies.compared import AUGMENTED, methods
from studies.harness.definitions import Study
from studies.harness.pairs import Network, Pair
from studies.networks import LEARNING_RATES

_TEACHERS = {
    "small": Network(widths=(16, 32, 64)),
    "large": Network(widths=(32, 64, 128), convs_per_block=2),
}
_STUDENTS = {
    "8x16": Network(widths=(8, 16)),
    "16x32": Network(widths=(16, 32)),
    "16x32x64": Network(widths=(16, 32, 64)),
}
_METHODS = methods("affine", choose=LEARNING_RATES)

capacity = Study(
    title="Students and teachers of several sizes, 100 digits",
    dataset="digits",
    teacher_for="seed",
    pairs={
        f"{student} of a {teacher} teacher": Pair(
            teacher=_TEACHERS[teacher], student=_STUDENTS[student]
        )
        for teacher in _TEACHERS
        for student in _STUDENTS
    },
    methods={name: _METHODS[name] for name in ("KD", AUGMENTED, "L2RKD", "L2RKD, augmented")},
    fractions=(0.1,),
    tuning_seeds=(100,),
    measures=(),
)
