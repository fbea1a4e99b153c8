"""Distill on all GPUs of one machine.

    python examples/train_teacher.py --output=teacher.keras
    python examples/several_gpus.py --teacher=teacher.keras

Teacher, student and distiller are created in the scope of a `MirroredStrategy`; everything else is
as on one device. The batch size is that of the global batch, which the replicas share. To try it on
a machine without GPUs, split the CPU:

    python examples/several_gpus.py --teacher=teacher.keras --cpu_devices=2
"""

import os

import keras
import tensorflow as tf
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("teacher", "teacher.keras", "Keras file of the teacher.")
flags.DEFINE_integer("cpu_devices", 0, "Logical CPU devices to use instead of GPUs.", 0)
flags.DEFINE_integer("batch_size", 64, "Examples in a global batch.", lower_bound=2)
flags.DEFINE_integer("steps", 1500, "Training steps.", lower_bound=1)
flags.register_validator("teacher", os.path.exists, "must be a file: run train_teacher.py first")


def main(argv):
    """Trains a student on several replicas, and evaluates it on all of them."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    strategy = make_strategy()  # Before anything else uses TensorFlow.
    print(f"{strategy.num_replicas_in_sync} replicas")
    keras.utils.set_random_seed(0)
    few = l2rkd_tf.data.load("digits", "train", batch_size=FLAGS.batch_size, fraction=0.2)
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)

    with strategy.scope():
        distiller = build_distiller(keras.models.load_model(FLAGS.teacher))
    distiller.fit(few.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=2)

    accuracy = distiller.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"Test accuracy {accuracy:.1%}")


def make_strategy():
    """A strategy for all GPUs, or for logical devices of the CPU."""
    if not FLAGS.cpu_devices:
        return tf.distribute.MirroredStrategy()
    (cpu,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * FLAGS.cpu_devices
    tf.config.set_logical_device_configuration(cpu, parts)
    devices = tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def build_distiller(teacher):
    """A compiled distiller; synchronized batch normalization sees the global batch."""
    student = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(16, 32), synchronized=True)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(0.03, FLAGS.steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return distiller


if __name__ == "__main__":
    app.run(main)
