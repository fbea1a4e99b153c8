"""Exports of a distilled student that have been run before anyone relies on them.

`export_saved_model` (servers) and `export_litert` (phones, browsers, microcontrollers) write the
artifact, run it on real inputs, compare its outputs with those of the Keras student, and only
then move it to its place, with a report beside it: `student.tflite.json` for `student.tflite`. An
export that disagrees with the student raises `ExportError` and leaves nothing behind.

A student in mixed precision is first rebuilt in float32, because LiteRT has no kernels for its
half-precision operations; the student itself is left as it is.

`model_card_text` says on one page what is known of exports and what is not, `write_model_card`
writes it, and `wilson_interval` gives the intervals of the accuracies on it.
"""

from l2rkd_tf.export.exporters import DEFAULT_TOLERANCE, export_litert, export_saved_model
from l2rkd_tf.export.model_card import model_card_text, wilson_interval, write_model_card
from l2rkd_tf.export.report import ExportError, ExportReport

__all__ = [
    "DEFAULT_TOLERANCE",
    "ExportError",
    "ExportReport",
    "export_litert",
    "export_saved_model",
    "model_card_text",
    "wilson_interval",
    "write_model_card",
]
