"""Folders of images as a source of examples."""

import concurrent.futures
import functools
import os
import re
import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from l2rkd_tf.data import folder_layout, image_files
from l2rkd_tf.data.source import Source, require_size, resized

__all__ = ["LAYOUTS", "open_folder"]

_SHOWN = 10  # files that a message lists
LAYOUTS = "`root/split/class/*.jpg` or `root/class/*.jpg`"
_SLICE = re.compile(r"(?P<name>.+?)\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\]")


def open_folder(
    root: str,
    split: str,
    *,
    image_size: tuple[int, int] | None = None,
    split_seed: int = 0,
    on_error: str = "raise",
) -> Source:
    """Opens one split of a folder of images, and checks that all its files can be decoded.

    Args:
        root: Path of a folder `root/split/class/...` or `root/class/...`: see `folder_layout`.
        split: Name of a split, a slice such as `"train[:80%]"`, or several joined by `+`.
        image_size: `(height, width)` that `Source.decode` resizes images to, or None.
        split_seed: Integer that decides the splits of `root/class/...`, and all orders.
        on_error: Whether broken files `"raise"` an error or are left out (`"skip"`).

    Returns:
        The `Source`. Its images have 1 channel if all files of the folder are stored as grey, in
        whichever split they are, and 3 otherwise.

    Raises:
        ValueError: If there are no images or no such split, files are broken and `on_error` is
            `"raise"` or no others are left, a class is not in the training split, or the images
            differ in size and `image_size` is None.
    """
    layout = folder_layout.read_layout(root, split_seed)
    _tell_ignored(root, layout)
    chosen = _choose(root, layout, split, split_seed)
    found = _check([path for path, _ in chosen])
    broken = {path: file.reason for path, file in found.items() if file.reason}
    if len(broken) == len(found) or (broken and on_error == "raise"):
        raise _broken_files(root, _check(_paths(root, layout)))
    if broken:
        warnings.warn(f"Left out of {root!r}: {_reasons(found)}", stacklevel=4)
    paths, labels = zip(*(pair for pair in chosen if pair[0] not in broken), strict=True)
    if split in layout.splits:
        _warn_of_missing(root, split, layout.class_names, labels)
    sizes = {file.size for file in found.values() if file.size}
    if image_size is None and len(sizes) > 1:
        raise require_size(root, sizes)
    shape = (*(image_size or sizes.pop()), _num_channels(root, layout))
    encoded = tf.constant([os.fsencode(path) for path in paths])
    return Source(
        examples=tf.data.Dataset.from_tensor_slices((encoded, np.array(labels, np.int64))),
        decode=_decoder(shape, image_size),
        input_spec=tf.TensorSpec(shape, tf.uint8),
        class_names=layout.class_names,
        num_examples=len(paths),
        skipped=broken,
    )


# Choosing files.


def _choose(root, layout, split, seed):
    """Paths and labels of the examples of a split, its slices or their sum, in a fixed order."""
    if not any(layout.splits.values()):
        raise ValueError(
            f"`name` must be a folder of images, {LAYOUTS}. Received: name={root!r}, which holds "
            f"{_counted(layout.ignored) if layout.ignored else 'no files'}"
        )
    parts = [split] if split in layout.splits else re.split(r"\s*\+\s*", split)
    chosen = [example for part in parts for example in _part(root, layout, part, seed)]
    if not chosen:
        raise ValueError(
            f"`split` must hold at least one example of {root!r}. Received: split={split!r}, "
            "which is empty"
        )
    return chosen


def _part(root, layout, part, seed):
    """Paths and labels of the examples of a split or of a slice of one."""
    match = None if part in layout.splits else _SLICE.fullmatch(part)
    name = match["name"] if match else part
    if name not in layout.splits:
        raise _unknown_split(root, layout, part)
    examples = _spread(root, layout, name, seed)
    bounds = match.group("start", "stop") if match else (None, None)
    return examples[slice(*(_position(root, bound, len(examples), part) for bound in bounds))]


def _unknown_split(root, layout, split):
    names = sorted(layout.splits)
    largest = max(names, key=lambda name: sum(map(len, layout.splits[name].values())))
    if not layout.has_splits:
        advice = " Its folders are classes, so it has the splits that are drawn by seed."
    elif not any(map(folder_layout.is_split_name, names)):
        advice = (
            " They are its folders, which were taken for splits since they hold folders of images; "
            "if they are classes, move the images into them."
        )
    else:
        advice = ""
    return ValueError(
        f"`split` must be one of the splits of {root!r}, which are {names}, or a slice of one, "
        f"such as '{largest}[:80%]'.{advice} Received: split={split!r}"
    )


