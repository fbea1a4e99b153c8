"""How a batch carries teacher outputs."""

from typing import Any, NamedTuple

import keras

__all__ = ["CachedInputs", "split_inputs", "unpack_batch", "with_outputs"]


class CachedInputs(NamedTuple):
    """Inputs with the teacher's outputs for them: the `x` of a batch from `cache_teacher`.

    `L2RKDDistiller` accepts them wherever it accepts inputs. Your own dataset may also yield them,
    as `(x, y)` or `(x,)`.

    Attributes:
        inputs: Tensor of shape `(batch, ...)`, or a structure of such.
        teacher_outputs: The teacher's outputs for them, shape `(batch, ..., outputs)`: logits,
            if the distiller has `from_logits=True`. A dict by name of several outputs.

    Example:
        >>> x = CachedInputs(inputs=np.zeros((8, 4)), teacher_outputs=np.zeros((8, 3)))
        >>> x.teacher_outputs.shape
        (8, 3)
    """

    inputs: Any
    teacher_outputs: Any
    origin = None  # type: ignore[misc]  # no field: see `inputs_from` in origin.py


def unpack_batch(data: Any) -> tuple[Any, Any, Any, Any]:
    """Inputs, teacher outputs, labels and weights of a batch; `None` for those it does not carry.

    Raises:
        ValueError: If the batch is a bare `CachedInputs`: Keras takes a tuple of two for `(x, y)`.
    """
    if isinstance(data, CachedInputs):
        raise ValueError(
            "`x` must be CachedInputs within a tuple, since Keras takes a tuple of two for inputs "
            "and labels. Received: a bare CachedInputs; pass `(CachedInputs(...),)`."
        )
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return *split_inputs(x), y, sample_weight


def split_inputs(x: Any) -> tuple[Any, Any]:
    """Inputs and the teacher's outputs, `None` for inputs without cached teacher outputs."""
    return tuple(x) if isinstance(x, CachedInputs) else (x, None)


def with_outputs(element: Any, outputs: Any, kind: Any = CachedInputs) -> tuple[Any, ...]:
    """An element of a dataset, `x`, `(x, y)` or `(x, y, sample_weight)`, with outputs for `x`.

    Args:
        element: The element.
        outputs: The teacher's outputs for `x`.
        kind: `CachedInputs`, or a type of these that knows its teacher.

    Returns:
        The same element with an object of that type for `x`.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    return keras.utils.pack_x_y_sample_weight(kind(x, outputs), y, sample_weight)
