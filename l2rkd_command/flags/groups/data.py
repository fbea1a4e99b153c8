"""Flags that say which data are read."""

from absl import flags

from l2rkd_command import recipes
from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under

HEADING = "Data"

#: Flags that a run's `config.json` answers for the commands that take a student from it.
NAMES = ("dataset", "splits", "split_seed", "data_dir", "image_size", "on_error")


def define(FLAGS):
    """Defines the flags."""
    options = under(HEADING, FLAGS)
    flags.DEFINE_string(
        "dataset",
        "digits",
        "Name of a dataset in TensorFlow Datasets, or a folder of images: "
        "folder/split/class/*.jpg, or folder/class/*.jpg, which is divided into train, validation "
        "and test.",
        **options,
    )
    flags.DEFINE_list(
        "splits",
        ["train", "validation", "test"],
        "Splits to train on, to validate on after each epoch, and to report, such as "
        "train[:90%],train[90%:],test. Leave the second one empty for none: train,,test.",
        **options,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "Folder where TensorFlow Datasets keeps its datasets. Not given: its default.",
        **options,
    )
    flags.DEFINE_boolean(
        "download", False, "Whether to download a dataset that is not on disk yet.", **options
    )
    checks.require(
        "splits",
        lambda splits: len(splits) == 3 and bool(splits[0]) and bool(splits[2]),
        "must be three splits, of which only the second one may be empty",
        FLAGS,
    )
    _define_images(FLAGS)


def _define_images(FLAGS):
    options = under(HEADING, FLAGS)
    flags.DEFINE_integer(
        "image_size",
        None,
        "Height and width to resize images to, in pixels. Needed if their sizes differ.",
        lower_bound=1,
        **options,
    )
    flags.DEFINE_integer(
        "split_seed",
        0,
        "Seed by which folder/class/*.jpg is divided, and of the order that slices cut.",
        0,
        2**32 - 1,
        **options,
    )
    flags.DEFINE_enum(
        "on_error",
        "raise",
        ["raise", "skip"],
        "What to do about broken files in a folder of images: raise an error that lists them, or "
        "skip them with a warning.",
        **options,
    )


def define_fraction(FLAGS, default=1.0):
    """Defines the flag that takes a subset of the training data."""
    flags.DEFINE_float(
        "fraction",
        default,
        "Fraction of the training examples of each class to use.",
        0.0,
        1.0,
        **under(HEADING, FLAGS),
    )
    checks.require("fraction", lambda value: value > 0, "must be above 0, and at most 1", FLAGS)


def define_augment(FLAGS, default):
    """Defines the flag that augments training images."""
    flags.DEFINE_enum(
        "augment",
        default,
        recipes.AUGMENTS,
        "Augmentation of training images: random shifts (`crop`), also with horizontal flips, or "
        "rotations, zooms and shifts (`affine`).",
        **under(HEADING, FLAGS),
    )
