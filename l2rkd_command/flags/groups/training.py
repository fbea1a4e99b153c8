"""Flags that say how long and how fast to train."""

from absl import flags

from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under
from l2rkd_command.recipes import are_decay_epochs

HEADING = "Training"


def define(FLAGS, epochs, steps_per_epoch, learning_rate):
    """Defines the flags of the schedule.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        epochs: Default number of epochs.
        steps_per_epoch: Default number of steps of an epoch.
        learning_rate: Default learning rate at the start.
    """
    options = under(HEADING, FLAGS)
    flags.DEFINE_integer("epochs", epochs, "Epochs.", lower_bound=1, **options)
    flags.DEFINE_integer(
        "steps_per_epoch",
        steps_per_epoch,
        "Steps of an epoch; the data repeat as often as needed. 0: one pass through the data."
        + (" Not given: one pass, but at least 20 steps." if steps_per_epoch is None else ""),
        lower_bound=0,
        **options,
    )
    flags.DEFINE_integer("batch_size", 50, "Examples in a batch.", lower_bound=1, **options)
    flags.DEFINE_float(
        "learning_rate",
        learning_rate,
        "Initial learning rate; see --optimizer for the schedule."
        if "optimizer" in FLAGS
        else "Initial learning rate of Adam, which falls to 0 along a cosine.",
        **options,
    )
    checks.require("learning_rate", lambda rate: 0 < rate < 1e9, "must be above 0", FLAGS)


def define_optimizer(FLAGS):
    """Defines the flags of the optimizer, before those of the schedule."""
    options = under(HEADING, FLAGS)
    flags.DEFINE_enum(
        "optimizer",
        "adam",
        ["adam", "sgd"],
        "Adam, whose learning rate falls to 0 along a cosine; or PyTorch's SGD with --momentum and "
        "--weight_decay, whose learning rate falls at --decay_epochs.",
        **options,
    )
    flags.DEFINE_float("momentum", 0.9, "Momentum of SGD.", lower_bound=0.0, **options)
    flags.DEFINE_float(
        "weight_decay", 0.0, "Weight decay of SGD, as in PyTorch.", lower_bound=0.0, **options
    )
    flags.DEFINE_list(
        "decay_epochs",
        [],
        "Epochs, counted from 0, that begin with a smaller learning rate of SGD.",
        **options,
    )
    flags.DEFINE_float(
        "decay_factor",
        0.1,
        "Factor by which the learning rate falls at each of --decay_epochs.",
        0.0,
        1.0,
        **options,
    )
    checks.require("momentum", lambda value: value < 1, "must be below 1", FLAGS)
    checks.require("decay_factor", lambda value: value > 0, "must be above 0", FLAGS)
    checks.require("decay_epochs", _are_epochs, "must be increasing integers from 1", FLAGS)


def define_seeds(FLAGS, meaning):
    """Defines the seeds.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        meaning: What a seed decides.
    """
    flags.DEFINE_list(
        "seeds", ["0"], f"Seeds, one run and folder for each: {meaning}.", **under(HEADING, FLAGS)
    )
    wanted = "must be different integers from 0 to 2147483647"
    checks.require("seeds", checks.are_seeds, wanted, FLAGS)


def _are_epochs(words):
    return all(map(str.isdecimal, words)) and are_decay_epochs([*map(int, words)])
