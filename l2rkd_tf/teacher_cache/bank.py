"""Datasets that carry points in the region of each example, and the teacher's outputs at them."""

import functools
import time
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf import regions
from l2rkd_tf.data import epoch_order
from l2rkd_tf.regions import LinearRegion, Region, default_region
from l2rkd_tf.regions.points import draw_points
from l2rkd_tf.teacher_cache import fingerprints, shards
from l2rkd_tf.teacher_cache.caching import Cache, cached_examples
from l2rkd_tf.teacher_cache.datasets import by_name, finished
from l2rkd_tf.teacher_cache.examples import InMemory
from l2rkd_tf.teacher_cache.inputs import CachedRegions
from l2rkd_tf.teacher_cache.origin import inputs_from, origin_of, region_text
from l2rkd_tf.utils.files import publish, scratch_path
from l2rkd_tf.utils.model_checks import data_format_of, takes_integers
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import Config, PathLike, TeacherPreprocessing
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["cache_regions"]

_FORMAT = "1"  # to change when earlier files can no longer be read
_DRAWS = 0x9E3779B9  # sets the draws of a bank apart from those of a training run of its seed


def cache_regions(
    dataset: tf.data.Dataset,
    teacher: keras.layers.Layer,
    region: Region | str | Config | None = None,
    points_per_example: int = 100,
    path: PathLike | None = None,
    *,
    teacher_preprocessing: TeacherPreprocessing | None = None,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    dtype: Literal["float32", "float16"] = "float32",
    memory_bytes: int = 2**30,
    fingerprint: str | None = None,
    verbose: bool = True,
) -> tf.data.Dataset:
    """Runs a teacher once, at several points in the region of each example, for all of training.

    The inputs of the returned dataset, for `L2RKDDistiller.fit`, are `CachedRegions`: the examples,
    a point in the region of each, and the teacher's outputs at both. A step then never runs the
    teacher, and the distiller can be created with `teacher=None`. With `points_per_example=k`, the
    passes 1 to `k` each have batches and points of their own; then the first pass comes again. In
    contrast to `region_targets="interpolated"`, the outputs are the teacher's own.

    Points are drawn again by seed when they are needed; only the teacher's outputs are stored:
    `k` times the examples, times the outputs. Before the teacher runs, their size and an estimate
    of the time are printed. With a `path`, the outputs of each pass are a file: an interrupted
    build resumes with the first pass that is missing, and files that are altered are made again.
    Another teacher, region, seed, batch size or other examples have files of their own.

    The distiller needs the same `region`, `num_region_points=1`, or `replace_fraction`, and no
    `region_at`. Methods that compare inner features run the teacher at these points.

    Args:
        dataset: As in `cache_teacher`.
        teacher: As in `cache_teacher`.
        region: As in `L2RKDDistiller`; not one that runs the teacher, such as `LinearRegion`.
        points_per_example: Number `k` of points in the region of each example.
        path: As in `cache_teacher`; its folder holds the teacher's outputs also at the examples.
        teacher_preprocessing: As in `cache_teacher`.
        batch_size: As in `cache_teacher`: partners come from the same batch.
        shuffle: As in `cache_teacher`; otherwise all passes have the same batches.
        seed: As in `cache_teacher`: it decides orders and points.
        dtype: As in `cache_teacher`.
        memory_bytes: The examples must not be larger than this. Outputs that are larger are read
            from their files, others are held in memory.
        fingerprint: As in `cache_teacher`.
        verbose: Whether to show size, time and progress.

    Returns:
        A `tf.data.Dataset` of batches like those of `dataset`, with `CachedRegions` as inputs, and
        with the attributes `num_examples` and `cursor`.

    Raises:
        ValueError: As `cache_teacher`; or if `region` runs the teacher, `points_per_example` is not
            a positive integer, or examples do not fit into `memory_bytes`.
        FloatingPointError: If teacher outputs are NaN or Inf in `dtype`.
        OSError: If a file cannot be written; earlier files remain.

    Example:
        >>> data = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4))).batch(2)
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> bank = cache_regions(data, teacher, points_per_example=5, verbose=False)
        >>> bank.element_spec[0].region_outputs.shape[-1]
        3
    """
    if not is_positive_integer(points_per_example):
        raise ValueError(
            "`points_per_example` must be a positive integer. Received: "
            f"points_per_example={points_per_example!r}"
        )
    cache = cached_examples(
        dataset, teacher, path, teacher_preprocessing, batch_size, shuffle, seed, dtype, None,
        memory_bytes, fingerprint, verbose,
    )  # fmt: skip
    if not isinstance(cache.examples, InMemory):
        raise ValueError(
            "`memory_bytes` must be enough for the examples of a bank of region points. Received: "
            f"memory_bytes={memory_bytes}. Pass more, or use cache_teacher."
        )
    bank = _Bank(cache, region, points_per_example, shuffle, seed)
    return bank.dataset(bank.build(memory_bytes, verbose))


