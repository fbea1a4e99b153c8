"""Datasets that carry their teacher's outputs."""

import json
import os
import pathlib
import warnings
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints, shards
from l2rkd_tf.teacher_cache.datasets import as_dataset, check_order, in_memory
from l2rkd_tf.teacher_cache.examples import InMemory, OnDisk
from l2rkd_tf.teacher_cache.origin import inputs_from, origin_of
from l2rkd_tf.teacher_cache.runner import TeacherRunner
from l2rkd_tf.teacher_cache.source import Source
from l2rkd_tf.teachers import as_teacher
from l2rkd_tf.teachers.callable_teacher import callable_teachers
from l2rkd_tf.utils.files import atomic_path, remove_abandoned
from l2rkd_tf.utils.model_checks import check_kind
from l2rkd_tf.utils.types import PathLike, TeacherPreprocessing
from l2rkd_tf.utils.validation import check_choice, check_flag, is_positive_integer

__all__ = ["Cache", "cache_teacher", "cached_examples"]

_MANIFEST = "complete.json"
_DTYPES = ("float32", "float16")
_FORMAT = "1"  # to change when earlier files can no longer be read


def cache_teacher(
    dataset: tf.data.Dataset,
    teacher: keras.layers.Layer,
    path: PathLike | None = None,
    *,
    teacher_preprocessing: TeacherPreprocessing | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    dtype: Literal["float32", "float16"] = "float32",
    compression: Literal["GZIP"] | None = None,
    memory_bytes: int = 2**30,
    fingerprint: str | None = None,
    verbose: bool = True,
) -> tf.data.Dataset:
    """Precomputes teacher outputs; returns a dataset that carries them.

    The inputs of the returned dataset, for `L2RKDDistiller.fit`, are `CachedInputs`: the inputs and
    the teacher's outputs, a dict by name if there are several. Distillation on the training
    examples then never runs the teacher. With `region_targets="interpolated"`, training never runs
    it at all, and the distiller can be created with `teacher=None`. The dataset, and any dataset
    made from it (by `repeat`, for instance), remembers its teacher: `fit` rejects it if the
    distiller has a different teacher, or if it holds probabilities and the distiller expects
    logits.

    With a `path`, examples and outputs are stored in a folder whose name is a hash of the teacher
    (architecture and weights), the examples (in any order) and the options: other weights or other
    examples are computed again. An interrupted build resumes if the dataset yields its examples in
    the same order again, and several processes may build at once. Files that are truncated or
    altered are reported in a warning and rebuilt.

    Regions replace augmentation: each teacher output belongs to one input, so data that are
    augmented differently in every pass are rejected.

    Args:
        dataset: `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)` of numbers,
            one pass long; inputs and labels may be structures. Infinite datasets are rejected where
            TensorFlow can tell (not for generators).
        teacher: Keras model with outputs of shape `(batch, ..., outputs)`, one or several by name;
            another Keras layer, such as `TFSMLayer`; or a `l2rkd_tf.CallableTeacher`. It runs in
            inference mode.
        path: Folder for this and other caches; `None` keeps the cache in memory.
        teacher_preprocessing: That of the distiller, which turns inputs into the teacher's.
        batch_size: Examples in a batch of the result; default: as in `dataset`. The last batch of a
            pass may be smaller.
        shuffle: Whether each pass has a new order, a function of `seed` and the number of the pass;
            otherwise every pass has the order in which the cache was built. Data that do not fit
            into `memory_bytes` are shuffled by files and within a buffer of that size.
        seed: Integer in `[0, 2**32)`.
        dtype: `"float32"` or `"float16"`: dtype of the stored teacher outputs.
        compression: `"GZIP"` for smaller files, or `None`.
        memory_bytes: A cache on disk is read into memory if it is not larger than this.
        fingerprint: A string that identifies the examples, such as a version of the data. By
            default the dataset is read an extra time, without the teacher, to compute it.
        verbose: Whether to show progress.

    Returns:
        A `tf.data.Dataset` of batches like those of `dataset`, with `CachedInputs` as inputs. It
        has the attributes `num_examples` and `cursor`, like that of `l2rkd_tf.data.load`.

    Raises:
        ValueError: If `dataset` is not a finite dataset of batches of numbers or two of its passes
            differ, `teacher` is not built or its outputs are not as above, it is a function without
            a `version` and `path` is given, or another argument is not as above.
        FloatingPointError: If teacher outputs are NaN or Inf in `dtype`.
        OSError: If a file cannot be written; earlier files remain.

    Example:
        >>> data = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4))).batch(2)
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> cached = cache_teacher(data, teacher, verbose=False)
        >>> cached.element_spec[0].teacher_outputs.shape[-1]
        3

    """
    cache = cached_examples(
        dataset, teacher, path, teacher_preprocessing, batch_size, shuffle, seed, dtype,
        compression, memory_bytes, fingerprint, verbose,
    )  # fmt: skip
    kind = inputs_from(origin_of(cache.runner.teacher))
    return as_dataset(
        cache.runner.source, cache.examples, cache.names, kind, cache.batch_size, shuffle, seed
    )


class Cache(NamedTuple):
    """Examples of a dataset with the outputs of a teacher.

    Attributes:
        examples: The examples.
        names: Names of several outputs of the teacher, or `None`.
        runner: Runs the teacher on the dataset.
        batch_size: Examples in a batch.
        folder: Folder of their files, or `None`.
    """

    examples: InMemory | OnDisk
    names: list[str] | None
    runner: TeacherRunner
    batch_size: int
    folder: pathlib.Path | None


