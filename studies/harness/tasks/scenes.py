"""Scenes of noisy glyphs, and the class of each pixel."""

import keras
import numpy as np
from keras import layers

from l2rkd_tf import data
from studies.harness.tasks.arrays import Arrays


def task(name):
    """`ink`: is a pixel part of a digit? `digits`: of which one, or of none?"""
    splits = [data.load("glyph_scenes", s, batch_size=256) for s in ("train", "validation", "test")]
    pairs = [pair for split in splits for pair in split.as_numpy_iterator()]
    images, masks = (np.concatenate(part) for part in zip(*pairs, strict=True))
    labels = {"digits": masks, "ink": masks < 10}[name].astype("int32")
    num_classes = int(labels.max()) + 1
    return Arrays(images, labels, lambda widths: _build(widths[0], num_classes), dense=True)


def _build(width, num_classes):
    """A small U-Net: it looks at a half and a quarter of the resolution, and returns to all."""
    image = keras.Input((32, 32, 1))
    full = _convolve(image, width)
    half = _convolve(layers.MaxPooling2D()(full), 2 * width)
    quarter = _convolve(_convolve(layers.MaxPooling2D()(half), 4 * width), 4 * width)
    half = _convolve(layers.Concatenate()([half, layers.UpSampling2D()(quarter)]), 2 * width)
    full = _convolve(layers.Concatenate()([full, layers.UpSampling2D()(half)]), width)
    return keras.Model(image, layers.Conv2D(num_classes, 1)(full))


def _convolve(maps, width):
    maps = layers.Conv2D(width, 3, padding="same", use_bias=False)(maps)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(maps))
