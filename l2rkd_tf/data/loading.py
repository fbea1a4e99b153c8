"""Datasets by name, as batches of images in `[0, 1]` and labels."""

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from l2rkd_tf.data import epoch_order
from l2rkd_tf.data.augmentation import AUGMENTATIONS
from l2rkd_tf.data.subsets import check_fraction, class_balanced_subset
from l2rkd_tf.utils.types import PathLike
from l2rkd_tf.utils.validation import check_choice, is_positive_integer

__all__ = ["load"]

_CACHE_BYTES = 2**30


def load(
    name: PathLike,
    split: str,
    *,
    batch_size: int,
    fraction: float = 1.0,
    seed: int = 0,
    shuffle: bool | None = None,
    data_dir: PathLike | None = None,
    download: bool = False,
    augment: str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    image_size: int | tuple[int, int] | None = None,
    split_seed: int = 0,
    on_error: Literal["raise", "skip"] = "raise",
) -> tf.data.Dataset:
    """Loads a dataset as batches for `fit` and `evaluate`.

    Loads any supervised dataset of TensorFlow Datasets (tfds), or a folder of images: JPEG, PNG,
    WebP, BMP, GIF and TIFF files in `root/split/class/` or, for a split by seed, `root/class/`. The
    page "Your own images" says how folders and files are read. `"digits"`
    (1797 handwritten digits of 8x8 pixels), `"glyphs/gray16"` and `"glyphs/rgb32"` (characters of
    many fonts, 62 classes) and `"glyph_scenes"` (digits, with the class of each pixel) are part of
    this library and need no download. Order and augmentation of
    a pass depend only on `seed` and the number of the pass. Passes are counted from 0 with every
    iteration of the dataset, also under `repeat`, of which TensorFlow begins some in advance: load
    the data again for a training that is to have the same order as another one. `cursor.set_batch`
    makes the next iteration start at any batch, so that an interrupted run resumes exactly: see
    `l2rkd_tf.callbacks.TrainingBackup`. The position is kept in Python: the dataset works only in
    the process that created it.

    Decoded images are kept in memory up to 1 GiB, and so is a subset of unknown size. Larger data
    are read and decoded again in every epoch, but shuffled before decoding, so that the shuffle
    buffer holds encoded images, or the paths of files. All files of a folder's split are decoded
    once when it is loaded, to find broken ones before training.

    Args:
        name: Name in tfds, such as `"digits"`, `"cifar10"` or `"imagenet_resized/32x32"`, or a
            directory of images. Write `"./digits"` for a directory whose name is also in tfds.
        split: Name of a split, such as `"train"`, or a slice, such as `"train[:80%]"`. A directory
            `root/class/` has the splits `"train"` (80 % of each class), `"validation"` (10 %),
            `"test"` (10 %) and `"all"`.
        batch_size: Examples in a batch. The last batch of an epoch may be smaller.
        fraction: Fraction of each class to keep, in `(0, 1]`, chosen by `class_balanced_subset`.
        seed: Integer in `[0, 2**32)` that decides subset, order and augmentation.
        shuffle: Whether to draw a new order for every epoch. Default: for splits whose name starts
            with `"train"`.
        data_dir: Directory of tfds's datasets. Default: that of tfds.
        download: Whether to download a dataset that is not prepared.
        augment: `"crop"`, `"crop_flip"`, `"affine"` (the functions of those names in
            `l2rkd_tf.data`), or a function `augment(image, seed)` of an image, scaled as described
            below, and an int32 pair that differs between examples and between epochs. It returns
            the new image.
        image_size: Side length, or `(height, width)`, to resize images to, in pixels. Required if
            the images differ in size.
        split_seed: Integer in `[0, 2**32)` that decides the splits of a directory `root/class/`,
            and which images of a directory are in a slice. It must be the same for all splits.
        on_error: What to do with broken files in a directory: `"raise"` an error that lists them,
            or `"skip"` them with a warning.

    Returns:
        A `tf.data.Dataset` of batches `(images, labels)`: images float32 in `[0, 1]`, shape
        `(batch, height, width, channels)`; labels int64, shape `(batch,)`. Inputs other than uint8
        images are as in tfds. The dataset has the attributes `class_names`, a list of strings (None
        where labels are not classes), `num_examples`, an integer, `skipped`, a dict with the reason
        why each broken file was left out, and `cursor`, None if all passes are the same:
        `cursor.batch` is the number of the batch, counted from 0 through all passes,
        at which the next iteration starts, and `cursor.set_batch(number)` sets it. Datasets made
        from it, by `map` or `repeat` for instance, also start at that batch, but do not have these
        attributes.

    Raises:
        ValueError: If there is no such dataset or split, or it is not prepared and `download` is
            False; if another argument is not as above; if the images differ in size and
            `image_size` is None; if files in a directory are broken and `on_error` is `"raise"`, or
            none is left; if a split of a directory has classes that its training split lacks.
        ImportError: If preparing `"digits"` requires scikit-learn, or preparing `"glyphs/..."`
            Matplotlib, and it is not installed.

    Example:
        >>> train = load("digits", "train", batch_size=32, fraction=0.1)
        >>> train.num_examples, len(train), train.element_spec[0].shape
        (100, 4, TensorShape([None, 8, 8, 1]))
    """
    _check_arguments(name, split, batch_size, fraction, shuffle, augment)
    epoch_order.check_seed(seed)
    epoch_order.check_seed(split_seed, "split_seed")
    check_choice("on_error", on_error, ["raise", "skip"])
    # Imported here, since tfds is slow to import and the rest of the library does not need it.
    from l2rkd_tf.data import sources

    options = {"image_size": _as_size(image_size), "split_seed": split_seed, "on_error": on_error}
    source = sources.open_source(name, split, data_dir, download, **options)
    _check_source(source, fraction, augment)
    examples, num_examples = _choose(source, fraction, seed)
    if shuffle is None:
        shuffle = split.startswith("train")
    examples, decode = _kept(source, examples, num_examples, fraction < 1)
    dataset, cursor = _batches(
        examples, num_examples, batch_size, seed, shuffle, _finish(decode, augment), augment
    )
    dataset.cursor = cursor
    dataset.class_names = source.class_names
    dataset.num_examples = num_examples
    dataset.skipped = source.skipped
    return dataset


