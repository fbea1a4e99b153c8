"""One split of a dataset, with images that are not decoded yet."""

import dataclasses
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf

__all__ = ["Source", "require_size", "resized"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """One split of a dataset, with images that are not decoded yet.

    Attributes:
        examples: `tf.data.Dataset` of pairs `(encoded input, label)`.
        decode: Function from an encoded input to the input.
        input_spec: `tf.TensorSpec` of a decoded input.
        class_names: List of strings; None if labels are not classes.
        num_examples: Number of examples.
        skipped: Reasons why files were left out, by their paths.
    """

    examples: tf.data.Dataset
    decode: Callable
    input_spec: tf.TensorSpec
    class_names: list | None
    num_examples: int
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def read_labels(self) -> np.ndarray:
        """Labels of all examples in their order, shape `(examples,)`; no image is decoded."""
        labels = self.examples.map(lambda _, label: label).batch(4096)
        return np.concatenate(list(labels.as_numpy_iterator()))


def resized(image: tf.Tensor, size: tuple[int, int] | None) -> tf.Tensor:
    """An image resized with antialiasing, of the same dtype.

    Args:
        image: Shape `(height, width, channels)`.
        size: New height and width. None: the image as it is.
    """
    if size is None or tuple(image.shape[:2]) == size:
        return image
    floats = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(floats) if image.dtype.is_integer else floats, image.dtype)


def require_size(name: str, sizes: Collection[tuple[int, int]] = ()) -> ValueError:
    """The error that images of a dataset differ in size, of which some may be given."""
    found = f", {min(sizes)} and {max(sizes)} among others" if sizes else ""
    return ValueError(
        "`image_size` must be given, such as 64 or (64, 64), since the images of "
        f"{name!r} differ in size{found}. Received: image_size=None"
    )
