"""Datasets that carry teacher outputs which were computed elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.datasets import as_dataset, check_order, in_memory
from l2rkd_tf.teacher_cache.inputs import CachedInputs
from l2rkd_tf.teacher_cache.source import Source
from l2rkd_tf.utils.types import TensorLike

__all__ = ["from_outputs"]


def from_outputs(
    dataset: tf.data.Dataset,
    outputs: TensorLike | Mapping[str, TensorLike],
    *,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> tf.data.Dataset:
    """Lets a dataset carry teacher outputs that are there as arrays; returns the new dataset.

    For teachers that cannot be asked while the student is trained: outputs come from another
    framework, another machine or a file. Row `i` of the arrays belongs to example `i` of the
    dataset. `L2RKDDistiller(None, student, region_targets="interpolated")` trains on the result as
    on that of `cache_teacher`, with distillation at the examples and in regions.

    The dataset is read twice, into memory. That rows and examples are in the same order cannot be
    seen from them; but a dataset that is shuffled again in each pass has no order, and is refused.

    Args:
        dataset: `tf.data.Dataset` of batches `x`, `(x, y)` or `(x, y, sample_weight)` of numbers,
            one pass long, in the order of `outputs`; inputs and labels may be structures.
        outputs: Array of floating-point numbers of shape `(examples, ..., outputs)`: logits, if the
            distiller has `from_logits=True`. A dict of such by name for several outputs. float16
            stays as it is; other numbers become float32.
        batch_size: As in `cache_teacher`.
        shuffle: As in `cache_teacher`. It applies after outputs and examples are joined.
        seed: As in `cache_teacher`.

    Returns:
        A `tf.data.Dataset` like that of `cache_teacher`.

    Raises:
        ValueError: If `outputs` are not finite floating-point numbers with a row for each example;
            `dataset` is not a finite dataset of batches of numbers, or two of its passes differ in
            order; or another argument is not as above.

    Example:
        >>> data = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4) % 3)).batch(2)
        >>> cached = from_outputs(data, outputs=np.zeros((4, 3)))
        >>> cached.element_spec[0].teacher_outputs.shape[-1]
        3
    """
    check_order(batch_size, shuffle, seed)
    by_name = dict(outputs) if isinstance(outputs, Mapping) else {None: outputs}
    if not by_name:
        raise ValueError("`outputs` must hold at least one array. Received: an empty dict")
    arrays = [_checked(_words(name), array) for name, array in by_name.items()]
    source = Source(dataset)
    with source.from_the_beginning():
        batches = list(source.batches())
        components = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        _check_order_of(components, source)
    for name, array in zip(by_name, arrays, strict=True):
        if len(array) != len(components[0]):
            raise ValueError(
                f"{_words(name)} must have one row for each example of `dataset`. Received: "
                f"{len(array)} rows for {len(components[0])} examples"
            )
    examples = in_memory(source, [*components, *arrays], shuffle)
    names = list(outputs) if isinstance(outputs, Mapping) else None
    batch_size = batch_size or source.batch_size()
    return as_dataset(source, examples, names, CachedInputs, batch_size, shuffle, seed)


def _words(name):
    return "`outputs`" if name is None else f"`outputs[{name!r}]`"


def _checked(words: str, values: Any) -> np.ndarray:
    """Outputs as they are carried."""
    array = np.asarray(values)
    if array.dtype.kind != "f" or not array.ndim:
        raise ValueError(
            f"{words} must be an array of floating-point numbers, or a dict of such by name, with "
            f"a row for each example. Received: {array.dtype} of shape {array.shape}"
        )
    if array.dtype != np.float16:
        with np.errstate(over="ignore"):
            array = array.astype("float32")
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if len(rows):
        raise ValueError(
            f"{words} must be finite in {array.dtype}. Received: NaN or Inf in {len(rows)} rows, "
            f"the first of which is row {rows[0]}"
        )
    return array


def _check_order_of(components, source):
    """Checks that another pass has the same examples in the same order."""
    again = (number for batch in source.batches() for number in fingerprints.hash_examples(batch))
    if fingerprints.hash_examples(components) != list(again):
        raise ValueError(
            "`dataset` must yield the same examples in the same order in every pass, since rows of "
            "`outputs` belong to them. Received: a dataset whose passes differ. Leave out "
            "`shuffle` and augmentation, or `data.load(..., shuffle=False)`: the result is "
            "shuffled."
        )
