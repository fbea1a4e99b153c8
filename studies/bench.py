"""The bench on which defaults are chosen: few examples, against KD with augmentation.

Its seeds are for development; of the other studies, only `ablation_again_glyphs` uses them. Each
has a teacher of its own, which has seen all training examples. Nothing is chosen on test data but
the defaults themselves. MNIST and Fashion-MNIST must be prepared: see
`studies/harness/tasks/known.py`.
"""

from studies.harness import fractions
from studies.harness.definitions import Method, Study
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


def _noise(deviation):
    return f'ball:radius={deviation},norm="gaussian",scale="std"'


def _region(region, against="KD", augment="", variant="", **options):
    return Method(
        kind="l2rkd",
        options=HALF | {"region": region} | options,
        against=against,
        augment=augment,
        variant=variant,
    )


_VECTORS = {
    "KD": Method(kind="kd"),
    "swap": _region("swap"),
    "noise of 1": _region(_noise(1.0)),
    "noise of 2": _region(_noise(2.0)),
    "swap, then noise of 1": _region(f"swap then {_noise(1.0)}"),
    "swap, then noise of 2": _region(f"swap then {_noise(2.0)}"),
}
_MORE_VECTORS = {
    "noise of 0.3": _region(_noise(0.3)),
    "segment": _region("segment"),
    "simplex": _region("simplex"),
}

bench_tables = Study(
    title="Bench: tables",
    **TABLES,
    methods=_VECTORS,
    fractions=(0.05,),
    seeds=DEVELOPMENT_SEEDS,
    learning_rate=1e-2,
)

bench_permuted = Study(
    title="Bench: MNIST with permuted pixels, 100 and 1,000 images",
    **PERMUTED,
    methods=_VECTORS | _MORE_VECTORS,
    fractions=fractions.of_known(100, 1000),
    seeds=DEVELOPMENT_SEEDS,
    ranked=tuple(name for name in _VECTORS | _MORE_VECTORS if name != "KD"),
)

bench_series = Study(
    title="Bench: time series",
    **SERIES,
    methods={
        "KD": Method(kind="kd"),
        "patch": _region("patch"),
        "patch, grid 8": _region("patch:grid=8"),
        "swap of patches": _region("swap:grid=4"),
        "swap of a span": _region("swap:contiguous=True"),
        "segment": _region("segment"),
        "noise of 0.3": _region(_noise(0.3)),
        "noise of 1": _region(_noise(1.0)),
    },
    fractions=(0.1,),
    seeds=DEVELOPMENT_SEEDS,
    learning_rate=1e-2,
)

_AUGMENTED = "KD, augmented"
_FASHION_MNIST = FASHION | {"seeds": DEVELOPMENT_SEEDS, "measures": ()}


def _patch(**options):
    return _region("patch", _AUGMENTED, "crop_flip", **options)


bench_fashion = Study(
    title="Bench: augmented Fashion-MNIST, students of 6,000 and of 95,000 weights",
    **_FASHION_MNIST | {"teacher_steps": 2000},
    fractions=fractions.of_known(100, 600),
    pairs={"6,000 weights": SMALL_STUDENT, "95,000 weights": LARGE_STUDENT},
    methods={
        _AUGMENTED: Method(kind="kd", augment="crop_flip", against=_AUGMENTED),
        "patch": _patch(),
        "patch of weight 3": _patch(region_weight=3.0),
        "patch of weight 3, for 3 in 4": _patch(region_weight=3.0, replace_fraction=0.75),
    },
)


bench_fashion_6000 = Study(
    title="Bench: augmented Fashion-MNIST, 6,000 images, 95,000 weights",
    **_FASHION_MNIST | {"teacher_steps": 2000},
    fractions=fractions.of_known(6000),
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={
        _AUGMENTED: Method(kind="kd", augment="crop_flip", against=_AUGMENTED),
        "patch": _patch(),
    },
)


def _variant(variant, augment="crop_flip"):
    return _region("patch", "patch", augment, variant)


