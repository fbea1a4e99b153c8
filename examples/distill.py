"""Distill a teacher from a file into a small student.

    python examples/train_teacher.py --output=teacher.keras
    python examples/distill.py --teacher=teacher.keras --fraction=0.1 --output=student.keras

The student trains on a tenth of the images, and on region points that are drawn around them in
every step. What is saved is a plain Keras model without the teacher.
"""

import os

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("teacher", "teacher.keras", "Keras file of the teacher.")
flags.DEFINE_string("dataset", "digits", "Name of a TensorFlow dataset, or a folder of images.")
flags.DEFINE_float("fraction", 0.1, "Fraction of the training images.", 0.0, 1.0)
flags.DEFINE_float("temperature", 4.0, "Temperature of the softmax in the KD and region losses.")
flags.DEFINE_integer("epochs", 5, "Training epochs.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 300, "Steps of an epoch; the images repeat.", 1)
flags.DEFINE_integer("seed", 0, "Seed of the subset, the initial weights and the draws.", 0)
flags.DEFINE_string("output", "student.keras", "File to write.")
flags.register_validator("teacher", os.path.exists, "must be a file: run train_teacher.py first")
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")
flags.register_validator("temperature", lambda value: value > 0, "must be above 0")


def main(argv):
    """Trains, evaluates and saves the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(FLAGS.seed)
    teacher = keras.models.load_model(FLAGS.teacher)
    few = l2rkd_tf.data.load(
        FLAGS.dataset, "train", batch_size=50, fraction=FLAGS.fraction, seed=FLAGS.seed
    )
    test = l2rkd_tf.data.load(FLAGS.dataset, "test", batch_size=256)

    distiller = build_distiller(teacher)
    distiller.fit(
        few.repeat(),
        epochs=FLAGS.epochs,
        steps_per_epoch=FLAGS.steps_per_epoch,
        verbose=2,
    )

    accuracy = distiller.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    distiller.student.save(FLAGS.output)
    print(f"Test accuracy {accuracy:.1%}. The student is in {FLAGS.output}")


def build_distiller(teacher):
    """A compiled distiller with a new student that fits the teacher's inputs and classes."""
    student = l2rkd_tf.models.convnet(
        teacher.input_shape[1:], teacher.output_shape[-1], widths=(16, 32), name="student"
    )
    distiller = l2rkd_tf.L2RKDDistiller(
        teacher, student, temperature=FLAGS.temperature, seed=FLAGS.seed
    )
    steps = FLAGS.epochs * FLAGS.steps_per_epoch
    distiller.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return distiller


if __name__ == "__main__":
    app.run(main)
