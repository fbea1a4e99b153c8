"""Distill a classifier of time series.

    python examples/time_series.py --output=student.tflite

The series are those of ItalyPowerDemand, which comes with sktime: the demand of electrical power in
the 24 hours of a day. Was it a day from October to March, or from April to September? Of 67 days to
train on, a region point is mixed from two: each quarter of a day moves by its own amount.
"""

import keras
import tensorflow as tf
from absl import app, flags, logging
from keras import layers
from sktime import datasets

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_integer("teacher_steps", 300, "Training steps of the teacher.", lower_bound=1)
flags.DEFINE_integer("steps", 600, "Training steps of the student.", lower_bound=1)
flags.DEFINE_string("output", "student.tflite", "File to write.")


def main(argv):
    """Trains the teacher, distills it and exports the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs every step of an export.
    keras.utils.set_random_seed(0)
    train = load_days("train").shuffle(67, seed=0).batch(32)
    test = load_days("test").batch(256)

    teacher = build_network(width=64)
    compile_for(teacher, FLAGS.teacher_steps)
    teacher.fit(train.repeat(), epochs=1, steps_per_epoch=FLAGS.teacher_steps, verbose=0)
    report("Teacher", teacher, teacher, test)

    student = build_network(width=8)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    compile_for(distiller, FLAGS.steps)
    distiller.fit(train.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=0)
    report("Student", distiller, student, test)

    export = l2rkd_tf.export.export_litert(student, FLAGS.output, representative_data=train)
    print(f"{FLAGS.output}: {export.bytes:,} bytes, agrees on {export.top1_agreement:.1%}")


def load_days(split):
    """Pairs of a day, shape `(24, 1)`, and its half of the year."""
    days, labels = datasets.load_italy_power_demand(split, return_type="numpy3d")
    days = days.transpose(0, 2, 1).astype("float32")  # sktime has the channels before the time
    return tf.data.Dataset.from_tensor_slices((days, (labels == "2").astype("int64")))


def build_network(width):
    """Three convolutions along time."""
    maps = day = keras.Input((24, 1))
    for _ in range(3):
        maps = layers.Conv1D(width, 5, padding="same", use_bias=False)(maps)
        maps = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(maps))
    return keras.Model(day, layers.Dense(2)(layers.GlobalAveragePooling1D()(maps)))


def compile_for(model, steps):
    """Compiles a network or a distiller for this number of training steps."""
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])


def report(title, model, network, dataset):
    """Prints the parameters of a network and its accuracy."""
    accuracy = model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"]
    print(f"{title}: {network.count_params():,} parameters, test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    app.run(main)
