"""How a batch carries teacher outputs."""

from typing import Any, NamedTuple

import keras

__all__ = [
    "CachedInputs",
    "CachedRegions",
    "CarriedPoints",
    "points_of",
    "split_inputs",
    "unpack_batch",
    "with_outputs",
    "without_outputs",
]


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


class CarriedPoints(NamedTuple):
    """Region points and the teacher's outputs at them.

    Attributes:
        points: Like the inputs of the batch, one for each example.
        outputs: The teacher's outputs at them, like those at the inputs.
    """

    points: Any
    outputs: Any


class CachedRegions(NamedTuple):
    """Inputs, one point in the region of each, and the teacher's outputs at both.

    The `x` of a batch from `cache_regions`; a dataset of your own may yield them too.

    Attributes:
        inputs: As in `CachedInputs`.
        teacher_outputs: As in `CachedInputs`.
        region_points: A point in the region of each input, of the same structure and shapes. Those
            of uint8 images are float32.
        region_outputs: The teacher's outputs at these points.

    Example:
        >>> x = CachedRegions(
        ...     inputs=np.zeros((8, 4)),
        ...     teacher_outputs=np.zeros((8, 3)),
        ...     region_points=np.ones((8, 4)),
        ...     region_outputs=np.ones((8, 3)),
        ... )
        >>> x.region_outputs.shape
        (8, 3)
    """

    inputs: Any
    teacher_outputs: Any
    region_points: Any
    region_outputs: Any
    origin = None  # type: ignore[misc]  # no field: see `inputs_from` in origin.py


def points_of(data: Any) -> CarriedPoints | None:
    """The region points that a batch, or its `x`, carries."""
    x = data if isinstance(data, CachedRegions) else keras.utils.unpack_x_y_sample_weight(data)[0]
    if not isinstance(x, CachedRegions):
        return None
    return CarriedPoints(x.region_points, x.region_outputs)


def unpack_batch(data: Any) -> tuple[Any, Any, Any, Any]:
    """Inputs, teacher outputs, labels and weights of a batch; `None` for those it does not carry.

    Raises:
        ValueError: If the batch is a bare `CachedInputs` or `CachedRegions`, itself a tuple.
    """
    if isinstance(data, (CachedInputs, CachedRegions)):
        name = type(data).__name__
        raise ValueError(
            f"`x` must be {name} within a tuple, since Keras takes a tuple for inputs, labels and "
            f"weights. Received: a bare {name}; pass `({name}(...),)`."
        )
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return *split_inputs(x), y, sample_weight


def split_inputs(x: Any) -> tuple[Any, Any]:
    """Inputs and the teacher's outputs, `None` for inputs without cached teacher outputs."""
    if isinstance(x, (CachedInputs, CachedRegions)):
        return x.inputs, x.teacher_outputs
    return x, None


def without_outputs(element: Any) -> tuple[Any, ...]:
    """An element of a dataset as the tuple of what it has of inputs, labels and weights.

    Args:
        element: `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`, or its spec, where `x` may carry
            the teacher's outputs.
    """
    if not isinstance(element, tuple) or isinstance(element, (CachedInputs, CachedRegions)):
        element = (element,)
    return (split_inputs(element[0])[0], *element[1:])


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
