"""Datasets that carry their teacher's outputs."""

import contextlib
import json
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.data import epoch_order
from l2rkd_tf.teacher_cache import fingerprints, shards
from l2rkd_tf.teacher_cache.examples import InMemory, OnDisk
from l2rkd_tf.teacher_cache.inputs import with_outputs
from l2rkd_tf.teacher_cache.origin import inputs_from, origin_of
from l2rkd_tf.teacher_cache.source import Chunk, Source
from l2rkd_tf.utils.files import atomic_path, remove_abandoned
from l2rkd_tf.utils.outputs import tensor_or_dict
from l2rkd_tf.utils.types import PathLike
from l2rkd_tf.utils.validation import check_choice, check_flag, is_positive_integer

__all__ = ["cache_teacher"]

_SHARD_BYTES = 2**25
_MANIFEST = "complete.json"
_DTYPES = ("float32", "float16")
_FORMAT = "1"  # to change when earlier files can no longer be read


def cache_teacher(
    dataset: tf.data.Dataset,
    teacher: keras.Model,
    path: PathLike | None = None,
    *,
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
        teacher: Keras model with outputs of shape `(batch, ..., outputs)`, one or several by name.
            It runs in inference mode.
        path: Folder for this and other caches; `None` keeps the cache in memory.
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
            differ, `teacher` is not built or its outputs are not as above, or another argument is
            not as above.
        FloatingPointError: If teacher outputs are NaN or Inf in `dtype`.
        OSError: If a file cannot be written; earlier files remain.

    Example:
        >>> data = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4))).batch(2)
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> cached = cache_teacher(data, teacher, verbose=False)
        >>> cached.element_spec[0].teacher_outputs.shape[-1]
        3

    """
    _check_arguments(teacher, path, batch_size, dtype, compression, memory_bytes, fingerprint)
    epoch_order.check_seed(seed)
    check_flag("shuffle", shuffle)
    check_flag("verbose", verbose)
    source = Source(dataset)
    source.check_batches_for(teacher)
    with _from_the_beginning(dataset):
        known = source.fingerprint(verbose) if fingerprint is None else None
        runner = TeacherRunner(source, teacher, dtype, verbose)
        if path is None:
            examples, names = _in_memory(runner, known, shuffle)
        else:
            content = fingerprint or known, source.structure, fingerprints.hash_model(teacher)
            name = fingerprints.hash_parts(_FORMAT, *content, dtype, str(compression))
            folder = pathlib.Path(path) / name
            examples, names = _on_disk(folder, runner, known, compression, memory_bytes)
        batch_size = batch_size or source.batch_size()
    batches, cursor = examples.in_batches(batch_size, shuffle, seed)
    kind = inputs_from(origin_of(teacher))
    cached = epoch_order.prefetched(
        batches.map(lambda *rows: _as_element(source, rows, names, kind))
    )
    cached.cursor = cursor
    cached.num_examples = examples.number
    return cached


def _check_arguments(teacher, path, batch_size, dtype, compression, memory_bytes, fingerprint):
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise ValueError(
            "`teacher` must be a keras.Model that is built and trained. "
            f"Received: teacher={teacher!r}"
        )
    if path is not None and not (isinstance(path, (str, os.PathLike)) and str(path)):
        raise ValueError(f"`path` must be a folder, or None for memory. Received: path={path!r}")
    if batch_size is not None and not is_positive_integer(batch_size):
        raise ValueError(
            "`batch_size` must be a positive integer, or None for that of the dataset. Received: "
            f"batch_size={batch_size!r}"
        )
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


def _as_element(source, rows, names, kind):
    components, outputs = rows[: source.num_components], rows[source.num_components :]
    by_name = outputs[0] if names is None else dict(zip(names, outputs, strict=True))
    return with_outputs(source.as_element(components), by_name, kind)


@contextlib.contextmanager
def _from_the_beginning(dataset):
    """Lets passes of a dataset from `l2rkd_tf.data.load` start at batch 0; restores its cursor."""
    cursor = getattr(dataset, "cursor", None)
    if cursor is None:
        yield
        return
    batch = cursor.batch
    cursor.set_batch(0)
    try:
        yield
    finally:
        cursor.set_batch(batch)


def _in_memory(runner, known, shuffle):
    """All examples, and the names of several outputs."""
    parts = [runner.rows(chunk) for chunk, _ in runner.chunks(known)]
    rows = [np.concatenate(part) for part in zip(*parts, strict=True)]
    if shuffle:
        components = rows[: runner.source.num_components]
        # The order of a pass must not depend on that of the dataset, which may differ in a resumed
        # run or on another worker.
        order_of_rows = np.argsort(fingerprints.hash_examples(components), kind="stable")
        rows = [part[order_of_rows] for part in rows]
    return InMemory.of_arrays(rows), runner.names


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


class TeacherRunner:
    """Runs a teacher on the examples of a source.

    Args:
        source: `Source`.
        teacher: Keras model.
        dtype: Dtype of the stored outputs.
        verbose: Whether to show progress.

    Attributes:
        names: Names of the teacher's outputs, sorted; `None` for one, and before the first run.
    """

    def __init__(self, source: Source, teacher: keras.Model, dtype: str, verbose: bool) -> None:
        self.source = source
        self.dtype = dtype
        self.names: list[str] | None = None
        self._teacher = teacher
        self._run = tf.function(
            lambda inputs: teacher(inputs, training=False), reduce_retracing=True
        )
        self._progress = keras.utils.Progbar(None, verbose=int(verbose), unit_name="example")

    def chunks(self, known: str | None) -> Iterator[tuple[Chunk, str]]:
        """Chunks of one pass with their fingerprints; checks that they are the known examples.

        Args:
            known: Fingerprint of all examples, or `None`.
        """
        total = fingerprints.EMPTY
        for chunk in self.source.chunks(_SHARD_BYTES):
            fingerprint = chunk.fingerprint()
            yield chunk, fingerprint
            total = fingerprints.combine(total, fingerprint)
            self._progress.add(chunk.num_examples)
        if known not in (None, total):
            raise ValueError(
                "`dataset` must yield the same examples in every pass, in any order, since the "
                "teacher's outputs belong to them. Received: a dataset whose passes differ. Cache "
                "it before augmentation; regions replace augmentation."
            )

    def rows(self, chunk: Chunk) -> list[np.ndarray]:
        """Components of a chunk, and behind them the teacher's output, or each of several."""
        outputs = [self._outputs(batch) for batch in chunk.batches]
        return [*chunk.components, *(np.concatenate(parts) for parts in zip(*outputs, strict=True))]

    def component_specs(self) -> list[list[Any]]:
        """Shape and dtype of each component of an example, the teacher's outputs last."""
        rows = self.rows(Chunk([next(self.source.batches())]))
        return [[list(component.shape[1:]), component.dtype.name] for component in rows]

    def _outputs(self, batch):
        outputs = self._run(self.source.inputs(batch))
        outputs = tensor_or_dict("teacher", self._teacher, outputs)
        if not isinstance(outputs, dict):
            return [self._checked("The outputs", outputs, len(batch[0]))]
        self.names = sorted(outputs)
        return [
            self._checked(f"Values of the output {name!r}", outputs[name], len(batch[0]))
            for name in self.names
        ]

    def _checked(self, values, output, count):
        """An output of a batch in the stored dtype."""
        if output.shape.rank == 0 or len(output) != count:
            raise ValueError(
                "`teacher` must have outputs of shape (batch, ..., outputs). Received: an output "
                f"of shape {output.shape} for a batch of {count}"
            )
        output = np.asarray(tf.cast(output, self.dtype))
        if not np.isfinite(output).all():
            raise FloatingPointError(
                f"{values} of `teacher` are NaN or Inf in {self.dtype}. Check the teacher and "
                "its inputs; float32 holds larger numbers than float16."
            )
        return output
