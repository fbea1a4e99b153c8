"""Export a student for phones and run the exported file.

    python examples/export_student.py --student=student.keras --quantization=int8

The export runs the file and compares it with the Keras student before it is written. The report is
saved next to it. The last step reads digits as an app would: with the LiteRT runtime only
(`pip install ai-edge-litert`).
"""

import os

import keras
import numpy as np
from absl import app, flags, logging

import l2rkd_tf

FLAGS = flags.FLAGS

flags.DEFINE_string("student", "student.keras", "Keras file of the student.")
flags.DEFINE_enum("quantization", "int8", ["none", "float16", "dynamic", "int8"], "Number format.")
flags.DEFINE_string("dataset", "digits", "Dataset that the student was trained on.")
flags.DEFINE_string("output", "student.tflite", "File to write.")
flags.register_validator("student", os.path.exists, "must be a file: run distill.py first")


def main(argv):
    """Exports the student, and measures the accuracy of the file."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow Datasets logs every step it takes.
    student = keras.models.load_model(FLAGS.student)
    train = l2rkd_tf.data.load(FLAGS.dataset, "train", batch_size=64)
    test = l2rkd_tf.data.load(FLAGS.dataset, "test", batch_size=256)

    report = l2rkd_tf.export.export_litert(
        student,
        FLAGS.output,
        quantization=None if FLAGS.quantization == "none" else FLAGS.quantization,
        representative_data=train,  # calibrates int8, and serves for the comparison
    )
    print(f"{FLAGS.output}: {report.bytes:,} bytes")
    print(f"Agrees with the Keras student on {report.top1_agreement:.1%} of the examples")
    print(f"Test accuracy of the file: {accuracy_of_file(FLAGS.output, test):.1%}")


def accuracy_of_file(path, dataset):
    """Accuracy of a LiteRT file, without TensorFlow."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path).get_signature_runner()
    (input_name,) = run.get_input_details()
    correct = [
        run(**{input_name: images})["output_0"].argmax(axis=-1) == labels
        for images, labels in dataset.as_numpy_iterator()
    ]
    return np.mean(np.concatenate(correct))


if __name__ == "__main__":
    app.run(main)
