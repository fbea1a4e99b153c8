"""Trains the three models of the browser demo and exports them for its page.

    python examples/web/train_models.py --output=runs/web

A teacher of all 1,000 training digits, and two students of 5 % of them: plain distillation (KD) and
L2RKD, which differ in nothing else. For each model the folder contains `<name>.keras`, and
`<name>.tflite` in float32. `models.json` tells the page what the models are, their accuracy on the
test images, and what they output for some of them.
"""

import os

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from l2rkd_tf import export
from l2rkd_tf.cli.common import training
from l2rkd_tf.cli.common.run_folder import run_folder, versions
from l2rkd_tf.utils.files import write_json

FLAGS = flags.FLAGS

flags.DEFINE_float("fraction", 0.05, "Fraction of the training data for the students.", 0.0, 1.0)
flags.DEFINE_integer("seed", 0, "Seed of the subset, the initial weights and the draws.", 0)
flags.DEFINE_integer("epochs", 5, "Epochs of each student.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 800, "Steps of an epoch.", lower_bound=1)
flags.DEFINE_integer("teacher_epochs", 40, "Epochs of the teacher, 20 steps each.", lower_bound=1)
flags.DEFINE_integer("examples_per_class", 3, "Test images of each class for the page.", 1)
flags.DEFINE_string("output", "runs/web", "Folder of the results; an earlier one is replaced.")
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")

STUDENTS = {"kd": "KD student", "l2rkd": "L2RKD student"}
# The images of the dataset have 17 grey levels.
LARGEST_LEVEL = 16


def distill(method, teacher, train):
    """A student of the teacher; two methods differ only in the objective."""
    student = training.build_network(train, (16, 32), FLAGS.seed)
    training.fit(
        training.build_trainee(method, teacher, student, seed=FLAGS.seed),
        train,
        epochs=FLAGS.epochs,
        steps_per_epoch=FLAGS.steps_per_epoch,
        learning_rate=2e-3,
        verbose=0,
    )
    return student


def save(model, name, folder):
    """Saves a model, and exports it for one image at a time.

    LiteRT's runtime for browsers does not accept files with a dynamic batch size.
    """
    model.save(os.path.join(folder, f"{name}.keras"))
    export.export_litert(model, os.path.join(folder, f"{name}.tflite"), batch_size=1)


def describe(model, name, title, num_examples, test):
    """What the page shows about a model."""
    return {
        "name": name,
        "title": title,
        "file": f"{name}.tflite",
        "parameters": model.count_params(),
        "training_images": num_examples,
        "test_accuracy": training.evaluate(model, test)["accuracy"],
    }


def pick_examples(models, test):
    """The first test images of each class, with the probabilities that Keras outputs.

    Args:
        models: Dict of models by name.
        test: Batches of the test split.

    Returns:
        A list of dicts with `label`, `levels` (64 integers from 0 to 16) and `probabilities` (dict
        of 10 floats by the model's name).
    """
    images, labels = map(np.concatenate, zip(*test.as_numpy_iterator(), strict=True))
    classes = range(len(test.class_names))
    chosen = [np.flatnonzero(labels == label)[: FLAGS.examples_per_class] for label in classes]
    images, labels = images[np.concatenate(chosen)], labels[np.concatenate(chosen)]
    levels = np.rint(images * LARGEST_LEVEL).astype(int).reshape(len(images), -1)
    probabilities = {
        name: keras.ops.convert_to_numpy(keras.ops.softmax(model(images)))
        for name, model in models.items()
    }
    return [
        {
            "label": int(label),
            "levels": levels[position].tolist(),
            "probabilities": {name: probabilities[name][position].tolist() for name in models},
        }
        for position, label in enumerate(labels)
    ]


def main(argv):
    """Trains, exports and describes the three models."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("ERROR")  # Each model is traced; TensorFlow would warn.
    few, _, test = training.load_splits("digits", 50, fraction=FLAGS.fraction, seed=FLAGS.seed)
    everything, _, _ = training.load_splits("digits", 50)
    print("The teacher, on all training images ...", flush=True)
    teacher, *_ = training.train_teacher(
        "digits", epochs=FLAGS.teacher_epochs, seed=FLAGS.seed, verbose=0
    )
    models = {"teacher": teacher}
    titles, sizes = {"teacher": "Teacher"}, {"teacher": everything.num_examples}
    for name, title in STUDENTS.items():
        print(f"{title}, on {few.num_examples} images ...", flush=True)
        models[name] = distill(name, teacher, few)
        titles[name], sizes[name] = title, few.num_examples
    rows = [
        describe(model, name, titles[name], sizes[name], test) for name, model in models.items()
    ]
    with run_folder(FLAGS.output) as folder:
        for name, model in models.items():
            save(model, name, folder)
        description = {
            "class_names": test.class_names,
            "test_images": test.num_examples,
            "steps": FLAGS.epochs * FLAGS.steps_per_epoch,
            "seed": FLAGS.seed,
            "models": rows,
            "examples": pick_examples(models, test),
            "versions": versions(),
        }
        write_json(os.path.join(folder, "models.json"), description)
    for row in rows:
        print(f"{row['title']}: test accuracy {row['test_accuracy']:.1%}")


if __name__ == "__main__":
    app.run(main)
