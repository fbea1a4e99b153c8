"""Time series that sktime contains, each channel standardised."""

import keras
import numpy as np
from keras import layers
from sktime import datasets

from studies.harness.tasks.arrays import Arrays

_LOADERS = {
    "arrow_head": datasets.load_arrow_head,
    "italy_power_demand": datasets.load_italy_power_demand,
    "japanese_vowels": datasets.load_japanese_vowels,
    "osu_leaf": datasets.load_osuleaf,
}
_STEPS = 64  # longer series are resampled to so many steps


def task(name):
    """A task of one of the datasets in `_LOADERS`."""
    table, labels = _LOADERS[name](return_X_y=True, return_type="nested_univ")
    rows = [[np.asarray(channel, "float32") for channel in row] for row in table.to_numpy()]
    steps = min(_STEPS, max(len(row[0]) for row in rows))
    series = np.stack([np.stack([_resampled(c, steps) for c in row], axis=-1) for row in rows])
    series = (series - series.mean((0, 1))) / series.std((0, 1))
    names, classes = np.unique(labels, return_inverse=True)
    shape, num_classes = series.shape[1:], len(names)
    return Arrays(
        series.astype("float32"), classes.astype("int64"), lambda w: _build(shape, w, num_classes)
    )


def _resampled(values, steps):
    places = np.linspace(0, len(values) - 1, steps)
    return np.interp(places, np.arange(len(values)), values)


def _build(shape, widths, num_classes):
    """Convolutions along time."""
    maps = series = keras.Input(shape)
    for width in widths:
        maps = layers.Conv1D(width, 5, padding="same", use_bias=False)(maps)
        maps = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(maps))
    return keras.Model(series, layers.Dense(num_classes)(layers.GlobalAveragePooling1D()(maps)))
