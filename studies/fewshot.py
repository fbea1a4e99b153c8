"""Methods on fractions of the data, at the compute of plain distillation: little data, and all."""

from studies.harness.definitions import Method, Study
from studies.networks import DIGITS, GLYPHS, HALF, LEARNING_RATES, TEMPERATURES

KD = Method(kind="kd", choose=TEMPERATURES)
L2RKD_PATCHES = Method(kind="l2rkd", options=HALF | {"region": "patch"}, choose=TEMPERATURES)

_METHODS = {
    "student only": Method(kind="none", choose=LEARNING_RATES),
    "KD": KD,
    "NoiseKD": Method(
        kind="noise_kd",
        arguments={"stddev": 0.1},
        options=HALF,
        choose=LEARNING_RATES | {"stddev": (0.03, 0.1, 0.3)},
    ),
    # Temperature 1 is the paper's. Few training points pass through the student, for BatchNorm.
    "FunMatch": Method(
        kind="funmatch",
        options={"replace_fraction": 0.9},
        choose=LEARNING_RATES | {"temperature": (1.0, 4.0, 8.0)},
    ),
    "PE-BKD": Method(kind="pe_bkd", choose=TEMPERATURES),
    "L2RKD, segments": Method(
        kind="l2rkd", options=HALF | {"region": "segment"}, choose=TEMPERATURES
    ),
    "L2RKD, patches": L2RKD_PATCHES,
}
_TWICE = {
    "KD, twice the compute": Method(
        kind="kd", choose=TEMPERATURES, compute=2.0, against="KD, twice the compute"
    ),
    "L2RKD, twice the compute": Method(
        kind="l2rkd", choose=TEMPERATURES, compute=2.0, against="KD, twice the compute"
    ),
}

fewshot_digits = Study(
    title="Few-shot distillation, digits",
    **DIGITS,
    methods=_METHODS | _TWICE,
    fractions=(0.05, 0.1, 0.2, 0.25, 0.5, 1.0),
    contrasts=(
        (("L2RKD, patches", 0.05, 1.0), ("KD", 0.2, 1.0)),
        (("L2RKD, patches", 0.1, 1.0), ("KD", 0.5, 1.0)),
        (("L2RKD, patches", 0.25, 1.0), ("KD", 1.0, 1.0)),
    ),
)

fewshot_glyphs = Study(
    title="Few-shot distillation, glyphs",
    **GLYPHS,
    methods=_METHODS,
    fractions=(0.05, 0.1, 0.25, 0.5, 1.0),
    tuning_seeds=(100,),
    contrasts=(
        (("L2RKD, patches", 0.1, 1.0), ("KD", 0.25, 1.0)),
        (("L2RKD, patches", 0.25, 1.0), ("KD", 0.5, 1.0)),
    ),
)
