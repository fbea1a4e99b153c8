"""`l2rkd demo`: the main job on real data, in minutes: an accurate student from very few images.

Trains a teacher on all 1,000 training digits, then three students on 10 % of them: with labels
only, with plain distillation (KD), and with L2RKD. Prints a table, exports the L2RKD student for a
server and for a phone, and draws how each model classifies the plane through three test images.
"""

import contextlib
import importlib
import os

import numpy as np
from absl.flags import FlagValues

from l2rkd_command.silence import stderr_only_of_failures
from l2rkd_tf import export, plots
from l2rkd_tf.cli.common import plan, training
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.run_folder import run_folder, versions
from l2rkd_tf.utils import tables
from l2rkd_tf.utils.files import write_json, write_text

__all__ = ["run"]

_STUDENTS = {"none": "student only", "kd": "KD", "l2rkd": "L2RKD"}
_WIDTHS = (16, 32)
_LEARNING_RATE = 1e-2
_BATCH_SIZE = 50
_FILES = "table.md, results.json, decision_map.png, student.tflite and student_saved_model"


def run(flags: FlagValues) -> None:
    """Runs the demo.

    Args:
        flags: Flags of `l2rkd_command.flags.demo`, parsed and checked.
    """
    if flags.dry_run:
        plan.show("demo", _plan(flags))
        return
    # Needed for the picture at the end: that it is missing is told before minutes of training.
    importlib.import_module("matplotlib")
    console = Console(flags.verbose, total=len(_STUDENTS) + 2)
    with run_folder(flags.output) as folder:
        teacher, teacher_metrics = _train_teacher(flags, console)
        students, metrics = _distill(flags, teacher, console)
        metrics = {"teacher": teacher_metrics, **metrics}
        table = _table(metrics)
        write_text(os.path.join(folder, "table.md"), table)
        write_json(os.path.join(folder, "results.json"), {**metrics, "versions": versions()})
        console.step("Exporting the L2RKD student, and drawing the decision map")
        train, _, test = training.load_splits("digits", 256)
        quiet = contextlib.nullcontext if flags.verbose == 2 else stderr_only_of_failures
        with quiet():
            reports = _export(students["L2RKD"], folder, train)
        _tell_exports(reports, console)
        plots.decision_map(
            {"teacher": teacher, **students},
            _three_examples(test),
            class_names=test.class_names,
            path=os.path.join(folder, "decision_map.png"),
            title="The plane through three test images, seen by teacher and students",
        )
    _report(flags, console, table, metrics)


def _train_teacher(flags, console):
    """The teacher and its metrics."""
    console.step("Training the teacher on all 1,000 images, about half a minute")
    teacher, _, metrics = training.train_teacher("digits", epochs=flags.teacher_epochs, verbose=0)
    return teacher, metrics


def _distill(flags, teacher, console):
    """One student for each method, with its metrics: two dicts by the method's name."""
    train, validation, test = training.load_splits(
        "digits", _BATCH_SIZE, fraction=flags.fraction, seed=flags.seed
    )
    students, metrics = {}, {}
    for method, name in _STUDENTS.items():
        console.step(f"Training a student on {train.num_examples} images: {name}")
        students[name] = training.build_network(train, _WIDTHS, flags.seed)
        options = {} if method == "none" else {"seed": flags.seed}
        trainee = training.build_trainee(method, teacher, students[name], **options)
        _, step_ms = training.fit(
            trainee,
            train,
            epochs=flags.epochs,
            steps_per_epoch=flags.steps_per_epoch,
            learning_rate=_LEARNING_RATE,
            verbose=console.keras_verbose,
        )
        metrics[name] = training.measure(students[name], validation, test, step_ms)
    return students, metrics


def _table(metrics):
    """Markdown: accuracy on the test split, parameters, time of a step."""
    rows = [
        [
            name,
            f"{row['test']['accuracy']:.1%}",
            f"{row['parameters']:,}",
            f"{row['milliseconds_per_step']:.1f}",
        ]
        for name, row in metrics.items()
    ]
    header = ["model", "test accuracy", "parameters", "ms a step"]
    return tables.markdown_table(header, rows) + "\n"


def _three_examples(dataset, classes=(3, 5, 8)):
    """The first image of each of three classes."""
    images, labels = next(dataset.as_numpy_iterator())
    return np.stack([images[np.argmax(labels == label)] for label in classes])


def _export(student, folder, examples):
    """SavedModel and int8 LiteRT, each checked against the Keras model: reports by name."""
    saved_model = os.path.join(folder, "student_saved_model")
    litert = os.path.join(folder, "student.tflite")
    return {
        "SavedModel": export.export_saved_model(student, saved_model, representative_data=examples),
        "LiteRT int8": export.export_litert(
            student, litert, quantization="int8", representative_data=examples
        ),
    }


def _tell_exports(reports, console):
    """Says how the exported files compare with the Keras model."""
    for name, report in reports.items():
        console.note(
            f"{name}: {report.bytes:,} bytes, top-1 agreement with Keras "
            f"{report.top1_agreement:.1%}, largest difference {report.max_abs_difference:.2g} "
            f"at a spread of {report.output_spread:.3g}"
        )


def _report(flags, console, table, metrics):
    """The table, one sentence about it, the files, and what to run next."""
    accuracy = {name: f"{row['test']['accuracy']:.1%}" for name, row in metrics.items()}
    ratio = metrics["teacher"]["parameters"] / metrics["L2RKD"]["parameters"]
    console.result(f"\n{table}")
    console.result(
        f"With {flags.fraction:.0%} of the training images, the L2RKD student reaches "
        f"{accuracy['L2RKD']}; with plain distillation it reaches {accuracy['KD']}, without a "
        f"teacher {accuracy['student only']}. Its teacher, {ratio:.0f} times as large and trained "
        f"on all images, reaches {accuracy['teacher']}."
    )
    console.result(f"Results in {flags.output}: {_FILES}.")
    console.next("train-teacher", "--dataset=FOLDER_OF_YOUR_IMAGES", "--image_size=32")


def _plan(flags):
    """The lines of `--dry_run`."""
    steps = f"{flags.epochs} epochs of {flags.steps_per_epoch} steps"
    return {
        "Data": f"digits; the teacher gets 1,000 images, students {flags.fraction:.0%} of them",
        "Teacher": f"convnet, {flags.teacher_epochs} epochs of 20 steps",
        "Students": f"{', '.join(_STUDENTS.values())}: {steps} each, seed {flags.seed}",
        "Output": f"{_FILES} in {flags.output}",
    }
