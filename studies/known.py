"""Little data of datasets that people know, against KD with augmentation.

Each seed has a teacher of its own, which has seen all 55,000 training images, but that of
`f6_same_data`, which has seen the student's only. Nothing is tuned: all methods have the settings
of `Study` and their own defaults, since a validation split would be labels that the student does
not have.

Primary contrasts, written down before the studies ran, but for the 600 images of `f1_longer_large`,
which were added later; all others are secondary:

- `f1_fashion`: L2RKD with augmentation minus KD with augmentation, 100 images, the student of
  95,000 weights.
- `f1_longer`, `f1_longer_large`: the same, four times the steps, 6,000 and 95,000 weights.
- `f1_others`: the same, 6,000 images, 6,000 weights; `f1_others_large` names none.
- `f1_resnet`: the same, resnet8 of resnet20.
- `f2_fashion`: the same comparison, all images, 10 passes, 6,000 weights; `f2_longer`: 40
  passes. `f2_large`, 10 passes of 95,000 weights, has no other comparison.
- `f3_mnist`: as `f1_fashion`, 100 images, 6,000 weights.
- `f6_same_data`: as `f1_fashion`, 600 images, 95,000 weights.

MNIST and Fashion-MNIST must be prepared: see `studies/harness/tasks/known.py`.
"""

from studies.compared import AUGMENTED, methods, other_regions
from studies.harness import fractions
from studies.harness.definitions import Method, Study
from studies.harness.pairs import Architecture, Pair
from studies.networks import (
    FASHION,
    HALF,
    LARGE_STUDENT,
    MNIST,
    SMALL_STUDENT,
)

_FASHION = methods("crop_flip")

f1_fashion = Study(
    title="Fashion-MNIST, 100 and 600 images",
    **FASHION,
    pairs={"6,000 weights": SMALL_STUDENT, "95,000 weights": LARGE_STUDENT},
    methods=_FASHION,
    fractions=fractions.of_known(100, 600),
    measures=(),
)

_LONGER = {"lengths": (4.0,), "measures": ()}

f1_longer = Study(
    title="Fashion-MNIST, 100 and 600 images, four times the steps",
    **FASHION | _LONGER,
    pairs={"6,000 weights": SMALL_STUDENT},
    methods={name: _FASHION[name] for name in (AUGMENTED, "PE-BKD, augmented", "L2RKD, augmented")},
    fractions=fractions.of_known(100, 600),
)

f1_longer_large = Study(
    title="Fashion-MNIST, four times the steps, 95,000 weights",
    **FASHION | _LONGER,
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={name: _FASHION[name] for name in (AUGMENTED, "L2RKD, augmented")},
    fractions=fractions.of_known(100, 600),
)

_ALL = {"steps": 5500, "batch_size": 100, "fractions": (1.0,)}

f2_fashion = Study(
    title="Fashion-MNIST, all images, 10 passes",
    **FASHION | _ALL,
    pairs={"6,000 weights": SMALL_STUDENT},
    methods={
        AUGMENTED: _FASHION[AUGMENTED],
        "L2RKD, augmented": _FASHION["L2RKD, augmented"],
        "L2RKD of weight 0.3, augmented": Method(
            kind="l2rkd",
            options=HALF | {"region_weight": 0.3},
            augment="crop_flip",
            against=AUGMENTED,
        ),
    },
    measures=(),
)

f2_longer = Study(
    title="Fashion-MNIST, all images, 40 passes",
    **FASHION | _ALL | _LONGER,
    pairs={"6,000 weights": SMALL_STUDENT},
    methods={name: _FASHION[name] for name in (AUGMENTED, "L2RKD, augmented")},
)

f2_large = Study(
    title="Fashion-MNIST, all images, 10 passes, a student as large as its teacher",
    **FASHION | _ALL,
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={name: _FASHION[name] for name in (AUGMENTED, "L2RKD, augmented")},
    measures=(),
)

f3_mnist = Study(
    title="MNIST, 50, 100 and 2,000 images",
    **MNIST,
    pairs={"mnist": SMALL_STUDENT},
    methods=methods("crop") | other_regions("crop"),
    fractions=fractions.of_known(50, 100, 2000),
    measures=(),
)

f1_others = Study(
    title="Fashion-MNIST, up to 6,000 images, noise and FunMatch",
    **FASHION,
    pairs={"fashion": SMALL_STUDENT},
    methods={name: _FASHION[name] for name in (AUGMENTED, "L2RKD, augmented")}
    | other_regions("crop_flip"),
    fractions=fractions.of_known(100, 600, 6000),
    measures=(),
)

f1_others_large = Study(
    title="Fashion-MNIST, noise and FunMatch, 95,000 weights",
    **FASHION,
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={AUGMENTED: _FASHION[AUGMENTED]} | other_regions("crop_flip"),
    fractions=fractions.of_known(100, 600),
    measures=(),
)

f1_resnet = Study(
    title="Fashion-MNIST, 100 images, resnet8 of resnet20",
    **FASHION | {"teacher_steps": 2000, "steps": 1000},
    pairs={
        "fashion": Pair(teacher=Architecture(name="resnet20"), student=Architecture(name="resnet8"))
    },
    methods={name: _FASHION[name] for name in (AUGMENTED, "L2RKD", "L2RKD, augmented")},
    fractions=fractions.of_known(100),
    measures=(),
)

_OF_SAME_DATA = ("student only, augmented", "KD", AUGMENTED, "L2RKD", "L2RKD, augmented")

f6_same_data = Study(
    title="Fashion-MNIST, a teacher of the same 600 and 6,000 images",
    **FASHION,
    teacher_of_fraction=True,
    pairs={"fashion": LARGE_STUDENT},
    methods={name: _FASHION[name] for name in _OF_SAME_DATA},
    fractions=fractions.of_known(600, 6000),
    measures=(),
)
