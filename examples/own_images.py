"""From a folder of images to a student in a `.tflite` file.

    python examples/own_images.py --images=photos --image_size=32

The folder has one subfolder for each class: `photos/cat/1.jpg`, `photos/dog/8.jpg`, ... Or it is
already divided: `photos/train/cat/1.jpg`, `photos/test/dog/8.jpg`, ... A teacher of your own
(`--teacher`) must take images in [0, 1] of the given size and output logits in the alphabetical
order of the classes. Without one, a convnet is trained first.
"""

import os

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("images", None, "Folder of images: class/file.", required=True)
flags.DEFINE_integer("image_size", 32, "Side in pixels that images are resized to.", 8)
flags.DEFINE_string("teacher", "", "Keras file of a teacher. Empty: train one on the images.")
flags.DEFINE_integer("teacher_epochs", 30, "Training epochs of such a teacher.", lower_bound=1)
flags.DEFINE_integer("steps", 2000, "Training steps of the student.", lower_bound=1)
flags.DEFINE_string("output", "student.tflite", "File to write.")
flags.register_validator("images", lambda path: not path or os.path.isdir(path), "must be a folder")
flags.register_validator("teacher", lambda p: not p or os.path.exists(p), "must be a file")


def main(argv):
    """Reads the images, distills the teacher and exports the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(0)
    train, test = (
        l2rkd_tf.data.load(FLAGS.images, split, batch_size=32, image_size=FLAGS.image_size)
        for split in ("train", "test")
    )
    print(f"{train.num_examples} training images of {', '.join(train.class_names)}")

    teacher = keras.models.load_model(FLAGS.teacher) if FLAGS.teacher else train_teacher(train)
    student = build_network(train, widths=(16, 32, 64))
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    compile_for(distiller, FLAGS.steps)
    distiller.fit(train.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=2)
    accuracy = distiller.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    print(f"Test accuracy of the student: {accuracy:.1%}")

    report = l2rkd_tf.export.export_litert(student, FLAGS.output, "int8", representative_data=train)
    print(f"{FLAGS.output}: {report.bytes:,} bytes, agrees on {report.top1_agreement:.1%}")


def train_teacher(train):
    """A convnet trained on the images themselves."""
    teacher = build_network(train, widths=(32, 64, 128, 256))
    compile_for(teacher, FLAGS.teacher_epochs * len(train))
    teacher.fit(train, epochs=FLAGS.teacher_epochs, verbose=2)
    return teacher


def build_network(dataset, widths):
    """A convnet for the images and classes of a dataset."""
    return l2rkd_tf.models.convnet(
        dataset.element_spec[0].shape[1:], len(dataset.class_names), widths
    )


def compile_for(model, steps):
    """Compiles a classifier or a distiller for this number of training steps."""
    rate = keras.optimizers.schedules.CosineDecay(0.003, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])


if __name__ == "__main__":
    app.run(main)
