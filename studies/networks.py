"""Data, teachers and students that several studies share, and the values that validation tries."""

from studies.harness.pairs import Network, Pair

DIGITS = {
    "dataset": "digits",
    "pairs": {
        "digits": Pair(teacher=Network(widths=(32, 64, 128)), student=Network(widths=(16, 32)))
    },
}
GLYPHS = {
    "dataset": "glyphs/gray16",
    "pairs": {
        "glyphs": Pair(teacher=Network(widths=(32, 64, 128)), student=Network(widths=(16, 32, 64)))
    },
    "steps": 2000,
    "teacher_steps": 4000,
}

# Each pair has a dataset of its own.
TABLES = {
    "dataset": "",
    "pairs": dict.fromkeys(
        ("tables/breast_cancer", "tables/diabetes", "tables/digits", "tables/wine"),
        Pair(teacher=Network(widths=(256, 256)), student=Network(widths=(16,))),
    ),
    "steps": 1000,
    "teacher_steps": 1000,
    "teacher_learning_rate": 1e-3,
    "measures": (),
}
SERIES = {
    "dataset": "",
    "pairs": dict.fromkeys(
        ("series/italy_power_demand", "series/japanese_vowels", "series/osu_leaf"),
        Pair(teacher=Network(widths=(64, 64, 64)), student=Network(widths=(8, 8))),
    ),
    "steps": 600,
    "teacher_steps": 600,
    "teacher_learning_rate": 1e-2,
    "measures": (),
}

# Images of 28x28, and a teacher for each seed.
_TEACHER = Network(widths=(32, 64, 128))
FASHION = {
    "dataset": "known/fashion_mnist",
    "steps": 2000,
    "teacher_steps": 6000,
    "teacher_augment": "crop_flip",
}
MNIST = FASHION | {"dataset": "known/mnist", "teacher_augment": "crop"}
# The same images, their pixels in another order: numbers without neighbours.
PERMUTED = {
    "dataset": "known/mnist_permuted",
    "pairs": {"mnist": Pair(teacher=Network(widths=(512, 512)), student=Network(widths=(32,)))},
    "steps": 3000,
    "teacher_steps": 4000,
    "teacher_learning_rate": 1e-3,
    "learning_rate": 1e-2,
    "measures": (),
}
SMALL_STUDENT = Pair(teacher=_TEACHER, student=Network(widths=(8, 16, 32)))
LARGE_STUDENT = Pair(teacher=_TEACHER, student=_TEACHER)

LEARNING_RATES = {"learning_rate": (1e-2, 3e-2, 9e-2)}
#: Half of each batch moves into its region: the cost of plain distillation.
HALF = {"replace_fraction": 0.5}
#: Only development studies and `ablation_again_glyphs` use them.
DEVELOPMENT_SEEDS = (1000, 1001, 1002, 1003, 1004)
