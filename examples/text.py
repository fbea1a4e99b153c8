"""Distill a classifier of text: which language is a message in?

    python examples/text.py --output=student.tflite

The messages are Django's own, in ten languages. The networks read bytes of UTF-8, which cannot be
interpolated: a region point takes each of its bytes from one of two messages.
"""

import gettext
import pathlib
import re
import zlib

import django
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from keras import layers

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_integer("teacher_steps", 400, "Training steps of the teacher.", lower_bound=1)
flags.DEFINE_integer("steps", 800, "Training steps of the student.", lower_bound=1)
flags.DEFINE_string("output", "student.tflite", "File to write.")

LANGUAGES = ["cs", "da", "de", "es", "fr", "it", "nl", "pl", "pt", "sv"]
LENGTH = 48  # bytes of a message
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main(argv):
    """Trains the teacher, distills it and exports the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs every step of an export.
    keras.utils.set_random_seed(0)
    x, y, is_test = load_messages()
    train = tf.data.Dataset.from_tensor_slices((x[~is_test], y[~is_test]))
    train = train.shuffle(len(x), seed=0).repeat().batch(64)
    teacher, student = build_network(width=64), build_network(width=16)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    models = {"Teacher": (teacher, FLAGS.teacher_steps), "Student": (distiller, FLAGS.steps)}
    for name, (model, steps) in models.items():
        rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
        model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
        model.fit(train, epochs=1, steps_per_epoch=steps, verbose=0)
        accuracy = model.evaluate(x[is_test], y[is_test], verbose=0, return_dict=True)["accuracy"]
        print(f"{name}: test accuracy {accuracy:.1%}")

    report = l2rkd_tf.export.export_litert(student, FLAGS.output, representative_data=x[~is_test])
    print(f"{FLAGS.output}: {report.bytes:,} bytes, agrees on {report.top1_agreement:.1%}")


def load_messages():
    """Bytes of the translations, their languages, and whether they are for the test."""
    rows = {}  # Bytes that translate two messages are in one part only: that of the first.
    for file in sorted(pathlib.Path(django.__path__[0]).rglob("locale/en/LC_MESSAGES/django.po")):
        for message in re.findall(r'^msgid "(.+)"$', file.read_text("utf-8"), re.MULTILINE):
            for label, language in enumerate(LANGUAGES):
                translation = gettext.translation("django", file.parents[2], [language])
                text = translation.gettext(message).encode()[:LENGTH].ljust(LENGTH, b"\0")
                if translation.gettext(message) != message:
                    rows.setdefault((text, label), zlib.crc32(message.encode()) % 5 == 0)
    x = np.frombuffer(b"".join(text for text, _ in rows), np.uint8).reshape(-1, LENGTH)
    labels = np.array([label for _, label in rows])
    return x.astype("int32"), labels, np.array(list(rows.values()))


def build_network(width):
    """Two convolutions over embedded bytes, and the largest value of each feature."""
    text = keras.Input((LENGTH,), dtype="int32")
    features = layers.Conv1D(width, 5, activation="relu")(layers.Embedding(256, width)(text))
    features = layers.Conv1D(width, 5, activation="relu")(layers.MaxPooling1D(2)(features))
    return keras.Model(text, layers.Dense(len(LANGUAGES))(layers.GlobalMaxPooling1D()(features)))


if __name__ == "__main__":
    app.run(main)
