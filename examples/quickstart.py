"""Distill a digit classifier from 100 images, with and without regions, in about a minute.

    python examples/quickstart.py

A teacher is trained on all 1,000 training digits. Two students of 5,274 parameters then see 10 % of
them: one by plain distillation (KD), one by L2RKD. The last line compares their test accuracy.
"""

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_float("fraction", 0.1, "Fraction of the training images for the students.", 0.0, 1.0)
flags.DEFINE_integer("steps", 1000, "Training steps of each student.", lower_bound=1)
flags.DEFINE_integer("teacher_epochs", 20, "Training epochs of the teacher.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the subset, the initial weights and the draws.", 0)
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main(argv):
    """Trains the teacher and both students, and prints how they compare."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)
    teacher = train_teacher()
    print(f"Teacher {accuracy(teacher, test):.1f} %")

    kd = distill(teacher, region_weight=0)
    l2rkd = distill(teacher)
    print(f"KD {accuracy(kd, test):.1f} % | L2RKD {accuracy(l2rkd, test):.1f} %")


def train_teacher():
    """A convnet trained on all training images."""
    keras.utils.set_random_seed(FLAGS.seed)
    train = l2rkd_tf.data.load("digits", "train", batch_size=50, seed=FLAGS.seed)
    teacher = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(32, 64, 128))
    teacher.compile(keras.optimizers.Adam(0.003), LOSS, metrics=["accuracy"])
    teacher.fit(train, epochs=FLAGS.teacher_epochs, verbose=0)
    return teacher


def distill(teacher, **settings):
    """A distiller that has trained a new student; both see the same batches in the same order."""
    keras.utils.set_random_seed(FLAGS.seed)
    few = l2rkd_tf.data.load(
        "digits", "train", batch_size=50, fraction=FLAGS.fraction, seed=FLAGS.seed
    )
    student = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(16, 32))
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=FLAGS.seed, **settings)
    rate = keras.optimizers.schedules.CosineDecay(0.03, FLAGS.steps)
    distiller.compile(
        keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"], steps_per_execution=50
    )
    distiller.fit(few.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=0)
    return distiller


def accuracy(model, dataset):
    """Accuracy in percent; a distiller evaluates its student only."""
    return 100 * model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"]


if __name__ == "__main__":
    app.run(main)
