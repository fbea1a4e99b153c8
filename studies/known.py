"""Little data of datasets that people know, against KD with augmentation.

Each seed has a teacher of its own, which has seen all 55,000 training images. Nothing is tuned: all
methods have the settings of `Study` and their own defaults, since a validation split would be
labels that the student does not have.

Primary contrast of `f1_fashion`, written down before it ran: L2RKD with augmentation minus KD with
augmentation, 100 images, the student of 95,000 weights. All others are secondary.

MNIST and Fashion-MNIST must be prepared: see `studies/harness/tasks/known.py`.
"""

from studies.harness.definitions import Method, Study
from studies.networks import FASHION, HALF, KNOWN_IMAGES, LARGE_FASHION, SMALL_FASHION

_AUGMENTED = "KD, augmented"


def _augmented(**method):
    return Method(**method, augment="crop_flip", against=_AUGMENTED)


f1_fashion = Study(
    title="Fashion-MNIST, 100 and 600 images",
    **FASHION,
    pairs={"6,000 weights": SMALL_FASHION, "95,000 weights": LARGE_FASHION},
    methods={
        "student only, augmented": _augmented(kind="none"),
        "KD": Method(kind="kd", against=_AUGMENTED),
        _AUGMENTED: _augmented(kind="kd"),
        "PE-BKD, augmented": _augmented(kind="pe_bkd"),
        "L2RKD": Method(kind="l2rkd", options=HALF, against=_AUGMENTED),
        "L2RKD, augmented": _augmented(kind="l2rkd", options=HALF),
    },
    fractions=(100 / KNOWN_IMAGES, 600 / KNOWN_IMAGES),
    measures=(),
)
