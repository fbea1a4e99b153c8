"""Teachers from `keras.applications`, as they suit images in [0, 1] of any size and data set."""

import types

import keras

# What is smaller, most of them refuse.
_SMALLEST = 32
_TRAINED = ("all", "head")


def names():
    """Names of all networks of `keras.applications`, sorted."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def build(name, input_shape, num_classes, *, pretrained=False, size=None, trained="all", seed=0):
    """A network of `keras.applications` with a new head that gives logits.

    Its scaling is part of it: it takes the images in [0, 1] that students take, resizes them, and
    gives them the range (and three channels) that the network was made for. All of
    these are affine: a region of the student is one to the network, too.

    Args:
        name: Name of the network, such as `MobileNetV2`.
        input_shape: `(height, width, channels)` of the images, with one or three channels.
        num_classes: Number of classes.
        pretrained: Whether it begins with the weights of ImageNet, which Keras downloads.
        size: Side that images are resized to inside; `None` to resize those alone that are
            smaller than 32, to 32.
        trained: What `fit` changes: `"all"`, or the `"head"` alone.
        seed: Seed of the initial weights.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits. All layers are in one graph.

    Raises:
        ValueError: If an argument is wrong.
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
    """What the network's own module does to images in [0, 255]."""
    for module in vars(keras.applications).values():
        if isinstance(module, types.ModuleType) and name in vars(module):
            return module.preprocess_input
    return lambda image: image  # MobileNetV3, which has no module, does it itself


def _check(name, input_shape, trained):
    if name not in names():
        raise ValueError(f"`name` must be one of {names()}. Received: name={name!r}")
    if len(input_shape) != 3 or input_shape[-1] not in (1, 3):
        raise ValueError(
            "`input_shape` must be (height, width, channels) with one or three channels. "
            f"Received: input_shape={input_shape}"
        )
    if trained not in _TRAINED:
        raise ValueError(f"`trained` must be one of {_TRAINED}. Received: trained={trained!r}")
