"""Flags whose values a recipe may set: network, augmentation and optimizer."""

import functools

import recipe_optimizer
import recipes
from absl import flags

FLAGS = flags.FLAGS


def define(augment):
    """Defines the flags.

    Args:
        augment: Augmentation without a recipe.
    """
    flags.DEFINE_string(
        "recipe",
        "",
        "Settings of the literature by name, as examples/recipes.py lists them. Flags that are "
        "given go before the recipe's.",
    )
    flags.DEFINE_string("network", "", "Network of the literature; empty for a small convnet.")
    flags.DEFINE_list("mean", [], "Means of the channels, which the network subtracts.")
    flags.DEFINE_list("std", [], "Deviations of the channels, by which the network divides.")
    flags.DEFINE_enum("augment", augment, recipes.AUGMENTS, "Augmentation of training images.")
    flags.DEFINE_enum(
        "optimizer",
        "adam",
        recipes.OPTIMIZERS,
        "Adam on a cosine, or PyTorch's SGD with --momentum, --weight_decay and --decay_epochs.",
    )
    flags.DEFINE_float("momentum", 0.9, "Momentum of --optimizer=sgd.", lower_bound=0.0)
    flags.DEFINE_float("weight_decay", 0.0, "PyTorch's weight decay.", lower_bound=0.0)
    flags.DEFINE_list("decay_epochs", [], "Epochs from which the learning rate is smaller.")
    flags.DEFINE_float("decay_factor", 0.1, "What it is multiplied by then.", 0.0, 1.0)
    flags.register_validator("momentum", lambda value: value < 1, "must be below 1")
    flags.register_validator("decay_factor", lambda value: value > 0, "must be above 0")
    flags.register_validator("decay_epochs", _are_epochs, "must be increasing integers from 1")
    flags.register_validator("mean", _are_numbers, "must be numbers")
    flags.register_validator("std", _are_positive, "must be numbers above 0")


def apply(known):
    """Gives the recipe's values to all flags that are not on the command line.

    Args:
        known: Recipes by their names.

    Returns:
        The recipe, or `None` without `--recipe`.

    Raises:
        ValueError: If there is no such recipe, or values do not go together.
    """
    recipe = recipes.find(FLAGS.recipe, known) if FLAGS.recipe else None
    for name, value in recipe.flags().items() if recipe else ():
        FLAGS.set_default(name, value)
    if len(FLAGS.mean) != len(FLAGS.std):
        raise ValueError(
            "`std` must have as many numbers as `mean`. "
            f"Received: mean={FLAGS.mean}, std={FLAGS.std}"
        )
    if FLAGS.optimizer == "adam" and (FLAGS.weight_decay or FLAGS.decay_epochs):
        raise ValueError(
            "`weight_decay` must be 0 and `decay_epochs` empty with optimizer='adam', which has "
            f"a cosine and no decay. Received: weight_decay={FLAGS.weight_decay}, "
            f"decay_epochs={FLAGS.decay_epochs}. Pass --weight_decay=0 --decay_epochs=, too."
        )
    return recipe


def augment():
    """Argument `augment` of `l2rkd_tf.data.load` from the flag."""
    return None if FLAGS.augment == "none" else FLAGS.augment


def network_flags():
    """Arguments of `training.build_network` from the flags."""
    return {
        "network": FLAGS.network,
        "mean": [float(word) for word in FLAGS.mean],
        "std": [float(word) for word in FLAGS.std],
    }


def make_optimizer():
    """Argument `optimizer` of `training.fit` from the flags."""
    if FLAGS.optimizer == "adam":
        return recipe_optimizer.adam_on_cosine
    return functools.partial(
        recipe_optimizer.sgd_in_steps,
        momentum=FLAGS.momentum,
        weight_decay=FLAGS.weight_decay,
        decay_epochs=[int(word) for word in FLAGS.decay_epochs],
        decay_factor=FLAGS.decay_factor,
    )


def _are_epochs(words):
    return all(map(str.isdecimal, words)) and recipes.are_decay_epochs([*map(int, words)])


def _are_numbers(words, lowest=float("-inf")):
    try:
        return all(lowest < float(word) < float("inf") for word in words)
    except ValueError:
        return False


def _are_positive(words):
    return _are_numbers(words, lowest=0.0)
