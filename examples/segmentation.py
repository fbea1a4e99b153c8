"""Distill a network that tells the class of each pixel.

    python examples/segmentation.py --output=student.tflite

Which pixels of a noisy scene are ink, dark or light? The scenes are drawn on first use, without a
download. A region point has patches of another scene, and each pixel moves with its patch.
"""

import keras
import tensorflow as tf
from absl import app, flags, logging
from keras import layers

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_integer("teacher_steps", 100, "Training steps of the teacher.", lower_bound=1)
flags.DEFINE_integer("steps", 150, "Training steps of the student.", lower_bound=1)
flags.DEFINE_string("output", "student.tflite", "File to write.")

CLASSES = 2


def main(argv):
    """Trains the teacher, distills it and exports the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(0)
    train, test = (load_scenes(split) for split in ("train", "test"))

    teacher = build_network(width=12)
    fit("Teacher", teacher, FLAGS.teacher_steps, train, test)

    student = build_network(width=4)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, temperature=1.0, seed=0)
    fit("Student", distiller, FLAGS.steps, train, test)

    export = l2rkd_tf.export.export_litert(student, FLAGS.output, "int8", representative_data=train)
    agreement = export.top1_agreement
    print(f"{FLAGS.output}: {export.bytes:,} bytes, agrees on {agreement:.1%} of the pixels")


def load_scenes(split):
    """Images, and 1 where a pixel belongs to any of the ten digits."""
    scenes = l2rkd_tf.data.load("glyph_scenes", split, batch_size=16)
    return scenes.map(lambda image, mask: (image, tf.cast(mask < 10, "int32")))


def build_network(width):
    """A small U-Net: it looks at a half and a quarter of the resolution, and returns to all."""
    image = keras.Input((32, 32, 1))
    full = convolve(image, width)
    half = convolve(layers.MaxPooling2D()(full), 2 * width)
    quarter = convolve(convolve(layers.MaxPooling2D()(half), 4 * width), 4 * width)
    half = convolve(layers.Concatenate()([half, layers.UpSampling2D()(quarter)]), 2 * width)
    full = convolve(layers.Concatenate()([full, layers.UpSampling2D()(half)]), width)
    return keras.Model(image, layers.Conv2D(CLASSES, 1)(full))


def convolve(maps, width):
    """A 3x3 convolution with BatchNorm."""
    maps = layers.Conv2D(width, 3, padding="same", use_bias=False)(maps)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(maps))


def fit(title, model, steps, train, test):
    """Trains a network or a distiller, and prints its mean intersection over union."""
    rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    iou = keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False, name="iou")
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[iou])
    model.fit(train.repeat(), epochs=1, steps_per_epoch=steps, verbose=0)
    print(f"{title}: mean IoU {model.evaluate(test, verbose=0, return_dict=True)['iou']:.1%}")


if __name__ == "__main__":
    app.run(main)
