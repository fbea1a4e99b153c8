"""Datasets that tests of data share."""

import numpy as np
from PIL import Image


def arrays(dataset):
    """All inputs and all labels of one epoch."""
    inputs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def write_images(root, images, suffix="png"):
    """Write `{"train/cat/a": image}`, where images are arrays or levels of grey."""
    for name, image in images.items():
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if np.ndim(image) == 0:
            image = np.full((2, 3, 3), image, np.uint8)
        Image.fromarray(image).save(path)


def levels(dataset):
    """The grey level of each image of one epoch."""
    images, _ = arrays(dataset)
    assert (images == images[:, :1, :1, :1]).all()
    return np.rint(images[:, 0, 0, 0] * 255).astype(int).tolist()
