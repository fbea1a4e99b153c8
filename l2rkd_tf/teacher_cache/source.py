"""The examples of a cache, as read from a dataset."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.inputs import CachedInputs, CachedRegions

__all__ = ["Chunk", "Source"]

# What `tf.io.decode_raw` reads.
_DTYPES = (
    *(tf.bool, tf.uint8, tf.uint16, tf.int8, tf.int16, tf.int32, tf.int64),
    *(tf.float16, tf.bfloat16, tf.float32, tf.float64),
)


class Chunk:
    """Consecutive batches.

    Args:
        batches: List of batches, each a list of NumPy arrays with a row for each example.
    """

    def __init__(self, batches: list[list[np.ndarray]]) -> None:
        self.batches = batches

    @property
    def components(self) -> list[np.ndarray]:
        """NumPy arrays with a row for each example of all batches."""
        return [np.concatenate(parts) for parts in zip(*self.batches, strict=True)]

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return sum(len(batch[0]) for batch in self.batches)

    def fingerprint(self) -> str:
        """Fingerprint of the examples."""
        return fingerprints.hash_batch(self.components)


class Source:
    """A dataset of batches, read as NumPy arrays in the order of `tf.nest.flatten`.

    Args:
        dataset: `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ValueError: If `dataset` is not a finite dataset of batches of dense numeric tensors, or its
            inputs are already `CachedInputs`.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        if not isinstance(dataset, tf.data.Dataset):
            raise ValueError(
                "`dataset` must be a tf.data.Dataset of batches, such as "
                "tf.data.Dataset.from_tensor_slices((x, y)).batch(32). "
                f"Received: dataset={dataset!r}"
            )
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`dataset` must end after one pass through the examples. Received: an infinite "
                "dataset; leave out `repeat()`, and pass `steps_per_epoch` to `fit` with the "
                "cached data's own `repeat()`."
            )
        inputs = self._inputs_of(dataset.element_spec)
        if isinstance(inputs, (CachedInputs, CachedRegions)):
            raise ValueError(
                "`dataset` must yield plain inputs. Received: a dataset whose inputs are already "
                f"{type(inputs).__name__}."
            )
        self._dataset = dataset
        self._largest = 0
        self._specs = tf.nest.flatten(dataset.element_spec)
        self._check_specs()

    def _check_specs(self):
        for spec in self._specs:
            if not isinstance(spec, tf.TensorSpec) or spec.dtype not in _DTYPES:
                raise ValueError(
                    "`dataset` must yield dense tensors of numbers, of a dtype among "
                    f"{[dtype.name for dtype in _DTYPES]}. Received: elements of "
                    f"{self._dataset.element_spec}"
                )
            if spec.shape.rank == 0:
                raise ValueError(self._must_give_batches())

    def _must_give_batches(self):
        return (
            f"`dataset` must yield batches. Received: elements of {self._dataset.element_spec}; "
            "add `.batch(32)`."
        )

    def check_batches_for(self, teacher: keras.Model) -> None:
        """Checks that inputs are batches, not single examples, if the teacher's inputs are known.

        Args:
            teacher: Keras model.

        Raises:
            ValueError: If they are single examples.
        """
        symbols = keras.tree.flatten(getattr(teacher, "inputs", None))
        specs = tf.nest.flatten(self._inputs_of(self._dataset.element_spec))
        single = [tuple(symbol.shape[1:]) for symbol in symbols if symbol is not None]
        if [spec.shape for spec in specs] == single:
            raise ValueError(self._must_give_batches())

    def symbols(self) -> Any:
        """Symbolic inputs of a teacher, in the structure of the dataset's inputs."""
        numbers = itertools.count()

        def symbol(spec):
            dtype = "float32" if spec.dtype == tf.uint8 else spec.dtype.name
            shape = (None, *spec.shape[1:])
            return keras.KerasTensor(shape, dtype, name=f"input_{next(numbers)}")

        return tf.nest.map_structure(symbol, self._inputs_of(self._dataset.element_spec))

    @contextlib.contextmanager
    def from_the_beginning(self) -> Iterator[None]:
        """Lets passes of data from `l2rkd_tf.data.load` start at batch 0; restores their cursor."""
        cursor = getattr(self._dataset, "cursor", None)
        if cursor is None:
            yield
            return
        batch = cursor.batch
        cursor.set_batch(0)
        try:
            yield
        finally:
            cursor.set_batch(batch)

    @property
    def structure(self) -> str:
        """Structure and dtypes of an element, a string."""
        return repr(tf.nest.map_structure(lambda spec: spec.dtype.name, self._dataset.element_spec))

    @property
    def num_components(self) -> int:
        """Number of components of a batch."""
        return len(self._specs)

    def batch_size(self) -> int:
        """Number of examples in the largest batch that was read, or else in the first."""
        if not self._largest:
            next(self.batches())
        return self._largest

    def as_element(self, components: Sequence[Any]) -> Any:
        """Components of a batch, or of an example, in the dataset's structure."""
        return tf.nest.pack_sequence_as(self._dataset.element_spec, components)

    def inputs(self, components: Sequence[Any]) -> Any:
        """Inputs among the components of a batch, as a distiller passes them to a teacher."""
        inputs = self._inputs_of(self.as_element(components))
        return tf.nest.map_structure(
            lambda array: array.astype("float32") if array.dtype == np.uint8 else array, inputs
        )

    @staticmethod
    def _inputs_of(element):
        if isinstance(element, (CachedInputs, CachedRegions)):
            return element
        return keras.utils.unpack_x_y_sample_weight(element)[0]

    def batches(self) -> Iterator[list[np.ndarray]]:
        """Batches of one pass, each a list of NumPy arrays.

        Raises:
            ValueError: If there are none, or examples differ in shape.
        """
        shapes = None
        for element in self._dataset.as_numpy_iterator():
            batch = [np.asarray(component) for component in tf.nest.flatten(element)]
            shapes = shapes or [component.shape[1:] for component in batch]
            if shapes != [component.shape[1:] for component in batch]:
                raise ValueError(
                    "`dataset` must yield examples of one shape. Received: examples of shapes "
                    f"{shapes} and of {[component.shape[1:] for component in batch]}"
                )
            if len({len(component) for component in batch}) > 1:
                raise ValueError(
                    "`dataset` must yield batches with a row for each example. Received: "
                    f"components of shapes {[component.shape for component in batch]}"
                )
            if len(batch[0]):
                self._largest = max(self._largest, len(batch[0]))
                yield batch
        if not self._largest:
            raise ValueError("`dataset` must hold examples. Received: an empty dataset.")

    def chunks(self, num_bytes: int) -> Iterator[Chunk]:
        """`Chunk`s of one pass, each of about `num_bytes`, at least one batch."""
        batches, size = [], 0
        for batch in self.batches():
            batches.append(batch)
            size += sum(component.nbytes for component in batch)
            if size >= num_bytes:
                yield Chunk(batches)
                batches, size = [], 0
        if batches:
            yield Chunk(batches)

    def fingerprint(self, verbose: bool) -> str:
        """Fingerprint of all examples, in one pass."""
        progress = keras.utils.Progbar(None, verbose=int(verbose), unit_name="fingerprint")
        total = fingerprints.EMPTY
        for batch in self.batches():
            total = fingerprints.combine(total, fingerprints.hash_batch(batch))
            progress.add(len(batch[0]))
        return total
