"""Networks of `keras.applications`, adapted to images in `[0, 1]` of any size."""

import types

import keras

from l2rkd_tf.models.layers import CHANNELS_LAST
from l2rkd_tf.utils.types import Shape

__all__ = ["application", "application_names"]

# Most of the networks refuse smaller images.
_SMALLEST = 32
_TRAINED = ("all", "head")


def application_names() -> list[str]:
    """List the networks of `keras.applications`.

    Returns:
        Sorted names, each of which `application` takes.

    Example:
        >>> "MobileNetV2" in application_names()
        True
    """
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def application(
    name: str,
    input_shape: Shape,
    num_classes: int,
    *,
    pretrained: bool = False,
    size: int | None = None,
    trained: str = "all",
    seed: int = 0,
) -> keras.Model:
    """Build a network of `keras.applications` as a teacher.

    The model takes the same images in `[0, 1]` as the student, and does the rest itself: it resizes
    them, copies one channel to three, and scales the values to the range that the network was
    trained on. A new dense layer returns the logits:

    ```
    logits(x) = W pool(network(preprocess(255 resize(x)))) + b
    ```

    Resizing and scaling are affine, so that a region around an image is also one for the network.

    Args:
        name: One of `application_names()`, such as `"MobileNetV2"`.
        input_shape: `(height, width, channels)` of the images, with one or three channels.
        num_classes: Number of classes.
        pretrained: Whether the network starts with weights trained on ImageNet, which Keras
            downloads.
        size: Height and width that images are resized to, in pixels. By default only images whose
            height or width is below 32 are resized, to 32.
        trained: What `fit` changes: `"all"` layers, or only the new `"head"`.
        seed: Seed of the initial weights.

    Returns:
        A functional `keras.Model` from images, shape `(batch, height, width, channels)`, to float32
        logits, shape `(batch, num_classes)`. All layers are in one graph.

    Raises:
        ValueError: If `name` is not one of `application_names()`, `input_shape` has not three
            entries or neither one nor three channels, `trained` is neither `"all"` nor `"head"`,
            or Keras's global data format is not channels-last.

    Example:
        >>> from l2rkd_tf import models
        >>> teacher = models.application("MobileNet", (8, 8, 1), num_classes=10, trained="head")
        >>> teacher.output_shape, len(teacher.trainable_weights)
        ((None, 10), 2)
    """
    _check(name, input_shape, trained)
    keras.utils.set_random_seed(seed)
    image = keras.Input(input_shape, name="image")
    network = getattr(keras.applications, name)(
        weights="imagenet" if pretrained else None,
        include_top=False,
        pooling="avg",
        input_tensor=_scaled(image, name, size),
    )
    if trained == "head":
        for layer in network.layers:
            layer.trainable = False
    logits = keras.layers.Dense(num_classes, name="logits", dtype="float32")(network.output)
    return keras.Model(image, logits, name=name.lower())


def _scaled(image, name, size):
    """Images as the network was trained on them."""
    height, width, channels = image.shape[1:]
    if size is None and min(height, width) < _SMALLEST:
        size = _SMALLEST
    if size is not None and (height, width) != (size, size):
        image = keras.layers.Resizing(size, size, name="resize")(image)
    if channels == 1:
        image = keras.layers.Concatenate(name="three_channels")([image] * 3)
    image = keras.layers.Rescaling(255.0, name="rescale")(image)
    return _preprocessing(name)(image)


def _preprocessing(name):
    """The network's own scaling of images in `[0, 255]`."""
    for module in vars(keras.applications).values():
        if isinstance(module, types.ModuleType) and name in vars(module):
            return module.preprocess_input
    return lambda image: image  # MobileNetV3 has no module of its own, and scales by itself


def _check(name, input_shape, trained):
    names = application_names()
    if name not in names:
        raise ValueError(f"`name` must be one of {names}. Received: name={name!r}")
    if len(input_shape) != 3 or input_shape[-1] not in (1, 3):
        raise ValueError(
            "`input_shape` must be (height, width, channels) with one or three channels. "
            f"Received: input_shape={input_shape}"
        )
    if trained not in _TRAINED:
        raise ValueError(f"`trained` must be one of {_TRAINED}. Received: trained={trained!r}")
    if keras.config.image_data_format() != CHANNELS_LAST:
        raise ValueError(
            "`keras.config.image_data_format()` must be 'channels_last', in which the networks of "
            f"keras.applications take these images. Received: {keras.config.image_data_format()!r}"
        )
