"""Corruptions of images, to see how a model holds up under them."""

import numpy as np
import scipy.ndimage

_SEED = 0


def noise(images, stddev):
    """Images with Gaussian noise, clipped to `[0, 1]`; always the same noise."""
    drawn = np.random.RandomState(_SEED).normal(0.0, stddev, images.shape)
    return np.clip(images + drawn, 0.0, 1.0).astype(images.dtype)


def blur(images, sigma):
    """Images under a Gaussian blur whose deviation is `sigma` pixels."""
    return scipy.ndimage.gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")


def shift(images, rows, columns):
    """Images shifted by whole pixels; the border is repeated."""
    height, width = images.shape[1:3]
    down = np.clip(np.arange(height) - rows, 0, height - 1)
    right = np.clip(np.arange(width) - columns, 0, width - 1)
    return images[:, down][:, :, right]


def _shifts(pixels):
    return ((pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels))


#: `{name: function of images, shape (images, height, width, channels)}`; each returns a list of
#: sets of images, whose accuracies are averaged.
CORRUPTIONS = {
    "noise 0.1": lambda images: [noise(images, 0.1)],
    "noise 0.3": lambda images: [noise(images, 0.3)],
    "blur 0.5": lambda images: [blur(images, 0.5)],
    "blur 1": lambda images: [blur(images, 1.0)],
    "shift 1": lambda images: [shift(images, *by) for by in _shifts(1)],
    "shift 2": lambda images: [shift(images, *by) for by in _shifts(2)],
}
