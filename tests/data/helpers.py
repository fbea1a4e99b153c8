"""Datasets that tests of data share."""

import numpy as np
import tensorflow as tf


def arrays(dataset):
    """All inputs and all labels of one epoch."""
    inputs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def write_images(root, images, suffix="png"):
    """Write `{"train/cat/a": image}`."""
    encode = tf.io.encode_png if suffix == "png" else tf.io.encode_jpeg
    for name, image in images.items():
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image).numpy())
