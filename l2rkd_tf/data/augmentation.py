"""Stateless augmentation of one image: the same seed always returns the same image."""

import math
import numbers

import keras
import tensorflow as tf

from l2rkd_tf.utils.types import TensorLike
from l2rkd_tf.utils.validation import is_number

__all__ = ["AUGMENTATIONS", "affine", "crop", "crop_flip"]


def crop(image: TensorLike, seed: TensorLike, padding: int | None = None) -> tf.Tensor:
    """Shifts an image at random: pads it with zeros and crops it back to its size.

    Right for images whose mirror image means something else, such as digits.

    Args:
        image: One image, shape `(height, width, channels)`, static.
        seed: Int32 pair that decides the shift.
        padding: Largest shift in pixels. Default: an eighth of the height (vertically) and of the
            width (horizontally), at least 1: one pixel for 8x8 digits, four for 32x32 images.

    Returns:
        The shifted image, of the same shape and dtype.

    Raises:
        ValueError: If `image` does not have rank 3 and a static shape, or `padding` is negative.

    Example:
        >>> crop(tf.ones((8, 8, 1)), seed=[0, 1]).shape
        TensorShape([8, 8, 1])
    """
    image = tf.convert_to_tensor(image)
    padding = _padding(image, padding)
    return _shift(image, _draw(seed, _num_shifts(padding)), padding)


def crop_flip(image: TensorLike, seed: TensorLike, padding: int | None = None) -> tf.Tensor:
    """Shifts an image at random, as `crop` does, and mirrors it with probability 1/2.

    The usual augmentation of CIFAR images. For the same `seed`, the shift is that of `crop`.

    Args:
        image: One image, shape `(height, width, channels)`, static.
        seed: Int32 pair that decides the shift and whether to mirror.
        padding: Largest shift in pixels, as in `crop`.

    Returns:
        The augmented image, of the same shape and dtype.

    Raises:
        ValueError: If `image` does not have rank 3 and a static shape, or `padding` is negative.

    Example:
        >>> crop_flip(tf.ones((32, 32, 3)), seed=[0, 1]).shape
        TensorShape([32, 32, 3])

    Reference: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition
    (arXiv:1512.03385), section 4.2.
    """
    image = tf.convert_to_tensor(image)
    padding = _padding(image, padding)
    drawn = _draw(seed, (*_num_shifts(padding), 2))
    shifted = _shift(image, drawn[:2], padding)
    return tf.where(drawn[2] == 1, shifted[:, ::-1], shifted)


def affine(
    image: TensorLike,
    seed: TensorLike,
    degrees: float = 15.0,
    zoom: float = 0.15,
    shift: float = 0.1,
) -> tf.Tensor:
    """Rotates, zooms and shifts an image at random, each uniformly within its bounds.

    Right for small images of digits, letters and symbols, where it does more than `crop`. Values
    between pixels are interpolated linearly; outside of the image there are zeros.

    Args:
        image: One image, shape `(height, width, channels)`, static.
        seed: Int32 pair that decides the three.
        degrees: Largest rotation about the centre to either side, in degrees, from 0 to 180.
        zoom: The image becomes `1 - zoom` to `1 + zoom` times as large; from 0 to 0.99.
        shift: Largest shift as a fraction of the height (vertically) and of the width
            (horizontally), from 0 to 1.

    Returns:
        The image in float32, of the same shape.

    Raises:
        ValueError: If `image` does not have rank 3 and a static shape, or a number is out of range.

    Example:
        >>> affine(tf.ones((8, 8, 1)), seed=[0, 1]).shape
        TensorShape([8, 8, 1])

    Reference: Simard, Steinkraus and Platt, Best Practices for Convolutional Neural Networks
    Applied to Visual Document Analysis (ICDAR 2003), section 2.
    """
    image = tf.cast(tf.convert_to_tensor(image), tf.float32)
    _check_image(image)
    for name, value, most in (("degrees", degrees, 180), ("zoom", zoom, 0.99), ("shift", shift, 1)):
        if not is_number(value) or not 0 <= value <= most:
            raise ValueError(
                f"`{name}` must be a number from 0 to {most}. Received: {name}={value!r}"
            )
    drawn = tf.random.stateless_uniform([4], seed, -1.0, 1.0, alg="philox")
    angle, scale = drawn[0] * math.radians(degrees), 1.0 + drawn[1] * zoom
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    # A pixel at (x, y) gets what is at (cos x - sin y + left, sin x + cos y + top).
    y, x = ((size - 1) / 2 for size in image.shape[:2])
    down, right = (drawn[2 + axis] * shift * image.shape[axis] for axis in range(2))
    left = x + right - cos * x + sin * y
    top = y + down - sin * x - cos * y
    transform = tf.stack([cos, -sin, left, sin, cos, top, 0.0, 0.0])
    moved = keras.ops.image.affine_transform(image, transform, data_format="channels_last")
    return tf.ensure_shape(moved, image.shape)


AUGMENTATIONS = {"affine": affine, "crop": crop, "crop_flip": crop_flip}


def _check_image(image):
    if image.shape.rank != 3 or None in image.shape.as_list():
        raise ValueError(
            "`image` must be one image of static shape `(height, width, channels)`. "
            f"Received: image of shape {image.shape}"
        )


def _padding(image, padding):
    """Largest shift of rows and of columns."""
    _check_image(image)
    if padding is None:
        return tuple(max(1, size // 8) for size in image.shape[:2])
    if not isinstance(padding, numbers.Integral) or padding < 0:
        raise ValueError(
            f"`padding` must be a number of pixels, 0 or more. Received: padding={padding!r}"
        )
    return int(padding), int(padding)


def _num_shifts(padding):
    return tuple(2 * size + 1 for size in padding)


def _draw(seed, limits):
    """One integer in `[0, limit)` for each limit."""
    bits = tf.random.stateless_uniform(
        [len(limits)], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    return tf.cast(tf.cast(bits, tf.int64) % tf.constant(limits, tf.int64), tf.int32)


def _shift(image, offset, padding):
    rows, columns = padding
    padded = tf.pad(image, [[rows, rows], [columns, columns], [0, 0]])
    shifted = tf.slice(padded, tf.concat([offset, [0]], axis=0), image.shape)
    return tf.ensure_shape(shifted, image.shape)
