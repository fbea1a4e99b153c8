"""Exports a trained student to SavedModel and to LiteRT, and checks both on real data.

    python examples/export_student.py --student=runs/distill/seed0/model.keras --quantization=int8

Writes `student_saved_model/` and `student.tflite`, each with its parity report as JSON, and
`model_card.md`, which tells what is known of them.
"""

import os

import keras
import run_flags
import training
from absl import app, flags
from benchmark_card import read_record, remove_card, share_row, write_card

from l2rkd_tf import export

FLAGS = flags.FLAGS

run_flags.define_data_flags()
flags.adopt_module_key_flags(run_flags)  # shown by --help, too
flags.DEFINE_string("student", None, "Keras file of the student.", required=True)
flags.DEFINE_enum(
    "quantization", "none", ["none", "dynamic", "float16", "int8"], "Quantization of LiteRT."
)
flags.DEFINE_string("intended_use", "", "What the model is for, in words, for its card.")
flags.DEFINE_string("output", "runs/export", "Folder of the exported files.")
flags.register_validator("student", os.path.isfile, "must be an existing .keras file")


def describe(name, report):
    """One line about an export."""
    agreement = "" if report.top1_agreement is None else f", top-1 {report.top1_agreement:.1%}"
    return (
        f"{name}: {report.bytes:,} bytes, largest difference {report.max_abs_difference:.2g} "
        f"(outputs span {report.output_spread:.3g}){agreement}"
    )


def main(argv):
    """Exports the student twice, prints what the parity checks found, and writes the card."""
    run_flags.start(argv)
    record = read_record(FLAGS.student)
    student = keras.models.load_model(FLAGS.student)
    examples, _, test = training.load_splits(
        FLAGS.dataset, FLAGS.batch_size, **run_flags.data_flags()
    )
    accuracy = training.evaluate(student, test)["accuracy"]
    remove_card(FLAGS.output)
    saved_model = export.export_saved_model(
        student, os.path.join(FLAGS.output, "student_saved_model"), representative_data=examples
    )
    litert = export.export_litert(
        student,
        os.path.join(FLAGS.output, "student.tflite"),
        quantization=None if FLAGS.quantization == "none" else FLAGS.quantization,
        representative_data=examples,
    )
    write_card(
        FLAGS.output,
        [saved_model, litert],
        model=(FLAGS.student, student.name),
        record=record,
        data=(FLAGS.dataset, FLAGS.splits, test),
        measurements=[share_row("Keras student", "test accuracy", accuracy, test.num_examples)],
        use=FLAGS.intended_use,
    )
    print(describe("SavedModel", saved_model))
    print(describe(f"LiteRT, quantization {FLAGS.quantization}", litert))


if __name__ == "__main__":
    app.run(main)
