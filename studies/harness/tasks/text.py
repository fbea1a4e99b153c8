"""Texts that Django contains: its messages in many languages; which one is it?"""

import gettext
import pathlib
import re

import django
import keras
import numpy as np
from keras import layers

from studies.harness.tasks.arrays import Arrays

_LANGUAGES = (
    "ca", "cs", "da", "de", "es", "et", "fi", "fr", "hr", "hu", "id", "it", "lt", "lv", "nb", "nl",
    "pl", "pt", "ro", "sk", "sl", "sv", "tr", "vi",
)  # fmt: skip
_LENGTH = 48  # bytes of a message
_SHORTEST = 16  # bytes; shorter ones are words that several languages share


def task(name):
    """The task `languages`; all translations of a message are in one part."""
    if name != "languages":
        raise ValueError(f"The text must be 'languages'. Received: {name!r}")
    numbers, rows = {}, {}
    for file in sorted(pathlib.Path(django.__path__[0]).rglob("locale/en/LC_MESSAGES/django.po")):
        messages = re.findall(r'^msgid "(.+)"$', file.read_text("utf-8"), re.MULTILINE)
        for label, language in enumerate(_LANGUAGES):
            catalogue = gettext.translation("django", file.parents[2], [language], fallback=True)
            for message in messages:
                number = numbers.setdefault(message, len(numbers))
                translated = catalogue.gettext(message)
                text = translated.encode()[:_LENGTH]
                if translated != message and len(text) >= _SHORTEST:
                    rows.setdefault(text.ljust(_LENGTH, b"\0"), (label, number))
    ids = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, _LENGTH).astype("int32")
    labels, groups = np.array(list(rows.values())).T
    return Arrays(ids, labels.astype("int64"), _build, groups)


def _build(widths):
    """Convolutions over embedded bytes, and the largest value of each feature."""
    ids = keras.Input((_LENGTH,), dtype="int32")
    features = layers.Embedding(256, widths[0], name="embedding")(ids)
    for width in widths:
        features = layers.Conv1D(width, 5, padding="same", activation="relu")(features)
    features = layers.GlobalMaxPooling1D()(features)
    return keras.Model(ids, layers.Dense(len(_LANGUAGES))(features))
