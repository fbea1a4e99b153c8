"""Run a heavy teacher once, and train without it.

    python examples/train_teacher.py --output=teacher.keras
    python examples/cached_teacher.py --teacher=teacher.keras --cache=teacher_cache

The first run computes the teacher's outputs for all training images, and for 100 points in the
region of each, and stores them; later runs find them. A training step then runs only the student.
"""

import os

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("teacher", "teacher.keras", "Keras file of the teacher.")
flags.DEFINE_string("cache", "teacher_cache", "Folder of the teacher's outputs.")
flags.DEFINE_float("fraction", 0.1, "Fraction of the training images.", 0.0, 1.0)
flags.DEFINE_integer("points", 100, "Region points for each image.", lower_bound=1)
flags.DEFINE_integer("steps", 1500, "Training steps.", lower_bound=1)
flags.register_validator("teacher", os.path.exists, "must be a file: run train_teacher.py first")
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")


def main(argv):
    """Caches the teacher's outputs, and distills from them."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(0)
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)

    cached = load_with_teacher_outputs()
    distiller = build_distiller()
    distiller.fit(cached.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=2)

    accuracy = distiller.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"Test accuracy {accuracy:.1%}. The teacher's outputs are in {FLAGS.cache}")


def load_with_teacher_outputs():
    """Training images that carry region points and the teacher's outputs, asked for only once."""
    few = l2rkd_tf.data.load("digits", "train", batch_size=50, fraction=FLAGS.fraction)
    teacher = keras.models.load_model(FLAGS.teacher)
    return l2rkd_tf.teacher_cache.cache_regions(
        few, teacher, points_per_example=FLAGS.points, path=FLAGS.cache
    )


def build_distiller():
    """A compiled distiller without a teacher."""
    distiller = l2rkd_tf.L2RKDDistiller(
        None,
        l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(16, 32)),
        replace_fraction=0.5,
        seed=0,
    )
    rate = keras.optimizers.schedules.CosineDecay(0.03, FLAGS.steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return distiller


if __name__ == "__main__":
    app.run(main)
