"""Published methods X on digits, with KD and with L2RKD, at equal compute.

Learning rate and weight of X, the library's default, a tenth or a hundredth of it, are chosen for
each row and column. With L2RKD, X is applied at training and region points. Augmentation is one of
the X: rotations, zooms and shifts.

Primary contrast, written down before the study ran: L2RKD minus KD with augmentation, 10 % of the
digits. All others are secondary.
"""

from studies.harness.definitions import Grid, Method, Study
from studies.networks import DIGITS, HALF, LEARNING_RATES

#: The library's defaults: of the papers or their authors' code where these give one.
DEFAULT_WEIGHTS = {
    "attention_transfer": 1000.0,
    "crd": 0.8,
    "dkd": 1.0,
    "jacobian_matching": 1.0,
    "rkd": 1.0,
    "similarity_preserving": 3000.0,
}
# The memory of its negatives is ten times as long as the data.
_ARGUMENTS = {"crd": {"num_negatives": 1024}}
_WEIGHT = "distillation_loss_weights"
_COLUMNS = ("X + KD", "X + L2RKD")
_KD = {"kind": "kd", "choose": LEARNING_RATES}
_L2RKD = {"kind": "l2rkd", "options": HALF, "choose": LEARNING_RATES}

# Without X, and PE-BKD, whose regions have no companion.
_REFERENCES = {
    "student only": Method(kind="none", choose=LEARNING_RATES),
    "KD": Method(**_KD),
    "L2RKD": Method(**_L2RKD),
    "KD, augmented": Method(**_KD, augment="affine"),
    "L2RKD, augmented": Method(**_L2RKD, augment="affine", against="KD, augmented"),
    "pe_bkd": Method(kind="pe_bkd", choose=LEARNING_RATES),
}


def _companions(name):
    """`{method: Method}` with one published method."""
    weight = DEFAULT_WEIGHTS[name]
    shared = {
        "distillation_loss": name,
        "distillation_loss_arguments": _ARGUMENTS.get(name, {}),
        "against": f"{name} + KD",
        "choose": LEARNING_RATES | {_WEIGHT: (weight, 0.1 * weight, 0.01 * weight)},
    }
    return {
        f"{name} + KD": Method(**_KD | shared),
        f"{name} + L2RKD": Method(
            **_L2RKD | shared | {"options": HALF | {"distillation_losses_at": "both"}}
        ),
    }


_ROWS = {
    "nothing": ("KD", "L2RKD"),
    "augmentation": ("KD, augmented", "L2RKD, augmented"),
    **{name: (f"{name} + KD", f"{name} + L2RKD") for name in DEFAULT_WEIGHTS},
}

f5_methods = Study(
    title="Published methods with KD and with L2RKD, digits",
    **DIGITS,
    methods=_REFERENCES
    | {key: method for name in DEFAULT_WEIGHTS for key, method in _companions(name).items()},
    fractions=(0.05, 0.1, 1.0),
    seeds=tuple(range(10)),
    measures=(),
    contrasts=((("L2RKD", 0.1, 1.0), ("KD, augmented", 0.1, 1.0)),),
    grid=Grid(
        label="X",
        rows={name: dict(zip(_COLUMNS, methods, strict=True)) for name, methods in _ROWS.items()}
        | {"pe_bkd": {_COLUMNS[0]: "pe_bkd"}},
        setting=("weight", _WEIGHT),
        differences={
            "L2RKD's gain over KD, with X": _COLUMNS[::-1],
            "X's gain over nothing, with L2RKD": (_COLUMNS[1], "L2RKD"),
        },
        counts=("better with L2RKD than with KD", "better than L2RKD without X"),
    ),
)
