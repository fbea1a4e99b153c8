"""The main job on real data, in minutes: a small student of a good teacher, from very few images.

    make demo

Trains a teacher on all 1000 training digits, then three students on 10 % of them: alone, with
plain distillation (KD), and with L2RKD. Prints a table, exports the L2RKD student for a server and
for a phone, and draws what each student makes of the plane through three test images. Everything
is written to the folder of `--output`.
"""

import os
import sys

import numpy as np
import run_flags
import training
from absl import app, flags
from run_folder import run_folder, versions, write_json

from l2rkd_tf import export, plots

FLAGS = flags.FLAGS

flags.DEFINE_float("fraction", 0.1, "Part of the training data for the students.", 0.0, 1.0)
flags.DEFINE_integer("seed", 0, "Seed of few-shot subset, initial weights and draws.", 0)
flags.DEFINE_integer("epochs", 5, "Epochs of each student.", lower_bound=1)
flags.DEFINE_integer("steps_per_epoch", 800, "Steps of an epoch.", lower_bound=1)
flags.DEFINE_integer("teacher_epochs", 40, "Epochs of the teacher, 20 steps each.", lower_bound=1)
flags.DEFINE_string("output", "runs/demo", "Folder of the results; an earlier one is replaced.")
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")

# Progress bars for people, a line an epoch for files.
VERBOSE = 1 if sys.stdout.isatty() else 2
NAMES = {"none": "student alone", "kd": "KD", "l2rkd": "L2RKD"}


def distil_all(teacher):
    """One student for each method, with its metrics: two dicts by the method's name."""
    train, validation, test = training.load_splits(
        "digits", 50, fraction=FLAGS.fraction, seed=FLAGS.seed
    )
    students, metrics = {}, {}
    for method, name in NAMES.items():
        print(f"\n{name}: {train.num_examples} images")
        students[name] = training.build_network(train, (16, 32), FLAGS.seed)
        options = {} if method == "none" else {"seed": FLAGS.seed}
        trainee = training.build_trainee(method, teacher, students[name], **options)
        _, step_ms = training.fit(
            trainee,
            train,
            epochs=FLAGS.epochs,
            steps_per_epoch=FLAGS.steps_per_epoch,
            learning_rate=1e-2,
            verbose=VERBOSE,
        )
        metrics[name] = training.measure(students[name], validation, test, step_ms)
    return students, metrics


def table(metrics):
    """Markdown: accuracy on the test split, parameters, time of a step."""
    lines = ["| model | test accuracy | parameters | ms a step |", "|---|---|---|---|"]
    for name, row in metrics.items():
        lines.append(
            f"| {name} | {row['test']['accuracy']:.1%} | {row['parameters']:,} | "
            f"{row['milliseconds_per_step']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def three_examples(dataset, classes=(3, 5, 8)):
    """The first image of each of three classes."""
    images, labels = next(dataset.as_numpy_iterator())
    return np.stack([images[np.argmax(labels == label)] for label in classes])


def export_for_server_and_phone(student, folder, examples):
    """SavedModel and int8 LiteRT, each checked against the Keras model."""
    path = os.path.join(folder, "student_saved_model")
    saved_model = export.export_saved_model(student, path, representative_data=examples)
    path = os.path.join(folder, "student.tflite")
    litert = export.export_litert(student, path, quantization="int8", representative_data=examples)
    for name, report in (("SavedModel", saved_model), ("LiteRT int8", litert)):
        print(
            f"{name}: {report.bytes:,} bytes, top-1 agreement with Keras "
            f"{report.top1_agreement:.1%}, largest difference {report.max_abs_difference:.2g} "
            f"of a span of {report.output_spread:.3g}"
        )


def main(argv):
    """Runs the demo."""
    run_flags.start(argv)
    with run_folder(FLAGS.output, overwrite=True) as folder:
        print("teacher: all images, half a minute")
        teacher, _, teacher_metrics = training.train_teacher(
            "digits", epochs=FLAGS.teacher_epochs, verbose=0
        )
        students, metrics = distil_all(teacher)
        results = table({"teacher": teacher_metrics, **metrics})
        with open(os.path.join(folder, "table.md"), "w") as file:
            file.write(results)
        write_json(
            os.path.join(folder, "results.json"),
            {"teacher": teacher_metrics, **metrics, "versions": versions()},
        )
        print(f"\n{results}")
        train, _, test = training.load_splits("digits", 256)
        export_for_server_and_phone(students["L2RKD"], folder, train)
        plots.decision_map(
            {"teacher": teacher, **students},
            three_examples(test),
            class_names=test.class_names,
            path=os.path.join(folder, "decision_map.png"),
            title="The plane through three test images, seen by teacher and students",
        )
    print(f"Students, exports, table and picture are in {FLAGS.output}")


if __name__ == "__main__":
    app.run(main)
