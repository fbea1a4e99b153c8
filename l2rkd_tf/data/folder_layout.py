"""Which images a folder holds, and the class and split of each, only from the names."""

import collections
import hashlib
import os
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from l2rkd_tf.data import image_files

__all__ = ["Layout", "drawn", "is_split_name", "read_layout"]

_SPLIT_NAMES = {
    "train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing",
}  # fmt: skip
_TRAIN_NAMES = {"train", "training"}
# Left by systems in folders and archives, besides names that start with a dot.
_HIDDEN = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


class Layout(NamedTuple):
    """The images of a folder, whose paths are relative to it."""

    splits: dict[str, dict[str, list[str]]]  # Of each split the images of each class, shuffled.
    class_names: list[str]  # In alphabetical order.
    ignored: list[str]  # Files that are not images, and images outside of a class.
    empty: list[str]  # Folders of classes without an image.
    has_splits: bool  # False if the splits were drawn.


def read_layout(root: str, split_seed: int) -> Layout:
    """Finds the images of a folder `root/split/class/...` or `root/class/...`.

    The folders in `root` are splits if one that is named as a split, such as `train`, has most of
    its images in folders, or if all images are in folders of theirs. Otherwise they are classes,
    and each is divided into `train`, `validation` and `test` (80, 10 and 10 %, at least one image
    each where there are three); `all` holds everything. What is drawn depends only on `split_seed`
    and the names of the files.

    Args:
        root: Path of the folder.
        split_seed: Integer that decides the splits of `root/class/...`, and all orders.

    Returns:
        The `Layout`.
    """
    paths = [os.path.relpath(path, root) for path in _files(root)]
    images = [path for path in paths if image_files.is_image(path)]
    has_splits = _has_splits(images)
    depth = 2 if has_splits else 1
    found: dict[str, dict[str, list[str]]] = {}
    for path in images:
        parts = path.split(os.sep)
        if len(parts) > depth:
            split = parts[0] if has_splits else "all"
            found.setdefault(split, {}).setdefault(parts[depth - 1], []).append(path)
    for classes in found.values():
        for name, members in classes.items():
            classes[name] = sorted(members, key=lambda path: drawn(path, split_seed))
    outside = {path for path in images if path.count(os.sep) < depth}
    return Layout(
        splits=found if has_splits else _divided(found),
        class_names=_class_names(found),
        ignored=[path for path in paths if path in outside or not image_files.is_image(path)],
        empty=_empty_folders(root, list(found) if has_splits else [""], images),
        has_splits=has_splits,
    )


def is_split_name(name: str) -> bool:
    """Whether folders of this name are usually splits."""
    return name.lower() in _SPLIT_NAMES


def drawn(path: str, seed: int) -> bytes:
    """A random number of a file: a function of the seed and its relative path on any platform."""
    name = unicodedata.normalize("NFC", path.replace(os.sep, "/"))
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest()


def _files(directory: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Paths of all files that are not hidden, also through links, but never in circles."""
    place = os.path.realpath(directory)
    if place in above:
        return
    for name in _visible(directory):
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            yield from _files(path, (*above, place))
        else:
            yield path


def _visible(directory):
    names = sorted(os.listdir(directory))
    return [name for name in names if name[0] != "." and name.lower() not in _HIDDEN]


def _has_splits(images):
    """Whether the first level of folders are splits and not classes."""
    depths = collections.defaultdict(list)
    for path in images:
        first, *others = path.split(os.sep)
        if others:
            depths[first].append(len(others))
    # A stray image among the folders of classes does not make a class of a split.
    holds_classes = any(
        2 * found.count(1) < len(found) for name, found in depths.items() if is_split_name(name)
    )
    return holds_classes or all(1 not in found for found in depths.values())


def _class_names(splits):
    """Classes of the training split; of all splits if none is named as one."""
    train = [classes for split, classes in splits.items() if split.lower() in _TRAIN_NAMES]
    return sorted(set().union(*(train or splits.values())))


def _divided(found):
    """The splits of a folder without splits."""
    splits = {name: {} for name in ("train", "validation", "test", "all")}
    for name, members in found.get("all", {}).items():
        tenth = max(1, round(len(members) / 10))
        num_test = tenth if len(members) > 1 else 0
        num_held_out = num_test + (tenth if len(members) > 2 else 0)
        parts = {
            "train": members[num_held_out:],
            "validation": members[num_test:num_held_out],
            "test": members[:num_test],
            "all": members,
        }
        for split, part in parts.items():
            if part:
                splits[split][name] = part
    return {split: classes for split, classes in splits.items() if classes}


def _empty_folders(root, parents, images):
    """Folders of classes, relative to the root, that hold no image."""
    used = {os.path.join(*path.split(os.sep)[:depth]) for path in images for depth in (1, 2)}
    folders = [
        os.path.join(parent, name)
        for parent in parents
        for name in _visible(os.path.join(root, parent))
        if os.path.isdir(os.path.join(root, parent, name))
    ]
    return [folder for folder in folders if folder not in used]