def _position(root, bound, length, split):
    """The position that one end of a slice stands for, as in TensorFlow Datasets."""
    if bound is None:
        return None
    limit = 100 if bound.endswith("%") else length
    number = int(bound.removesuffix("%"))
    if abs(number) > limit:
        raise ValueError(
            f"`split` must be a slice within the {length} examples, or 100 %, of a split of "
            f"{root!r}. Received: split={split!r}"
        )
    return round(number * length / 100) if bound.endswith("%") else number


def _spread(root, layout, split, seed):
    """Paths and labels of a split, ordered so that any slice has about the same classes."""
    classes = layout.splits[split]
    unknown = sorted(set(classes) - set(layout.class_names))
    if unknown:
        raise ValueError(
            f"`split` must have no classes that the training split lacks. Received: "
            f"split={split!r} of {root!r}, with the further classes {unknown[:_SHOWN]}"
        )
    placed = [
        ((index + 0.5) / len(classes[name]), folder_layout.drawn(path, seed), path, label)
        for label, name in enumerate(layout.class_names)
        for index, path in enumerate(classes.get(name, ()))
    ]
    return [(os.path.join(root, path), label) for *_, path, label in sorted(placed)]


# Reading files.


def _concurrently(function, paths):
    """Results of a function by path; Pillow decodes outside of Python's lock."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(function, paths), strict=True))


def _check(paths):
    return _concurrently(image_files.check, paths)


def _paths(root, layout):
    """All images of a folder."""
    classes = [members for split in layout.splits.values() for members in split.values()]
    return sorted({os.path.join(root, path) for members in classes for path in members})


def _num_channels(root, layout):
    found = _concurrently(image_files.stored_channels, _paths(root, layout))
    return max(filter(None, found.values()))


def _decoder(shape, image_size):
    """A function from the path of a file to its image."""

    def read(path):
        path = os.fsdecode(path)
        try:
            return image_files.read(path, shape[-1])
        except ValueError as error:
            raise ValueError(f"{path} {error}, but could be when the dataset was loaded") from error

    def decode(path):
        image = tf.numpy_function(read, [path], tf.uint8)
        stored = tf.ensure_shape(image, (None, None, shape[-1]) if image_size else shape)
        return resized(stored, image_size)

    return decode


# What users are told.


def _broken_files(root, found):
    return ValueError(
        "`name` must be a folder of images that can be decoded. Mend or remove those that cannot, "
        "or set `on_error` to 'skip' to use the others. "
        f"Received: name={root!r}, in which {_reasons(found)}"
    )


def _reasons(found):
    """What is wrong with the broken ones of some files."""
    reasons = [f"{path} {file.reason}" for path, file in sorted(found.items()) if file.reason]
    shown = reasons[:_SHOWN]
    if len(reasons) > _SHOWN:
        shown.append(f"and {len(reasons) - _SHOWN} more")
    return f"{len(reasons)} of {len(found)} files are broken:\n  " + ";\n  ".join(shown)


def _warn_of_missing(root, split, class_names, labels):
    present = set(labels)
    missing = [name for label, name in enumerate(class_names) if label not in present]
    if missing:
        warnings.warn(
            f"The split {split!r} of {root!r} has no images of {len(missing)} of "
            f"{len(class_names)} classes: {_listed(missing)}",
            stacklevel=5,
        )


def _tell_ignored(root, layout):
    if layout.ignored:
        _log_once(f"In {root!r}, these are not images in a folder of a class, and are ignored: "
                  f"{_counted(layout.ignored)}")  # fmt: skip
    if layout.empty:
        _log_once(
            f"In {root!r}, these folders hold no images, and are ignored: {_listed(layout.empty)}"
        )


@functools.lru_cache
def _log_once(message):
    """Training, validation and test split of a folder have the same to say."""
    logging.warning("%s", message)


def _counted(paths: Sequence[str]) -> str:
    return f"{len(paths)} {'file' if len(paths) == 1 else 'files'} ({_listed(paths)})"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
