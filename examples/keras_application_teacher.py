"""Use a network of `keras.applications` as the teacher.

    python examples/keras_application_teacher.py --network=MobileNet

The network gets a new head for the ten digits. Resizing and scaling are layers of the teacher, so
teacher and student take the same images. By default the network starts from random weights;
`--pretrained` starts from ImageNet weights, which Keras downloads once.
"""

import keras
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("network", "MobileNet", "Name of the network in keras.applications.")
flags.DEFINE_boolean("pretrained", False, "Whether to start from ImageNet weights.")
flags.DEFINE_integer("teacher_epochs", 10, "Training epochs of the teacher.", lower_bound=1)
flags.DEFINE_integer("steps", 500, "Training steps of the student.", lower_bound=1)

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def main(argv):
    """Trains the teacher and a student, and prints the size and accuracy of both."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    keras.utils.set_random_seed(0)
    few = l2rkd_tf.data.load("digits", "train", batch_size=50, fraction=0.1)
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)

    teacher = train_teacher()
    report("Teacher", teacher, teacher, test)

    student = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(16, 32))
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    compile_for(distiller, 0.03, FLAGS.steps)
    distiller.fit(few.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=2)
    report("Student", distiller, student, test)


def train_teacher():
    """The network with a new head, trained on all training images."""
    train = l2rkd_tf.data.load("digits", "train", batch_size=50)
    teacher = l2rkd_tf.models.application(
        FLAGS.network, (8, 8, 1), num_classes=10, pretrained=FLAGS.pretrained
    )
    for layer in teacher.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # Few steps: the moving averages have to converge faster.
    compile_for(teacher, 0.001, FLAGS.teacher_epochs * len(train))
    teacher.fit(train, epochs=FLAGS.teacher_epochs, verbose=2)
    return teacher


def compile_for(model, learning_rate, steps):
    """Compiles a classifier or a distiller for this number of training steps."""
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])


def report(title, model, network, dataset):
    """Prints the parameters of a network and its accuracy, as `model` evaluates it."""
    accuracy = model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"]
    print(f"{title}: {network.count_params():,} parameters, test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    app.run(main)
