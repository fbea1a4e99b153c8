"""Validates the arguments that the networks share."""

from typing import Any

from l2rkd_tf.utils.validation import check_flag, is_number, is_positive_integer

__all__ = ["check_dropout", "check_input_shape", "check_network", "check_positive_integer"]


def check_network(
    input_shape: Any,
    num_classes: object,
    synchronized: object,
    *,
    num_pools: int = 0,
    fixed_size: bool = False,
) -> None:
    """Checks the arguments of every standard architecture."""
    check_positive_integer("num_classes", num_classes)
    check_flag("synchronized", synchronized)
    check_input_shape(input_shape, num_pools)
    if fixed_size and None in input_shape:
        raise ValueError(
            "`input_shape` must have a height and a width, since channel shuffles reshape the "
            f"maps: pass (32, 32, 3), for example. Received: input_shape={input_shape!r}"
        )


def check_positive_integer(argument: str, value: object) -> None:
    """Checks a number of classes, convolutions and the like."""
    if not is_positive_integer(value):
        raise ValueError(f"`{argument}` must be a positive integer. Received: {argument}={value!r}")


def check_dropout(dropout: Any) -> None:
    """Checks a dropout rate."""
    if not is_number(dropout) or not 0 <= dropout < 1:
        raise ValueError(
            f"`dropout` must be a number from 0 to below 1. Received: dropout={dropout!r}"
        )


def check_input_shape(
    input_shape: Any, num_pools: int = 0, remedy: str = "pass larger images"
) -> None:
    """Checks the shape of an image, and that it is large enough for the pooling.

    Args:
        input_shape: `(height, width, channels)`; height and width may be None.
        num_pools: Number of 2x2 poolings, each of which halves the image.
        remedy: Advice in the message about an image that is too small.

    Raises:
        ValueError: If `input_shape` is not such a shape, or the image is too small.
    """
    try:
        height, width, channels = input_shape
        valid = is_positive_integer(channels) and all(
            size is None or is_positive_integer(size) for size in (height, width)
        )
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            "`input_shape` must be `(height, width, channels)`, such as (32, 32, 3). "
            f"Received: input_shape={input_shape!r}"
        )
    smallest = 2**num_pools
    if any(size is not None and size < smallest for size in (height, width)):
        raise ValueError(
            f"`input_shape` must have at least {smallest}x{smallest} pixels, since the image is "
            f"halved {num_pools} times: {remedy}. Received: input_shape={input_shape!r}"
        )