bench_ideas = Study(
    title="Bench: ideas, Fashion-MNIST",
    **_FASHION_MNIST,
    fractions=fractions.of_known(100),
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={
        "patch": _variant(""),
        "1 added each": Method(
            kind="l2rkd", options={"region": "patch"}, augment="crop_flip", against="patch"
        ),
        "weighted as in PE-BKD": Method(
            kind="pe_bkd", arguments={"grid": 4}, augment="crop_flip", against="patch"
        ),
        "weight falls to 0": _variant("falling weight"),
        "no regions in the last quarter": _variant("data last"),
        "radius grows to 1": _variant("growing radius"),
        "temperature 2 in regions": _variant("temperature 2"),
        "temperature 8 in regions": _variant("temperature 8"),
        "hardest of 4 points": _variant("hardest of 4"),
        "augmented views as region": _variant("augmented views", augment=""),
        "patches of augmented views as region": _variant("augmented views first", augment=""),
    },
)

# Of four points, each evaluated by both networks, the hardest: twice the cost of a step, at least.
_FEW_IMAGES = fractions.of_known(100)

bench_hardest = Study(
    title="Bench: the hardest of four points at its cost, Fashion-MNIST, 100 images",
    **_FASHION_MNIST,
    fractions=_FEW_IMAGES,
    lengths=(0.5, 1.0),
    pairs={"95,000 weights": LARGE_STUDENT},
    methods={"patch": _variant(""), "hardest of 4": _variant("hardest of 4")},
    contrasts=((("hardest of 4", *_FEW_IMAGES, 0.5), ("patch", *_FEW_IMAGES, 1.0)),),
)

bench_schedules = Study(
    title="Bench: schedules, Fashion-MNIST, 100 and 6,000 images",
    **_FASHION_MNIST | {"teacher_steps": 2000},
    fractions=fractions.of_known(100, 6000),
    pairs={"6,000 weights": SMALL_STUDENT},
    methods={
        _AUGMENTED: Method(kind="kd", augment="crop_flip", against=_AUGMENTED),
        "patch": _patch(),
        "patch of weight 0.3": _patch(region_weight=0.3),
        "a quarter of each batch": _patch(replace_fraction=0.25),
        "weight falls to 0": _patch(variant="falling weight"),
        "no regions in the last quarter": _patch(variant="data last"),
        "patches of 3 grids": _region(
            "patch:grid=2 + patch + patch:grid=7", _AUGMENTED, "crop_flip"
        ),
        "patch, then a segment": _region("patch then segment", _AUGMENTED, "crop_flip"),
        "KD, warm-up": Method(
            kind="kd", augment="crop_flip", against=_AUGMENTED, variant="warm-up"
        ),
        "patch, warm-up": _patch(variant="warm-up"),
    },
)

_IMAGE_REGIONS = {
    "patch": _region("patch"),
    "patch, grid 2": _region("patch:grid=2"),
    "patch, radius 0.25": _region("patch:radius=0.25"),
    "swap of patches": _region("swap:grid=4"),
    "segment": _region("segment"),
    "simplex": _region("simplex"),
    "noise of 0.3": _region(_noise(0.3)),
    "noise of 1": _region(_noise(1.0)),
}
_REGIONS_OF_IMAGES = {
    "methods": {"KD": Method(kind="kd")} | _IMAGE_REGIONS,
    "ranked": tuple(_IMAGE_REGIONS),
}
_FEW = {"fractions": (0.05,), "measures": ()}

bench_digits = Study(
    title="Bench: digits, regions", **DIGITS, **_REGIONS_OF_IMAGES, **_FEW, seeds=DEVELOPMENT_SEEDS
)

bench_glyphs = Study(
    title="Bench: glyphs, regions",
    **GLYPHS,
    **_REGIONS_OF_IMAGES,
    **_FEW,
    seeds=DEVELOPMENT_SEEDS,
)

bench_fashion_regions = Study(
    title="Bench: Fashion-MNIST, regions, 100 images",
    **_FASHION_MNIST,
    **_REGIONS_OF_IMAGES,
    fractions=fractions.of_known(100),
    pairs={"fashion": SMALL_STUDENT},
)
