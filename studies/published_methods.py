"""Published methods X on digits: only X, X + KD and X + L2RKD, at equal compute.

The weight of X, all of its paper's, a tenth or a hundredth, is chosen for X + KD and kept for the
others. With L2RKD, X is applied at training and region points.
"""

from studies.harness.definitions import Grid, Method, Study
from studies.networks import DIGITS, HALF

#: The weight that each method's paper gives it.
PAPER_WEIGHTS = {
    "attention_transfer": 1000.0,
    "correlation_congruence": 100.0,
    "crd": 0.8,
    "dist": 1.0,
    "dkd": 1.0,
    "fitnet": 100.0,
    "fsp": 1.0,
    "jacobian_matching": 1.0,
    "logit_standardization": 9.0,
    "nst": 50.0,
    "pkt": 30000.0,
    "rkd": 1.0,
    "similarity_preserving": 3000.0,
    "vid": 1.0,
}
# What must differ from the defaults for these data and networks: CRD's memory is ten times as long
# as the data; FSP needs layers with as many channels in the teacher as in the student.
_ARGUMENTS = {
    "crd": {"num_negatives": 1024},
    "fsp": {
        "teacher_layer_names": ["block1_norm", "block1"],
        "student_layer_names": ["block2_norm", "block2"],
    },
}
_WEIGHT = "distillation_loss_weights"
_COLUMNS = {"X only": "{} only", "X + KD": "{} + KD", "X + L2RKD": "{} + L2RKD"}

# Without X. The last three, regions of other papers, have no companions.
_REFERENCES = {
    "student only": Method(kind="none"),
    "KD": Method(kind="kd"),
    "L2RKD": Method(kind="l2rkd", options=HALF),
    "mixup_kd": Method(kind="mixup_kd", options=HALF),
    "noise_kd": Method(kind="noise_kd", arguments={"stddev": 0.2}, options=HALF),
    "pe_bkd": Method(kind="pe_bkd", options=HALF),
}


def _companions(name):
    """`{method: Method}` with one published method."""
    tuned = f"{name} + KD"
    shared = {
        "distillation_loss": name,
        "distillation_loss_arguments": _ARGUMENTS.get(name, {}),
        "against": tuned,
    }
    paper = PAPER_WEIGHTS[name]
    return {
        f"{name} only": Method(kind="none", settings_of=tuned, **shared),
        tuned: Method(
            kind="kd", choose={_WEIGHT: (paper, 0.1 * paper, 0.01 * paper)}, **shared
        ),
        f"{name} + L2RKD": Method(
            kind="l2rkd",
            options=HALF | {"distillation_losses_at": "both"},
            settings_of=tuned,
            **shared,
        ),
    }  # fmt: skip


methods_digits = Study(
    title="Published methods with and without L2RKD, digits",
    **DIGITS,
    methods=_REFERENCES
    | {key: method for name in PAPER_WEIGHTS for key, method in _companions(name).items()},
    fractions=(0.05, 0.1, 0.25, 1.0),
    steps=1000,
    learning_rate=6e-3,
    teacher_steps=800,
    teacher_learning_rate=2e-3,
    measures=(),
    grid=Grid(
        label="X",
        rows={
            "nothing": dict(zip(_COLUMNS, ("student only", "KD", "L2RKD"), strict=True)),
            **{
                name: {column: text.format(name) for column, text in _COLUMNS.items()}
                for name in PAPER_WEIGHTS
            },
            **{name: {"X only": name} for name in ("mixup_kd", "noise_kd", "pe_bkd")},
        },
        setting=("weight", _WEIGHT),
        differences={
            "L2RKD's gain over KD, with X": ("X + L2RKD", "X + KD"),
            "X's gain over nothing, with L2RKD": ("X + L2RKD", "L2RKD"),
        },
        counts=("better with L2RKD than with KD", "better than L2RKD without X"),
    ),
)
