"""Finds datasets of tfds and folders of images by name, and opens them without decoding."""

import difflib
import functools
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from l2rkd_tf.data import digits, glyphs, offline
from l2rkd_tf.utils.types import PathLike

__all__ = ["Source", "find_builder", "open_split"]

_NO_DOWNLOAD = (digits.Digits, glyphs.Glyphs)


class Source(NamedTuple):
    """One split of a dataset, with images that are not decoded yet."""

    examples: tf.data.Dataset  # Pairs `(encoded input, label)`.
    decode: Callable  # From an encoded input to the input.
    input_spec: tf.TensorSpec  # Of a decoded input.
    class_names: list | None  # None if labels are not classes.
    num_examples: int

    def read_labels(self) -> np.ndarray:
        """Labels of all examples in their order, shape `(examples,)`; no image is decoded."""
        labels = self.examples.map(lambda _, label: label).batch(4096)
        return np.concatenate(list(labels.as_numpy_iterator()))


def find_builder(
    name: PathLike, data_dir: PathLike | None = None, download: bool = False
) -> tfds.core.DatasetBuilder:
    """Finds a dataset by its tfds name, or else a folder of images, and prepares it for reading.

    Args:
        name: Name in tfds, or an existing directory `root/split/class/*.png`. A `pathlib.Path` is
            always a directory.
        data_dir: Directory of tfds's datasets. Default: that of tfds.
        download: Whether to download a dataset that is not prepared.

    Returns:
        A prepared `tfds.core.DatasetBuilder`.

    Raises:
        ValueError: If there is no such dataset, or it is not prepared and `download` is False.
    """
    if isinstance(name, os.PathLike):
        return _folder_builder(name)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    # tfds raises an `AssertionError` for an unknown version.
    except (ValueError, AssertionError) as error:
        if os.path.isdir(os.path.expanduser(name)):
            return _folder_builder(name)
        raise ValueError(_unknown_name(name, error)) from error
    if isinstance(builder, _NO_DOWNLOAD):
        return offline.prepare_offline(builder)
    if not offline.is_prepared(builder):
        if not download:
            raise ValueError(
                f"The dataset {name!r} is not prepared in {builder.data_dir}. Pass `download=True` "
                f"to download it, or the `data_dir` that contains it. Received: name={name!r}, "
                f"data_dir={data_dir!r}, download={download!r}"
            )
        builder.download_and_prepare()
    return builder


def open_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: tuple[int, int] | None = None
) -> Source:
    """Opens one split for reading, with its images still encoded.

    Args:
        builder: A prepared `tfds.core.DatasetBuilder`.
        split: Name of a split, or a slice of one such as `"train[:80%]"`.
        image_size: `(height, width)` that `Source.decode` resizes images to, or None.

    Returns:
        The `Source`.

    Raises:
        ValueError: If there is no such split, examples are not supervised pairs, or the images
            differ in size and `image_size` is None.
    """
    parts, num_examples = _parts(builder, split)
    input_key, label_key = _supervised_keys(builder)
    input_feature, label_feature = (builder.info.features[key] for key in (input_key, label_key))
    encoded = isinstance(input_feature, tfds.features.Image)
    if image_size is not None and not encoded:
        raise ValueError(
            f"`image_size` is for images, and the dataset {builder.name!r} has none. Received: "
            f"image_size={image_size!r}"
        )
    datasets = [
        builder.as_dataset(
            split=name,
            decoders={input_key: tfds.decode.SkipDecoding()} if encoded else None,
            read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
        )
        .skip(start)
        .take(count)
        for name, start, count in parts
    ]
    examples = functools.reduce(tf.data.Dataset.concatenate, datasets).map(
        lambda example: (example[input_key], example[label_key])
    )
    if encoded and image_size is None and None in input_feature.shape:
        input_feature = _of_common_shape(input_feature, examples, builder)
    decode = _image_decoder(input_feature, image_size) if encoded else tf.identity
    return Source(
        examples=examples,
        decode=decode,
        input_spec=examples.map(lambda x, _: decode(x)).element_spec,
        class_names=_class_names(label_feature),
        num_examples=num_examples,
    )


def _folder_builder(name):
    directory = os.fspath(name)
    if not os.path.isdir(os.path.expanduser(directory)):
        raise ValueError(
            "`name` must be an existing directory of images `root/split/class/*.png` when it is "
            f"a path. Received: name={name!r}"
        )
    return tfds.ImageFolder(directory)


