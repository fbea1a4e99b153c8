"""Short names for contents: a teacher, the examples of a data set, a file."""

import hashlib
import json

import numpy as np

__all__ = ["EMPTY", "joined", "of_examples", "of_file", "of_model", "together"]

#: The fingerprint of no examples.
EMPTY = "0" * 32


def of_model(model):
    """Fingerprint of a model: its architecture and its weights.

    Args:
        model: Keras model.

    Returns:
        Hexadecimal digits.
    """
    digest = _new()
    # A model that cannot be serialized is known by its weights alone.
    try:
        digest.update(json.dumps(model.get_config(), default=str, sort_keys=True).encode())
    except NotImplementedError:
        pass
    for weight in model.weights:
        value = np.asarray(weight)
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def of_examples(components):
    """Fingerprint of the examples of a batch, whatever their order.

    Args:
        components: NumPy arrays, each with one row for an example.

    Returns:
        Hexadecimal digits.
    """
    arrays = [np.ascontiguousarray(component) for component in components]
    total = 0
    for row in range(len(arrays[0])):
        digest = _new()
        for array in arrays:
            digest.update(array[row].tobytes())
        total += int(digest.hexdigest(), 16)
    return _as_digits(total)


def together(one, other):
    """Fingerprint of the examples that two fingerprints stand for."""
    return _as_digits(int(one, 16) + int(other, 16))


def joined(*parts):
    """Fingerprint of several strings, in this order."""
    return _new(json.dumps(parts).encode()).hexdigest()


def of_file(path):
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
