"""The flag that takes settings from a recipe, and how it sets other flags."""

import difflib

from absl import flags

from l2rkd_command import help, recipes
from l2rkd_command.errors import UsageError
from l2rkd_command.flags.groups import network, under


def define(FLAGS):
    """Defines the flag."""
    flags.DEFINE_string(
        "recipe",
        "",
        "Name of published settings, which become the defaults of other flags: those on the "
        "command line win. --recipe=help lists the names.",
        **under("Recipe", FLAGS),
    )


def apply(FLAGS, known):
    """Takes the values of the recipe for all flags that are not on the command line.

    Args:
        FLAGS: Parsed `absl.flags.FlagValues`.
        known: Recipes by their names.

    Returns:
        The recipe, or `None` without `--recipe`.

    Raises:
        UsageError: If there is no such recipe, or values do not go together.
    """
    recipe = _find(FLAGS.recipe, known) if FLAGS.recipe else None
    for name, value in recipe.flags().items() if recipe else ():
        FLAGS.set_default(name, value)
    network.check(FLAGS)
    if FLAGS.optimizer == "adam" and (FLAGS.weight_decay or FLAGS.decay_epochs):
        raise UsageError(
            "weight_decay" if FLAGS.weight_decay else "decay_epochs",
            "needs --optimizer=sgd, since Adam has a cosine schedule and no decay. Pass "
            "--weight_decay=0 --decay_epochs= to use Adam. Received: --optimizer=adam "
            f"--weight_decay={FLAGS.weight_decay} --decay_epochs={','.join(FLAGS.decay_epochs)}",
        )
    return recipe


def _find(name, known):
    if name == "help":
        help.show("\n".join(known))
        raise SystemExit(0)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {nearest[0]}? " if nearest else ""
        raise UsageError("recipe", f"has no {name!r}. {hint}--recipe=help lists the names.")
    return recipes.find(name, known)