def _check_arguments(name, split, batch_size, fraction, shuffle, augment):
    if not isinstance(name, str | os.PathLike):
        raise ValueError(
            "`name` must be the name of a dataset, such as 'digits', or a directory of images. "
            f"Received: name={name!r}"
        )
    if not isinstance(split, str) or not split:
        raise ValueError(
            f"`split` must be the name of a split, such as 'train'. Received: split={split!r}"
        )
    if not is_positive_integer(batch_size):
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
        )
    check_fraction(fraction)
    if shuffle not in (None, True, False):
        raise ValueError(f"`shuffle` must be None, True or False. Received: shuffle={shuffle!r}")
    known = isinstance(augment, str) and augment in AUGMENTATIONS
    if augment is not None and not callable(augment) and not known:
        raise ValueError(
            f"`augment` must be None, one of {sorted(AUGMENTATIONS)}, or a function of an image "
            f"and a seed. Received: augment={augment!r}"
        )


def _as_size(image_size):
    size = (image_size, image_size) if is_positive_integer(image_size) else image_size
    if size is None:
        return None
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(map(is_positive_integer, size))
    ):
        raise ValueError(
            "`image_size` must be a positive integer or a pair of them, (height, width). "
            f"Received: image_size={image_size!r}"
        )
    return tuple(int(length) for length in size)


def _check_source(source, fraction, augment):
    if fraction < 1 and source.class_names is None:
        raise ValueError(
            "`fraction` must be 1 for a dataset without classes, since it is a fraction of each "
            f"class. Received: fraction={fraction!r}"
        )
    if isinstance(augment, str) and source.input_spec.shape.rank != 3:
        raise ValueError(
            f"`augment` must be None or a function for inputs that are not images, here of shape "
            f"{source.input_spec.shape}. Received: augment={augment!r}"
        )


def _choose(source, fraction, seed):
    """The examples of the class-balanced subset, still encoded, and how many they are."""
    if fraction == 1:
        return source.examples, source.num_examples
    chosen = class_balanced_subset(source.read_labels(), fraction, seed)
    mask = np.zeros(source.num_examples, dtype=bool)
    mask[chosen] = True
    examples = (
        source.examples.enumerate()
        .filter(lambda index, _: tf.gather(mask, index))
        .map(lambda _, example: example)
        .apply(tf.data.experimental.assert_cardinality(len(chosen)))
    )
    return examples, len(chosen)


def _kept(source, examples, num_examples, is_subset):
    """The examples of a pass, in memory if they fit, and a function that decodes their inputs."""
    if not _fits_in_memory(source.input_spec, num_examples, is_subset):
        return examples, source.decode
    decode = _parallel(lambda encoded, label: (source.decode(encoded), label))
    return decode(examples).cache(), tf.identity


def _fits_in_memory(spec, num_examples, is_subset):
    if not spec.shape.is_fully_defined() or spec.dtype == tf.string:
        return is_subset
    return num_examples * spec.shape.num_elements() * spec.dtype.size <= _CACHE_BYTES


def _finish(decode, augment):
    """A function from an example and its seed to an input and a label."""
    augment = AUGMENTATIONS[augment] if isinstance(augment, str) else augment

    def finish(example, seed):
        encoded, label = example
        inputs = _scaled(decode(encoded))
        return inputs if augment is None else augment(inputs, seed), label

    return finish


def _batches(examples, num_examples, batch_size, seed, shuffle, finish, augment):
    """The dataset, and its cursor unless all passes are the same."""
    if shuffle or augment is not None:
        dataset, cursor = epoch_order.ordered_batches(
            examples, num_examples, batch_size, seed, shuffle, finish
        )
    else:
        finished = _parallel(lambda *example: finish(example, None))(examples)
        dataset, cursor = finished.batch(batch_size), None
    return epoch_order.prefetched(dataset), cursor


def _scaled(inputs):
    if inputs.dtype == tf.uint8 and inputs.shape.rank == 3:
        return tf.cast(inputs, tf.float32) / 255.0
    return inputs


def _parallel(function):
    return lambda dataset: dataset.map(
        function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
