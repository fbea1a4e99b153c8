"""Methods on fractions of the digits, at the compute of plain distillation: little data, and all.

Each method chooses its learning rate on the validation split, with 10 % of the digits.

Primary contrast, written down before the study ran: L2RKD with augmentation minus KD with
augmentation, 5 % of the digits. All others are secondary.
"""

from studies.compared import AUGMENTED, methods, other_regions
from studies.harness.definitions import Study
from studies.networks import DIGITS

#: KD without augmentation chooses the last one, and PE-BKD and L2RKD with augmentation the first.
RATES = {"learning_rate": (1e-2, 3e-2, 9e-2, 0.18)}

fewshot_digits = Study(
    title="Few-shot distillation, digits",
    **DIGITS,
    methods=methods("affine", choose=RATES) | other_regions("affine", choose=RATES),
    fractions=(0.05, 0.1, 0.25, 1.0),
    contrasts=(
        (("L2RKD, augmented", 0.05, 1.0), (AUGMENTED, 0.1, 1.0)),
        (("L2RKD, augmented", 0.05, 1.0), (AUGMENTED, 0.25, 1.0)),
        (("L2RKD, augmented", 0.1, 1.0), (AUGMENTED, 0.25, 1.0)),
    ),
)
