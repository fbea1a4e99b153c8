"""Hashes that identify contents: a teacher, the examples of a dataset, a file."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from l2rkd_tf.utils.types import PathLike

__all__ = [
    "EMPTY",
    "combine",
    "hash_batch",
    "hash_examples",
    "hash_file",
    "hash_model",
    "hash_parts",
    "hash_weights",
]

#: The fingerprint of no examples.
EMPTY = "0" * 32


def hash_model(model: keras.Model) -> str:
    """Fingerprint of a model: its architecture and its weights.

    Args:
        model: Keras model.

    Returns:
        Hexadecimal digits.
    """
    digest = _new(_architecture(model).encode())
    _add_weights(digest, model)
    return digest.hexdigest()


def hash_weights(model: keras.Model) -> str:
    """Fingerprint of only a model's weights, as hexadecimal digits."""
    digest = _new()
    _add_weights(digest, model)
    return digest.hexdigest()


def _add_weights(digest, model):
    for weight in model.weights:
        value = np.asarray(weight)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())


def _architecture(model):
    try:
        return json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True)
    except (NotImplementedError, TypeError, ValueError) as error:
        warnings.warn(
            f"The model {model.name!r} cannot be serialized ({error}), so a cache identifies it "
            "only by its weights and the types of its layers: delete the cache when its code "
            "changes.",
            stacklevel=2,
        )
        return repr([type(layer).__qualname__ for layer in [model, *model.layers]])


def hash_examples(components: Sequence[np.ndarray]) -> list[int]:
    """Fingerprint of each example of a batch, as an integer.

    Args:
        components: NumPy arrays, each with one row for an example.

    Returns:
        List of integers below `16 ** 32`.
    """
    arrays = [np.ascontiguousarray(component) for component in components]
    # Equal bytes of another dtype or shape are a different example.
    kind = _new(repr([(array.dtype.str, array.shape[1:]) for array in arrays]).encode())
    found = []
    for row in range(len(arrays[0])):
        digest = kind.copy()
        for array in arrays:
            digest.update(array[row].tobytes())
        found.append(int(digest.hexdigest(), 16))
    return found


def hash_batch(components: Sequence[np.ndarray]) -> str:
    """Fingerprint of the examples of a batch, whatever their order.

    Args:
        components: NumPy arrays, each with one row for an example.

    Returns:
        Hexadecimal digits.
    """
    return _as_digits(sum(hash_examples(components)))


def combine(one: str, other: str) -> str:
    """Fingerprint of the union of the examples of two fingerprints."""
    return _as_digits(int(one, 16) + int(other, 16))


def hash_parts(*parts: Any) -> str:
    """Fingerprint of several strings, in this order."""
    return _new(json.dumps(parts).encode()).hexdigest()


def hash_file(path: PathLike) -> str:
    """Fingerprint of the bytes of a file."""
    digest = _new()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _new(content=b""):
    return hashlib.blake2b(content, digest_size=len(EMPTY) // 2)


def _as_digits(number):
    return f"{number % 16 ** len(EMPTY):0{len(EMPTY)}x}"