def _unknown_name(name, error):
    base_name = re.split("[/:]", name)[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base_name in known:
        # Without tfds's announcement of close matches, of which there may be none.
        reason = str(error).splitlines()[0].partition(" Here are ")[0]
        return f"The dataset {name!r} cannot be loaded by tfds: {reason}{_configs(base_name)}"
    matches = difflib.get_close_matches(base_name.lower(), known)
    advice = f" Close matches: {matches}." if matches else ""
    return (
        "`name` must be a dataset in tfds, or an existing directory of images "
        f"`root/split/class/*.png`. Received: name={name!r}, which is neither in tfds nor a "
        f"directory.{advice}"
    )


def _configs(base_name):
    """The configurations of a tfds dataset, as the end of a message."""
    names = list(tfds.builder_cls(base_name).builder_configs)
    return f" Configurations of {base_name!r}: {names}" if names else ""


def _parts(builder, split):
    """What to read, `[(split, first example, examples or -1 for all)]`, and the total number.

    tfds slices prepared datasets; folders, whose images it shuffles once, are sliced here.
    """
    splits = builder.info.splits
    try:
        if isinstance(builder, tfds.ImageFolder):
            slices = tfds.core.ReadInstruction.from_spec(split).to_absolute(dict(splits))
            parts = [(part.splitname, *_range_of(part, splits)) for part in slices]
            num_examples = sum(count for *_, count in parts)
        else:
            parts, num_examples = [(split, 0, -1)], splits[split].num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"`split` must be one of the splits of {builder.name!r}, which are "
            f"{sorted(splits)}, or a slice of one. Received: split={split!r}"
        ) from error
    if num_examples < 1:
        raise ValueError(
            f"`split` must hold at least one example of {builder.name!r}. "
            f"Received: split={split!r}, which is empty"
        )
    return parts, num_examples


def _range_of(part, splits):
    """First example and number of examples of an absolute slice of tfds."""
    start = part.from_ or 0
    stop = dict(splits)[part.splitname].num_examples if part.to is None else part.to
    return start, stop - start


def _supervised_keys(builder):
    keys = builder.info.supervised_keys
    if keys is None or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ValueError(
            "`name` must be a dataset of pairs `(input, label)`, such as 'digits' or 'cifar10'. "
            f"Received: {builder.name!r}, whose `supervised_keys` are {keys!r}"
        )
    return keys


def _class_names(feature):
    return list(feature.names) if isinstance(feature, tfds.features.ClassLabel) else None


def _image_decoder(feature, image_size):
    def decode(encoded):
        image = feature.decode_example(encoded)
        if image_size is None or tuple(image.shape[:2]) == image_size:
            return image
        resized = tf.image.resize(image, image_size, antialias=True)
        return tf.cast(tf.round(resized) if image.dtype.is_integer else resized, image.dtype)

    return decode


def _of_common_shape(feature, examples, builder):
    """The feature with the height and width that all images of a folder share."""
    sizes = set()
    # Only the headers are parsed, but a large tfds dataset is too much to read for that.
    if isinstance(builder, tfds.ImageFolder):
        encoded_sizes = examples.map(
            lambda encoded, _: _encoded_size(encoded), num_parallel_calls=tf.data.AUTOTUNE
        )
        sizes = {tuple(size.tolist()) for size in encoded_sizes.as_numpy_iterator()}
    if len(sizes) != 1:
        found = f", {min(sizes)} and {max(sizes)} among others" if sizes else ""
        raise ValueError(
            "`image_size` must be given, such as 64 or (64, 64), since the images of "
            f"{builder.name!r} differ in size{found}. Received: image_size=None"
        )
    return tfds.features.Image(shape=(*sizes.pop(), feature.shape[-1]), dtype=feature.dtype)


def _encoded_size(encoded):
    """Height and width, int32, of a JPEG or PNG image from its header."""

    def png_size():
        # Bytes 16 to 23 of a PNG file are width and height, big-endian.
        size = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        return tf.ensure_shape(size[::-1], [2])

    return tf.cond(tf.io.is_jpeg(encoded), lambda: tf.io.extract_jpeg_shape(encoded)[:2], png_size)
