"""Finds datasets of tfds and folders of images by name, and opens them without decoding."""

import difflib
import os
import re

import tensorflow_datasets as tfds

from l2rkd_tf.data import digits, folders, glyph_scenes, glyphs, offline
from l2rkd_tf.data.source import Source, require_size, resized
from l2rkd_tf.utils.types import PathLike

__all__ = ["NotPreparedError", "find_dataset", "open_source", "open_split"]

_NO_DOWNLOAD = (digits.Digits, glyphs.Glyphs, glyph_scenes.GlyphScenes)


class NotPreparedError(ValueError):
    """A dataset of tfds that only a download brings."""


def open_source(
    name: PathLike,
    split: str,
    data_dir: PathLike | None,
    download: bool,
    *,
    image_size: tuple[int, int] | None,
    split_seed: int,
    on_error: str,
) -> Source:
    """Opens one split of a dataset by name: see `find_dataset`, `open_split` and `open_folder`."""
    found = find_dataset(name, data_dir, download)
    if isinstance(found, str):
        return folders.open_folder(
            found, split, image_size=image_size, split_seed=split_seed, on_error=on_error
        )
    return open_split(found, split, image_size)


def find_dataset(
    name: PathLike, data_dir: PathLike | None = None, download: bool = False
) -> tfds.core.DatasetBuilder | str:
    """Finds a dataset by its tfds name, and prepares it for reading, or else a folder of images.

    Args:
        name: Name in tfds, or an existing directory. A `pathlib.Path` is always a directory.
        data_dir: Directory of tfds's datasets. Default: that of tfds.
        download: Whether to download a dataset that is not prepared.

    Returns:
        A prepared `tfds.core.DatasetBuilder`, or the path of the directory.

    Raises:
        ValueError: If there is no such dataset.
        NotPreparedError: If it is not prepared and `download` is False.
    """
    directory = os.path.expanduser(name)
    if isinstance(name, os.PathLike):
        if not os.path.isdir(directory):
            raise ValueError(
                "`name` must be an existing directory of images when it is a path. "
                f"Received: name={name!r}"
            )
        return directory
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    # tfds raises an `AssertionError` for an unknown version.
    except (ValueError, AssertionError) as error:
        if os.path.isdir(directory):
            return directory
        raise ValueError(_unknown_name(name, error)) from error
    if isinstance(builder, _NO_DOWNLOAD):
        return offline.prepare_offline(builder)
    if not offline.is_prepared(builder):
        if not download:
            raise NotPreparedError(
                f"The dataset {name!r} is not prepared in {builder.data_dir}. Pass `download=True` "
                f"to download it, or the `data_dir` that contains it. Received: name={name!r}, "
                f"data_dir={data_dir!r}, download={download!r}"
            )
        builder.download_and_prepare()
    return builder


def open_split(
    builder: tfds.core.DatasetBuilder, split: str, image_size: tuple[int, int] | None = None
) -> Source:
    """Opens one split of a tfds dataset for reading, with its images still encoded.

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
    num_examples = _num_examples(builder, split)
    input_key, label_key = _supervised_keys(builder)
    input_feature, label_feature = (builder.info.features[key] for key in (input_key, label_key))
    encoded = isinstance(input_feature, tfds.features.Image)
    if image_size is not None and not encoded:
        raise ValueError(
            f"`image_size` is for images, and the dataset {builder.name!r} has none. Received: "
            f"image_size={image_size!r}"
        )
    # A large dataset is too much to read to find out whether its images do not differ after all.
    if encoded and image_size is None and None in input_feature.shape:
        raise require_size(builder.name)
    examples = builder.as_dataset(
        split=split,
        decoders={input_key: tfds.decode.SkipDecoding()} if encoded else None,
        read_config=tfds.ReadConfig(try_autocache=False, skip_prefetch=True),
    ).map(lambda example: (example[input_key], example[label_key]))

    def decode(inputs):
        return resized(input_feature.decode_example(inputs), image_size) if encoded else inputs

    return Source(
        examples=examples,
        decode=decode,
        input_spec=examples.map(lambda x, _: decode(x)).element_spec,
        class_names=_class_names(label_feature),
        num_examples=num_examples,
    )


def _unknown_name(name, error):
    base_name = re.split("[/:]", name)[0]
    known = tfds.list_builders(with_community_datasets=False)
    if base_name in known:
        # Without tfds's announcement of close matches, of which there may be none.
        reason = str(error).splitlines()[0].partition(" Here are ")[0]
        return f"The dataset {name!r} cannot be loaded by tfds: {reason}{_configs(base_name)}"
    here = [entry.name for entry in os.scandir() if entry.is_dir() and entry.name[0] != "."]
    matches = difflib.get_close_matches(base_name.lower(), [*here, *known])
    advice = f" Close matches: {matches}." if matches else ""
    return (
        "`name` must be a dataset in tfds, or an existing directory of images "
        f"{folders.LAYOUTS}. Received: name={name!r}, which is neither in tfds nor a "
        f"directory.{advice}"
    )


def _configs(base_name):
    """The configurations of a tfds dataset, as the end of a message."""
    names = list(tfds.builder_cls(base_name).builder_configs)
    return f" Configurations of {base_name!r}: {names}" if names else ""


def _num_examples(builder, split):
    splits = builder.info.splits
    try:
        num_examples = splits[split].num_examples
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
    return num_examples


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
