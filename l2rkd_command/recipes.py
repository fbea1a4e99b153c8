"""Recipes: published settings for one dataset and network, or a pair of networks.

    l2rkd train-teacher --recipe=help                            # the names
    l2rkd train-teacher --recipe=cifar100_wrn_40_2
    l2rkd distill --recipe=cifar100_wrn_40_2_to_wrn_16_2 --method=l2rkd

A recipe is a set of defaults for flags: each field is the flag of that name, and a flag on the
command line wins. The schedule is the one in the code of Tian et al. (RepDistiller,
arXiv:1910.10699), which mdistiller also uses.
"""

import dataclasses
import math

#: Channel means and standard deviations of the training pixels, from 0 to 1.
DATA_SETS = {
    "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    "cifar100": {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)},
    # A folder of images.
    "tiny_imagenet": {
        "mean": (0.4802, 0.4481, 0.3975),
        "std": (0.2770, 0.2691, 0.2821),
        "image_size": 64,
        "splits": ("train", "", "val"),
    },
}
#: Teachers and students, by the names of `l2rkd_tf.models.get`.
PAIRS = (
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("ResNet50", "vgg8"),
    ("resnet32x4", "ShuffleNetV1"),
    ("resnet32x4", "ShuffleNetV2"),
    ("wrn_40_2", "ShuffleNetV1"),
)
#: Networks whose learning rate is not the default one.
LEARNING_RATES = {"MobileNetV2": 0.01, "ShuffleNetV1": 0.01, "ShuffleNetV2": 0.01}

AUGMENTS = ("none", "affine", "crop", "crop_flip")
OPTIMIZERS = ("adam", "sgd")

_SPLITS = "three splits, to train on, to watch (may be empty) and to report"
_NUMBERS = "a number for each channel, from 0 to 1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on labels.

    Raises:
        ValueError: If a value is out of range.
    """

    name: str
    network: str
    dataset: str
    # CIFAR has no split to watch: all of train is trained on, and the last epoch is reported.
    splits: tuple = ("train", "", "test")
    image_size: int | None = None  # as the images are
    mean: tuple
    std: tuple
    augment: str = "crop_flip"  # crops of images padded by an eighth, 4 pixels of 32
    batch_size: int = 64
    epochs: int = 240
    steps_per_epoch: int = 0  # a whole pass
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_epochs: tuple = (150, 180, 210)
    decay_factor: float = 0.1

    def __post_init__(self):
        """Checks all values."""
        _check_types(self)
        size, epochs = self.image_size, self.decay_epochs
        _check(self, "splits", _are_splits(self.splits), _SPLITS)
        _check(self, "image_size", size is None or size >= 1, "None or at least 1")
        _check(self, "mean", all(0 <= value <= 1 for value in self.mean), _NUMBERS)
        _check(self, "std", len(self.std) == len(self.mean), "as many numbers as `mean`")
        _check(self, "std", all(0 < value <= 1 for value in self.std), _NUMBERS + ", but not 0")
        _check(self, "augment", self.augment in AUGMENTS, f"one of {AUGMENTS}")
        _check(self, "batch_size", self.batch_size >= 1, "at least 1")
        _check(self, "epochs", self.epochs >= 1, "at least 1")
        _check(self, "steps_per_epoch", self.steps_per_epoch >= 0, "0 (a whole pass) or more")
        _check(self, "optimizer", self.optimizer in OPTIMIZERS, f"one of {OPTIMIZERS}")
        _check(self, "learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        _check(self, "momentum", 0 <= self.momentum < 1, "from 0 to below 1")
        _check(self, "weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        _check(self, "decay_epochs", are_decay_epochs(epochs), "increasing numbers from 1")
        _check(self, "decay_factor", 0 < self.decay_factor <= 1, "above 0, and at most 1")

    def __str__(self):
        """A line for each value."""
        lines = [f"  {name} = {value!r}" for name, value in dataclasses.asdict(self).items()]
        return "\n".join([type(self).__name__, *lines])

    def flags(self):
        """Values of flags by their names; those of list flags are lists of words."""
        values = dataclasses.asdict(self)
        del values["name"]
        return {
            name: [str(word) for word in value] if isinstance(value, tuple) else value
            for name, value in values.items()
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(Recipe):
    """How `network` is trained with the help of a teacher, which `teacher_recipe` trained.

    Raises:
        ValueError: If a value is out of range.
    """

    teacher_recipe: str
    fraction: float = 1.0
    temperature: float = 4.0
    hard_weight: float = 0.1
    kd_weight: float = 0.9
    region_weight: float = 0.9  # of --method=l2rkd: this library's own

    def __post_init__(self):
        """Checks all values."""
        super().__post_init__()
        _check(self, "fraction", 0 < self.fraction <= 1, "above 0, and at most 1")
        _check(self, "temperature", 0 < self.temperature < math.inf, "above 0")
        for name in ("hard_weight", "kd_weight", "region_weight"):
            _check(self, name, 0 <= getattr(self, name) < math.inf, "0 or more")

    @property
    def teacher_file(self):
        """Where `l2rkd train-teacher` saves the teacher."""
        return f"{output_folder(self.teacher_recipe)}/seed0/model.keras"

    def flags(self):
        """Values of flags by their names, all but the teacher's file."""
        values = super().flags()
        del values["teacher_recipe"]
        return values


