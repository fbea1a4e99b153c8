"""The bench with students of two sizes, at the steps of the other studies and at four times those.

Seeds for development, each with a teacher of its own, which has seen all training examples; nothing
is chosen. Images, but not vectors, are augmented. "L2RKD" moves half of each batch, "1 added each"
is the library's default: a region point added to each example, so it takes half of the steps.
"""

import dataclasses

from studies.compared import AUGMENTED, methods
from studies.harness import fractions
from studies.harness.definitions import Method, Study
from studies.harness.pairs import Network, Pair
from studies.networks import (
    DEVELOPMENT_SEEDS,
    DIGITS,
    FASHION,
    GLYPHS,
    HALF,
    LARGE_STUDENT,
    PERMUTED,
    SERIES,
    SMALL_STUDENT,
    TABLES,
)

_BENCH = {"seeds": DEVELOPMENT_SEEDS, "lengths": (1.0, 4.0), "measures": ()}
_AFFINE = methods("affine")
_IMAGES = {name: _AFFINE[name] for name in (AUGMENTED, "PE-BKD, augmented", "L2RKD, augmented")} | {
    "1 added each, augmented": Method(kind="l2rkd", augment="affine", against=AUGMENTED)
}


def _other_inputs(region):
    """KD, another region that did well on the bench, and the default."""
    return {
        "KD": Method(kind="kd"),
        region: Method(kind="l2rkd", options=HALF | {"region": region}),
        "L2RKD": Method(kind="l2rkd", options=HALF),
        "1 added each": Method(kind="l2rkd"),
    }


def _with_student(widths, pairs):
    """The same teachers, with another student."""
    return {
        name: dataclasses.replace(pair, student=Network(widths=widths))
        for name, pair in pairs.items()
    }


_TABLES = TABLES | _BENCH | {"fractions": (0.05,), "learning_rate": 1e-2}
_SERIES = SERIES | _BENCH | {"fractions": (0.1,), "learning_rate": 1e-2}

bench_tables_small = Study(
    title="Bench: tables, students of 16 units", **_TABLES, methods=_other_inputs("swap")
)

bench_tables_large = Study(
    title="Bench: tables, students as large as the teacher",
    **_TABLES | {"pairs": _with_student((256, 256), TABLES["pairs"])},
    methods=_other_inputs("swap"),
)

bench_series_small = Study(
    title="Bench: time series, small students", **_SERIES, methods=_other_inputs("segment")
)

bench_series_large = Study(
    title="Bench: time series, students as large as the teacher",
    **_SERIES | {"pairs": _with_student((64, 64, 64), SERIES["pairs"])},
    methods=_other_inputs("segment"),
)


def _two_sizes(images):
    """The student of the other studies, and one as large as the teacher."""
    (pair,) = images["pairs"].values()
    return {
        "small student": pair,
        "large student": Pair(teacher=pair.teacher, student=pair.teacher),
    }


bench_digits_sizes = Study(
    title="Bench: augmented digits, students of two sizes",
    **DIGITS | _BENCH | {"pairs": _two_sizes(DIGITS)},
    methods=_IMAGES,
    fractions=(0.05,),
)

bench_glyphs_sizes = Study(
    title="Bench: augmented glyphs, students of two sizes",
    **GLYPHS | _BENCH | {"pairs": _two_sizes(GLYPHS), "steps": 500},
    methods=_IMAGES,
    fractions=(0.05,),
)

bench_permuted_sizes = Study(
    title="Bench: MNIST with permuted pixels, 100 images, students of two sizes",
    **PERMUTED | _BENCH | {"pairs": _two_sizes(PERMUTED)},
    methods={"KD": Method(kind="kd"), "L2RKD": Method(kind="l2rkd", options=HALF)},
    fractions=fractions.of_known(100),
)

_CROPPED = methods("crop_flip")
_FASHION_LONGER = (
    FASHION
    | _BENCH
    | {
        "lengths": (4.0,),
        "teacher_steps": 2000,
        "fractions": fractions.of_known(6000),
        "methods": {name: _CROPPED[name] for name in (AUGMENTED, "L2RKD, augmented")},
    }
)

bench_fashion_longer = Study(
    title="Bench: longer runs, 6,000 images, 6,000 weights",
    **_FASHION_LONGER,
    pairs={"6,000 weights": SMALL_STUDENT},
)

bench_fashion_longer_large = Study(
    title="Bench: longer runs, 6,000 images, 95,000 weights",
    **_FASHION_LONGER,
    pairs={"95,000 weights": LARGE_STUDENT},
)
