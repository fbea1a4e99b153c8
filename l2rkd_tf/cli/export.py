"""`l2rkd export`: a trained student as a SavedModel and a LiteRT file, checked on real data.

The folder of `--output` gets `student_saved_model/` and `student.tflite`, each with the report of
its comparison with the Keras model, and `model_card.md`, which says what is known of them.
"""

import contextlib
import os
import pathlib

from absl.flags import FlagValues

from l2rkd_command.errors import UsageError
from l2rkd_command.run_config import read_record
from l2rkd_tf import export
from l2rkd_tf.cli.common import from_flags, plan, student_card, training
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.pages import percent
from l2rkd_tf.cli.common.run_folder import run_folder

__all__ = ["run"]

SAVED_MODEL, LITERT = "student_saved_model", "student.tflite"


def run(flags: FlagValues) -> None:
    """Exports the student twice and writes the card, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.export`, parsed and checked.
    """
    if flags.dry_run:
        plan.show("export", _plan(flags))
        return
    console = Console(flags.verbose, total=4)
    console.step(f"Loading {flags.student} and {flags.dataset}")
    student = from_flags.load_model("student", flags.student)
    examples, _, test = from_flags.load_splits(flags)
    from_flags.check_fits("student", flags.student, student, test)
    accuracy = training.evaluate(student, test)["accuracy"]
    with _export_errors(flags), run_folder(flags.output) as folder:
        reports = _export_both(flags, student, examples, pathlib.Path(folder), console)
        console.step("Writing the model card")
        student_card.write_card(
            pathlib.Path(folder),
            reports,
            model=(flags.student, student.name),
            record={part: read_record(flags.student, part) for part in ("config", "metrics")},
            data=(flags.dataset, flags.splits, test),
            measurements=[
                student_card.counted("Keras student", "test accuracy", accuracy, test.num_examples)
            ],
            use=flags.intended_use,
        )
    _report(flags, reports[-1], console)


def _export_both(flags, student, examples, folder, console):
    """Exports the student as a SavedModel and as a LiteRT file; returns their reports."""
    console.step("Exporting a SavedModel, and comparing it with the student")
    saved_model = export.export_saved_model(
        student, folder / SAVED_MODEL, representative_data=examples
    )
    console.step("Exporting a LiteRT file, and comparing it with the student")
    litert = export.export_litert(
        student,
        folder / LITERT,
        quantization=None if flags.quantization == "none" else flags.quantization,
        representative_data=examples,
        min_top1_agreement=flags.min_top1_agreement,
    )
    for report in (saved_model, litert):
        console.note(_describe(report))
    return [saved_model, litert]


@contextlib.contextmanager
def _export_errors(flags):
    """Turns an export that is not as the student into an error of a flag."""
    try:
        yield
    except export.ExportError as error:
        if flags.quantization == "none":
            raise UsageError("student", f"cannot be exported: {error}") from error
        message = f"--quantization={flags.quantization} cannot be used: {error}"
        raise UsageError("", message) from error


def _describe(report):
    """One line about an export."""
    return (
        f"{report.artifact}: {report.bytes:,} bytes, largest difference "
        f"{report.max_abs_difference:.2g} (spread of the outputs: {report.output_spread:.3g})"
    )


def _report(flags, litert, console):
    """Tells how large and how faithful the file is, where everything is, and what to run next."""
    same = (
        f" and classifies {percent(litert.top1_agreement)} of {litert.num_examples} training "
        "examples as the Keras student does"
        if litert.top1_agreement is not None
        else ""
    )
    path = os.path.join(flags.output, LITERT)
    console.result(f"{path} (quantization {flags.quantization}) has {litert.bytes:,} bytes{same}.")
    console.note(
        f"SavedModel: {os.path.join(flags.output, SAVED_MODEL)}; model card: "
        f"{os.path.join(flags.output, student_card.CARD)}"
    )
    console.next("benchmark", f"--student={flags.student}")


def _plan(flags):
    """The lines of `--dry_run`."""
    student = from_flags.load_model("student", flags.student)
    names = (SAVED_MODEL, LITERT, student_card.CARD)
    return {
        "Student": f"{plan.describe_model(student)}, from {flags.student}",
        "Data": plan.describe_data(flags, plan.load_or_none(flags)),
        "Export": f"a SavedModel, and a LiteRT file with quantization {flags.quantization}",
        "Output": ", ".join(os.path.join(flags.output, name) for name in names),
    }
