"""Tables that scikit-learn contains, their numbers standardised."""

import keras
import numpy as np
from keras import layers
from sklearn import datasets

from studies.harness.tasks.arrays import Arrays

_CATEGORIES = {"sex": 2, "decade": 8}  # columns of `diabetes`, and how many values they have


def task(name):
    """A task: `breast_cancer`, `diabetes`, `digits` (64 numbers, not an image) or `wine`."""
    if name == "diabetes":
        inputs, labels = _diabetes()
    else:
        numbers, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
        inputs = {"numbers": _standardised(numbers)}
    num_classes = int(labels.max()) + 1
    sizes = {name: array.shape[1:] for name, array in inputs.items()}
    return Arrays(
        inputs, labels.astype("int64"), lambda widths: _build(sizes, widths, num_classes)
    )  # fmt: skip


def _standardised(numbers):
    numbers = np.asarray(numbers, "float32")
    return (numbers - numbers.mean(0)) / np.maximum(numbers.std(0), 1e-6)


def _diabetes():
    """Did the disease progress more than in the median patient? Numbers and two categories."""
    table = datasets.load_diabetes(as_frame=True, scaled=False).frame
    sex, age = (table.pop(name).to_numpy("int32")[:, None] for name in ("sex", "age"))
    progress = table.pop("target")
    inputs = {"numbers": _standardised(table), "sex": sex - 1, "decade": age // 10}
    return inputs, (progress > progress.median()).to_numpy()


def _build(sizes, widths, num_classes):
    """Hidden layers on the numbers and the one-hot categories."""
    inputs, encoded = {}, []
    for name, size in sizes.items():
        values = _CATEGORIES.get(name)
        inputs[name] = keras.Input(size, name=name, dtype="int32" if values else "float32")
        encode = layers.CategoryEncoding(values, "one_hot") if values else layers.Identity()
        encoded.append(encode(inputs[name]))
    hidden = layers.Concatenate()(encoded) if len(encoded) > 1 else encoded[0]
    for width in widths:
        hidden = layers.Dense(width, "relu")(hidden)
    return keras.Model(inputs, layers.Dense(num_classes)(hidden))
