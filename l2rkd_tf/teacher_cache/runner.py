"""Runs a teacher on the examples of a dataset."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.source import Chunk, Source
from l2rkd_tf.teachers.callable_teacher import errors_of_functions
from l2rkd_tf.utils.outputs import tensor_or_dict

__all__ = ["TeacherRunner"]

_SHARD_BYTES = 2**25


class TeacherRunner:
    """Runs a teacher on the examples of a source.

    Args:
        source: `Source`.
        teacher: Keras model.
        dtype: Dtype of the stored outputs.
        verbose: Whether to show progress.

    Attributes:
        source: As above.
        teacher: As above.
        names: Names of the teacher's outputs, sorted; `None` for one, and before the first run.
    """

    def __init__(self, source: Source, teacher: keras.Model, dtype: str, verbose: bool) -> None:
        self.source = source
        self.dtype = dtype
        self.names: list[str] | None = None
        self.teacher = teacher
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
        outputs = [
            self.outputs_at(self.source.inputs(batch), len(batch[0])) for batch in chunk.batches
        ]
        return [*chunk.components, *(np.concatenate(parts) for parts in zip(*outputs, strict=True))]

    def component_specs(self) -> list[list[Any]]:
        """Shape and dtype of each component of an example, the teacher's outputs last."""
        rows = self.rows(Chunk([next(self.source.batches())]))
        return [[list(component.shape[1:]), component.dtype.name] for component in rows]

    def outputs_at(self, inputs: Any, count: int) -> list[np.ndarray]:
        """The teacher's output for inputs, or each of several, in the stored dtype.

        Args:
            inputs: Inputs of a batch.
            count: Number of them.
        """
        with errors_of_functions(self.teacher):
            outputs = self._run(inputs)
        outputs = tensor_or_dict("teacher", self.teacher, outputs)
        if not isinstance(outputs, dict):
            return [self._checked("The outputs", outputs, count)]
        self.names = sorted(outputs)
        return [
            self._checked(f"Values of the output {name!r}", outputs[name], count)
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