class _Bank:
    """Points in the regions of examples, and a teacher's outputs at them, by pass.

    The outputs of a pass are one array, with a row for each point in the order of the pass.
    """

    def __init__(
        self, cache: Cache, region: Any, num_passes: int, shuffle: bool, seed: int
    ) -> None:
        self._runner = cache.runner
        self._names = cache.names
        self._rows = cache.examples.rows  # type: ignore[union-attr]  # in memory
        self._num_components = cache.runner.source.num_components
        self._num_passes = num_passes
        self._seed = seed
        self._region = self._own(region)
        size = min(cache.batch_size, self._num_examples)
        self._batch_size = size
        self._batches, self.cursor = epoch_order.ordered_indices(
            self._num_examples, size, seed, shuffle, num_passes
        )
        self._folder = None
        if cache.folder is not None:
            examples = [np.asarray(row) for row in self._rows[: self._num_components]]
            order = fingerprints.hash_examples(examples)
            parts = region_text(self._region), seed, size, shuffle, *map(str, order)
            self._folder = cache.folder / f"regions-{fingerprints.hash_parts(_FORMAT, *parts)}"

    @property
    def _num_examples(self):
        return len(self._rows[0])

    def _own(self, region):
        """A region of these points, which nobody else changes."""
        data_format = data_format_of(self._runner.teacher)
        inputs, _ = self._inputs_and_labels(self._rows)
        if region is None:
            found = default_region(inputs, data_format, model=self._runner.teacher)
        else:
            found = regions.get(region)
        if _asks_teacher(found):
            raise ValueError(
                "`region` must not run the teacher, which a bank runs only beforehand. Received: "
                f"region={found!r}. Use regions.Segment(), say."
            )
        own = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
        own.set_data_format(data_format)
        return own

    def _inputs_and_labels(self, rows):
        element = self._runner.source.as_element(rows[: self._num_components])
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(element)
        return inputs, only_output(labels)

    def _points(self, place, rows):
        """The points of a batch, drawn again."""
        inputs, labels = self._inputs_and_labels(rows)
        seed = tf.constant([self._seed, _DRAWS], tf.uint32)
        for number in tf.unstack(tf.cast(place, tf.int32)):
            seed = tf.random.fold_in(seed, number, alg="philox")
        drawn = draw_points(self._region, inputs, tf.bitcast(seed, tf.int32), labels=labels)
        return drawn.of_inputs(inputs, takes_integers(self._runner.teacher))

    def _gather(self, indices):
        return [tf.gather(rows, indices) for rows in self._rows]

    @functools.cached_property
    def _all_points(self):
        """A dataset of the points of a pass, that at which the cursor stands."""

        def points(place, indices):
            return self._points(place, self._gather(indices))

        return self._batches.map(points, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    # The teacher's outputs.

    def build(self, memory_bytes: int, verbose: bool) -> Any:
        """The outputs of all passes, computed or read: one tensor, or arrays on disk."""
        width = sum(int(np.prod(row.shape[1:])) for row in self._outputs)
        size = self._num_passes * self._num_examples * width * self._outputs[0].dtype.size
        if self._folder is None and size > memory_bytes:
            raise ValueError(
                f"`path` must be given for outputs that do not fit into memory. Received: {size:,} "
                f"bytes of outputs, memory_bytes={memory_bytes} and path=None."
            )
        found = list(self._built_or_read(size, verbose))
        self.cursor.set_batch(0)
        if size > memory_bytes:
            return found
        with tf.device("CPU:0"):
            return tf.constant(np.stack(found))

    @property
    def _outputs(self):
        return self._rows[self._num_components :]

    def _built_or_read(self, size, verbose):
        """The outputs of each pass; announces the first that must be computed."""
        progress = None
        for number in range(self._num_passes):
            path = self._file(number)
            if path is None:
                progress = progress or self._announced(size, number, verbose)
                outputs = np.concatenate(list(self._run(number, progress)))
                path = self._file(number, outputs)
                if path is None:
                    yield outputs
                    continue
            yield np.load(path, mmap_mode="r")

    def _announced(self, size, first, verbose):
        missing = (self._num_passes - first) * self._num_examples
        if verbose:
            runs = self._run(first, None)
            next(runs)  # traces
            start = time.perf_counter()
            outputs = next(runs, None)
            if outputs is None:  # a single batch
                outputs = next(self._run(first, None))
            count = len(outputs)
            seconds = (time.perf_counter() - start) / count * missing
            print(
                f"Region points: {self._num_passes} for each of {self._num_examples:,} examples; "
                f"{size / 1e6:,.1f} MB of outputs; about {seconds:,.0f} s",
                flush=True,
            )
        return keras.utils.Progbar(missing, verbose=int(verbose), unit_name="point")

    def _run(self, number, progress):
        """The teacher's outputs at the points of a pass, batch by batch, a row for each point."""
        self.cursor.set_batch(number * -(-self._num_examples // self._batch_size))
        for points in self._all_points:
            count = len(keras.tree.flatten(points)[0])
            outputs = self._runner.outputs_at(points, count)
            if progress is not None:
                progress.add(count)
            yield np.concatenate([output.reshape(count, -1) for output in outputs], axis=1)

    def _file(self, number, outputs=None):
        """Path of the intact file of a pass, written first if outputs are given; or `None`."""
        if self._folder is None:
            return None
        if outputs is None:
            found = sorted(self._folder.glob(f"{number:05d}-*.npy"))
            return next((path for path in found if shards.is_intact(path)), None)
        self._folder.mkdir(parents=True, exist_ok=True)
        with scratch_path(self._folder / f"{number:05d}.npy") as temporary:
            np.save(temporary, outputs)
            path = self._folder / f"{number:05d}-{fingerprints.hash_file(temporary)}.npy"
            publish(temporary, path)
        return path

    # The dataset.

    def dataset(self, found: Any) -> tf.data.Dataset:
        """The dataset that `cache_regions` returns, from what `build` has returned."""
        kind = inputs_from(origin_of(self._runner.teacher, self._region), CachedRegions)

        def as_element(place, indices):
            rows = self._gather(indices)
            element = self._runner.source.as_element(rows[: self._num_components])
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
            outputs = by_name(self._names, rows[self._num_components :])
            at_points = self._read(found, place, tf.shape(indices)[0])
            x = kind(x, outputs, self._points(place, rows), by_name(self._names, at_points))
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

        batches = self._batches.map(as_element, num_parallel_calls=tf.data.AUTOTUNE)
        return finished(batches, self.cursor, self._num_examples)

    def _read(self, found, place, count):
        """The teacher's outputs at the points of a batch."""
        start = place[1] * self._batch_size
        if tf.is_tensor(found):
            rows = found[place[0], start : start + tf.cast(count, start.dtype)]
        else:
            rows = tf.numpy_function(
                lambda number, first, count: np.array(found[number][first : first + count]),
                [place[0], start, count],
                self._outputs[0].dtype,
            )
        shapes = [tuple(row.shape[1:]) for row in self._outputs]
        widths = [int(np.prod(shape)) for shape in shapes]
        rows = tf.ensure_shape(rows, (None, sum(widths)))
        parts = tf.split(rows, widths, axis=1)
        return [tf.reshape(part, (-1, *shape)) for part, shape in zip(parts, shapes, strict=True)]


def _asks_teacher(region):
    members = getattr(region, "regions", ())
    return isinstance(region, LinearRegion) or any(map(_asks_teacher, members))