def are_decay_epochs(epochs):
    """Whether these are increasing numbers from 1."""
    return list(epochs) == sorted(set(epochs)) and all(epoch >= 1 for epoch in epochs)


def _are_splits(splits):
    return len(splits) == 3 and bool(splits[0]) and bool(splits[2])


def _check_types(recipe):
    for field in dataclasses.fields(recipe):
        wanted = int | float if field.type is float else field.type
        is_right = isinstance(getattr(recipe, field.name), wanted)
        _check(recipe, field.name, is_right, f"of type {field.type}")


def _check(recipe, name, is_right, wanted):
    if not is_right:
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={getattr(recipe, name)!r}")


def output_folder(*words):
    """Folder of a run by default, named by the recipe and by what else there is to tell."""
    return f"runs/{'_'.join(words)}"


def for_teacher(dataset, network):
    """The recipe of a teacher."""
    return Recipe(name=f"{dataset}_{network}".lower(), **_training(dataset, network))


def for_pair(dataset, teacher, student):
    """The recipe of a student that learns from a teacher."""
    return Distillation(
        name=f"{dataset}_{teacher}_to_{student}".lower(),
        teacher_recipe=for_teacher(dataset, teacher).name,
        **_training(dataset, student),
    )


def _training(dataset, network):
    learning_rate = LEARNING_RATES.get(network, Recipe.learning_rate)
    return DATA_SETS[dataset] | {
        "dataset": dataset,
        "network": network,
        "learning_rate": learning_rate,
    }


def teachers():
    """All recipes of `l2rkd train-teacher`, by name."""
    networks = dict.fromkeys(teacher for teacher, _ in PAIRS)
    recipes = [for_teacher(dataset, network) for dataset in DATA_SETS for network in networks]
    return {recipe.name: recipe for recipe in recipes}


def distillations():
    """All recipes of `l2rkd distill`, by name."""
    recipes = [for_pair(dataset, *pair) for dataset in DATA_SETS for pair in PAIRS]
    return {recipe.name: recipe for recipe in recipes}


def find(name, known):
    """A recipe by its name.

    Args:
        name: Name of a recipe.
        known: `teachers()`, `distillations()` or both.

    Returns:
        A `Recipe`.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in known:
        names = "\n  ".join(known)
        raise ValueError(f"`recipe` must be one of\n  {names}\nReceived: recipe={name!r}")
    return known[name]
