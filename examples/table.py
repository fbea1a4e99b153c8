"""Distill an ensemble for a table of numbers and categories into a small network.

    python examples/table.py --output=student.tflite

The table is scikit-learn's `load_diabetes`: 442 patients, and how far their disease progressed in a
year. Numbers are one input, each column of categories is another. In the default region of
a table, a point has each of its values from one of two patients, and then noise is added to its
numbers.
"""

import keras
import tensorflow as tf
from absl import app, flags, logging
from keras import layers
from sklearn import datasets

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_integer("members", 3, "Networks in the teacher.", lower_bound=1)
flags.DEFINE_integer("teacher_epochs", 12, "Training epochs of each of them.", lower_bound=1)
flags.DEFINE_integer("steps", 1000, "Training steps of the student.", lower_bound=1)
flags.DEFINE_string("output", "student.tflite", "File to write.")

CATEGORIES = {"sex": 2, "decade": 8}  # names of the columns, and how many values they have


def main(argv):
    """Trains the teacher, distills it and exports the student."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs every step of an export.
    keras.utils.set_random_seed(0)
    patients = tf.data.Dataset.from_tensor_slices(load_table()).shuffle(442, 0, False)
    train = patients.skip(142).shuffle(300, 0).batch(30)
    test = patients.take(142).batch(142)

    members = [train_member(train) for _ in range(FLAGS.members)]
    teacher = l2rkd_tf.models.ensemble(members, divergence="mse")
    teacher.compile(loss="mse", metrics=["mae"])
    student = build_network(width=16)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, divergence="mse", seed=0)
    distiller.compile(keras.optimizers.Adam(0.003), "mse", metrics=["mae"])
    distiller.fit(train.repeat(), epochs=1, steps_per_epoch=FLAGS.steps, verbose=0)
    for name, model in {"Teacher": teacher, "Student": distiller}.items():
        error = model.evaluate(test, verbose=0, return_dict=True)["mae"]
        print(f"{name}: mean absolute error {error:.3f}")

    report = l2rkd_tf.export.export_litert(student, FLAGS.output, representative_data=train)
    print(f"{FLAGS.output}: {report.bytes:,} bytes, differs by {report.max_abs_difference:.1g}")


def load_table():
    """Inputs by name, and the target; numbers have mean 0 and standard deviation 1."""
    table = datasets.load_diabetes(as_frame=True, scaled=False).frame
    sex, age = (table.pop(name).to_numpy("int32")[:, None] for name in ("sex", "age"))
    numbers = ((table - table.mean()) / table.std()).to_numpy("float32")
    inputs = {"numbers": numbers[:, :-1], "sex": sex - 1, "decade": age // 10}
    return inputs, numbers[:, -1:]


def build_network(width):
    """A network of two hidden layers on the numbers and the one-hot categories."""
    inputs = {name: keras.Input((1,), name=name, dtype="int32") for name in CATEGORIES}
    encoded = [layers.CategoryEncoding(n, "one_hot")(inputs[key]) for key, n in CATEGORIES.items()]
    inputs["numbers"] = keras.Input((8,), name="numbers")
    hidden = layers.Concatenate()([inputs["numbers"], *encoded])
    hidden = layers.Dense(width, "relu")(layers.Dense(width, "relu")(hidden))
    return keras.Model(inputs, layers.Dense(1)(hidden))


def train_member(train):
    """One network of the ensemble, from initial weights of its own."""
    network = build_network(width=256)
    network.compile(keras.optimizers.Adam(0.001), "mse")
    network.fit(train, epochs=FLAGS.teacher_epochs, verbose=0)
    return network


if __name__ == "__main__":
    app.run(main)
