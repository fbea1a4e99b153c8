"""Train a teacher and save it as a Keras file.

    python examples/train_teacher.py --dataset=digits --output=teacher.keras

Any Keras classifier that outputs logits can be a teacher; this one is a small convnet, trained on
randomly cropped images. The other examples read the file.
"""

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("dataset", "digits", "Name of a TensorFlow dataset, or a folder of images.")
flags.DEFINE_integer("epochs", 20, "Training epochs.", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.003, "Initial learning rate; it falls to 0 on a cosine.")
flags.DEFINE_list("widths", ["32", "64", "128"], "Channels of each block of the network.")
flags.DEFINE_integer("seed", 0, "Seed of the initial weights and the order of the data.", 0)
flags.DEFINE_string("output", "teacher.keras", "File to write.")
flags.register_validator("learning_rate", lambda value: value > 0, "must be above 0")


def main(argv):
    """Trains, evaluates and saves the teacher."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(FLAGS.seed)
    train = l2rkd_tf.data.load(
        FLAGS.dataset, "train", batch_size=50, seed=FLAGS.seed, augment="crop"
    )
    test = l2rkd_tf.data.load(FLAGS.dataset, "test", batch_size=256)

    teacher = build_teacher(train)
    compile_for(teacher, steps=FLAGS.epochs * len(train))
    teacher.fit(train, epochs=FLAGS.epochs, verbose=2)

    accuracy = teacher.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    teacher.save(FLAGS.output)
    print(f"Test accuracy {accuracy:.1%}. The teacher is in {FLAGS.output}")


def build_teacher(dataset):
    """A convnet for the images and classes of a dataset."""
    input_shape = dataset.element_spec[0].shape[1:]
    widths = [int(width) for width in FLAGS.widths]
    return l2rkd_tf.models.convnet(
        input_shape, len(dataset.class_names), widths, convs_per_block=2, name="teacher"
    )


def compile_for(model, steps):
    """Compiles a classifier for this number of training steps."""
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


if __name__ == "__main__":
    app.run(main)