def cached_examples(
    dataset: tf.data.Dataset,
    teacher: keras.layers.Layer,
    path: PathLike | None,
    teacher_preprocessing: TeacherPreprocessing | None,
    batch_size: int | None,
    shuffle: bool,
    seed: int,
    dtype: str,
    compression: str | None,
    memory_bytes: int,
    fingerprint: str | None,
    verbose: bool,
) -> Cache:
    """Runs a teacher on all examples, or reads the files of an earlier run; see `cache_teacher`."""
    check_order(batch_size, shuffle, seed)
    _check_arguments(path, dtype, compression, memory_bytes, fingerprint)
    check_flag("verbose", verbose)
    check_kind("teacher", teacher, keras.layers.Layer)
    source = Source(dataset)
    teacher = as_teacher(teacher, teacher_preprocessing, source.symbols())
    source.check_batches_for(teacher)
    if path is not None:
        _check_is_known(teacher)
    folder = None
    with source.from_the_beginning():
        known = source.fingerprint(verbose) if fingerprint is None else None
        runner = TeacherRunner(source, teacher, dtype, verbose)
        if path is None:
            examples, names = _in_memory(runner, known, shuffle)
        else:
            content = fingerprint or known, source.structure, fingerprints.hash_model(teacher)
            name = fingerprints.hash_parts(_FORMAT, *content, dtype, str(compression))
            folder = pathlib.Path(path) / name
            examples, names = _on_disk(folder, runner, known, compression, memory_bytes)
        return Cache(examples, names, runner, batch_size or source.batch_size(), folder)


def _check_arguments(path, dtype, compression, memory_bytes, fingerprint):
    if path is not None and not (isinstance(path, (str, os.PathLike)) and str(path)):
        raise ValueError(f"`path` must be a folder, or None for memory. Received: path={path!r}")
    if dtype not in _DTYPES:
        raise ValueError(f"`dtype` must be one of {_DTYPES}. Received: dtype={dtype!r}")
    check_choice("compression", compression, (None, "GZIP"))
    if not is_positive_integer(memory_bytes):
        raise ValueError(
            "`memory_bytes` must be a positive number of bytes. "
            f"Received: memory_bytes={memory_bytes!r}"
        )
    if fingerprint is not None and not (isinstance(fingerprint, str) and fingerprint):
        raise ValueError(
            "`fingerprint` must be a string that identifies the examples, or None. Received: "
            f"fingerprint={fingerprint!r}"
        )


def _check_is_known(teacher):
    """Checks that files of a teacher can be told from those of others."""
    for one in callable_teachers(teacher):
        if one.version is None:
            raise ValueError(
                "`path` needs a teacher that can be told from others. Received: the function of "
                f"{one.name!r}. Use CallableTeacher(..., version='...'), with another string for "
                "each function, or path=None."
            )


def _in_memory(runner, known, shuffle):
    """All examples, and the names of several outputs."""
    parts = [runner.rows(chunk) for chunk, _ in runner.chunks(known)]
    rows = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return in_memory(runner.source, rows, shuffle), runner.names


def _on_disk(folder, runner, known, compression, memory_bytes):
    """The examples of a folder, first filled if not complete, and the names of several outputs."""
    remove_abandoned(folder)
    manifest = _complete(folder)
    if manifest is None:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = _build(folder, runner, known, compression)
    specs = [tf.TensorSpec(*spec) for spec in manifest["components"]]
    paths = [str(folder / name) for name in manifest["shards"]]
    found = OnDisk(paths, manifest["num_examples"], specs, compression, memory_bytes)
    examples = found.in_memory() if found.num_bytes <= memory_bytes else found
    return examples, manifest.get("outputs")


def _complete(folder):
    """The manifest of a complete and intact folder; otherwise deletes it and returns `None`."""
    path = folder / _MANIFEST
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest = json.loads(content)
        content_is_intact = manifest.pop("digest") == fingerprints.hash_parts(manifest)
        damaged = [name for name in manifest["shards"] if not shards.is_intact(folder / name)]
    except (ValueError, KeyError, TypeError, AttributeError):
        content_is_intact, damaged = False, []
    if content_is_intact and not damaged:
        return manifest
    warnings.warn(
        f"Files of the teacher cache in {folder} are truncated, altered or missing, and are "
        f"rebuilt: {damaged or [_MANIFEST]}",
        stacklevel=4,
    )
    path.unlink(missing_ok=True)
    return None


def _build(folder, runner, known, compression):
    """Writes the missing shards, then the manifest, which it returns."""
    names, number = [], 0
    for chunk, fingerprint in runner.chunks(known):
        name = shards.find_shard(folder, len(names), fingerprint)
        if name is None:
            rows = runner.rows(chunk)
            name = shards.write_shard(folder, len(names), fingerprint, rows, compression)
        names.append(name)
        number += chunk.num_examples
    manifest = {
        "num_examples": number,
        "components": runner.component_specs(),
        "shards": names,
    }
    if runner.names is not None:
        manifest["outputs"] = runner.names
    manifest["digest"] = fingerprints.hash_parts(manifest)
    return _publish(manifest, folder)


def _publish(manifest, folder):
    """Writes a manifest; returns it, or that of another build that was faster."""
    path = folder / _MANIFEST
    # Two builds may have the examples in different orders: all readers must see the same one.
    with atomic_path(path, replace=False) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:  # another process found damage and rebuilds it
        return manifest
