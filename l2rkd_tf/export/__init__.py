"""Verified exports of a distilled student.

`export_saved_model` (servers) and `export_litert` (phones, browsers, microcontrollers) write the
artifact, run it on real inputs, compare its outputs with those of the Keras student, and only then
move it to its place, with a report next to it: `student.tflite.json` for `student.tflite`. An
export that disagrees with the student raises `ExportError` and leaves nothing behind.

A student in mixed precision is first rebuilt in float32, because LiteRT has no kernels for its
half-precision operations; the student itself does not change.

`model_card_text` says on one page what is known of the exports and what is not, `write_model_card`
writes it, and `wilson_interval` computes the confidence intervals of its accuracies.
"""

from l2rkd_tf.export.exporters import (
    DEFAULT_MIN_TOP1_AGREEMENT,
    DEFAULT_TOLERANCE,
    export_litert,
    export_saved_model,
)
from l2rkd_tf.export.intervals import wilson_interval
from l2rkd_tf.export.model_card import model_card_text, write_model_card
from l2rkd_tf.export.report import ExportError, ExportReport

__all__ = [
    "DEFAULT_MIN_TOP1_AGREEMENT",
    "DEFAULT_TOLERANCE",
    "ExportError",
    "ExportReport",
    "export_litert",
    "export_saved_model",
    "model_card_text",
    "wilson_interval",
    "write_model_card",
]
