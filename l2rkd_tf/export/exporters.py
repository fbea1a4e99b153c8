"""The exporters: each writes an artifact, runs it, and reports on it."""

import math
from typing import Literal

import keras
import tensorflow as tf

from l2rkd_tf.export import child_process
from l2rkd_tf.export.artifacts import (
    run_litert,
    run_saved_model,
    write_litert,
    write_saved_model,
)
from l2rkd_tf.export.examples import Examples, RepresentativeData, examples_for
from l2rkd_tf.export.parity import Limits, worst
from l2rkd_tf.export.paths import checked_file, checked_folder, report_path
from l2rkd_tf.export.reference import check_not_quantized, check_student, reference_for
from l2rkd_tf.export.report import ExportError, ExportReport
from l2rkd_tf.export.verdict import checked_comparisons, warn_of_outliers
from l2rkd_tf.utils.files import atomic_path
from l2rkd_tf.utils.types import PathLike, Quantization
from l2rkd_tf.utils.validation import check_choice, is_number

__all__ = ["DEFAULT_MIN_TOP1_AGREEMENT", "DEFAULT_TOLERANCE", "export_litert", "export_saved_model"]

# Ten times the errors of small networks, in float32 a few hundred times: see `export_litert`.
DEFAULT_TOLERANCE = {None: 1e-4, "float16": 1e-2, "dynamic": 5e-2, "int8": 0.15}
DEFAULT_MIN_TOP1_AGREEMENT = {None: 0.98, "float16": 0.98, "dynamic": 0.98, "int8": 0.95}


def export_saved_model(
    student: keras.Model,
    path: PathLike,
    *,
    representative_data: RepresentativeData | None = None,
    tolerance: float | None = None,
    min_top1_agreement: float | None = None,
) -> ExportReport:
    """Exports the student as a TensorFlow SavedModel, for servers, and verifies it.

    The artifact is one folder with a `serving_default` signature. A dict of inputs keeps its
    keys as names; a named `keras.Input` keeps its name; any other input is called `input_0`,
    `input_1` and so on. The output is `output_0`. Several outputs are called as in the dict
    that the student returns, or as the layers that make them; each is compared separately, with its
    own spread, and all must agree with the student's.

    Args:
        student: A built `keras.Model` with outputs of shape `(batch, ...)`, one or several by name.
        path: Folder to write, `str` or `pathlib.Path`. Missing parents are made. An older
            export at `path` is replaced once the new one has been verified.
        representative_data: Inputs for comparing the artifact with the student: arrays of shape
            `(examples, ...)` in the structure of the student's inputs, a batched `tf.data.Dataset`
            or a `keras.utils.PyDataset`, all of them of `x`, `(x, y)` or `(x, y, sample_weight)`,
            where `x` may carry cached teacher outputs. At most 256 examples are used. Default: 32
            examples, uniform on [0, 1].
        tolerance: Largest accepted absolute difference of the outputs, as a fraction of the spread
            of the student's outputs: twice the distance from their median that all outputs of 90 %
            of the examples keep, so that a few outliers do not matter. Default: 1e-4.
        min_top1_agreement: Smallest accepted fraction of examples whose largest output is the same,
            from 0 to 1. It does not apply to outputs of one number; pass 0 for outputs that are not
            classes. Default: 0.98.

    Returns:
        An `ExportReport`, also written to `<path>.json`.

    Raises:
        ValueError: If `student` is not a built model or its outputs are not as above, `path` cannot
            be used, `representative_data` does not fit the student's inputs or holds NaN or Inf, or
            `tolerance` or `min_top1_agreement` is out of range.
        ExportError: If the student is random when it does not train, or outputs of the artifact are
            NaN or Inf, differ from the student's by more than `tolerance`, or agree with them less
            often than `min_top1_agreement`. What was at `path` then stays.

    Example:
        >>> import os, tempfile
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> report = export_saved_model(student, os.path.join(tempfile.mkdtemp(), "student"))
        >>> report.top1_agreement
        1.0
    """
    path = checked_folder(path)
    limits = _checked_limits(tolerance, min_top1_agreement, None)
    check_student(student)
    reference = reference_for(student, examples_for(student, representative_data))
    with atomic_path(report_path(path)) as report, atomic_path(path) as artifact:
        write_saved_model(reference.model, reference.examples.specs, artifact)
        run = run_saved_model(artifact, reference.examples.by_name)
        result = _report(artifact, run, reference, None, limits)
        report.write_text(result.to_json())
    return result


def export_litert(
    student: keras.Model,
    path: PathLike,
    quantization: Quantization | None = None,
    representative_data: RepresentativeData | None = None,
    *,
    tolerance: float | None = None,
    min_top1_agreement: float | None = None,
    batch_size: Literal[1] | None = None,
) -> ExportReport:
    """Exports the student as a LiteRT (`.tflite`) file, for devices, and verifies it.

    Only LiteRT's built-in operations are used, so that every LiteRT runtime can run the file. It
    accepts any batch size, unless LiteRT cannot compute the student that way (recurrent layers):
    then the file takes one example at a time, as the report's `inputs` show. Inputs and outputs
    are named as in `export_saved_model`.

    | `quantization` | weights | activations | default tolerance | measured |
    |---|---|---|---|---|
    | `None` | float32 | float32 | 1e-4 | 3e-7 |
    | `"float16"` | float16 | float32 | 1e-2 | 5e-4 |
    | `"dynamic"` | int8 | float32 | 5e-2 | 6e-3 |
    | `"int8"` | int8 | int8 | 0.15 | 2e-2 |

    The last column is the largest difference, as a fraction of the spread of the outputs, measured
    for a small convolutional, a residual, a depthwise-separable and a dense network on 8x8 digits.
    Outputs of the file are always float32, as are inputs of a student of floats; with `"int8"` the
    first operation quantizes and the last one dequantizes, with integer arithmetic in between.

    Args:
        student: A built `keras.Model` with outputs of shape `(batch, ...)`, one or several by name.
        path: File to write, ending in `.tflite`, `str` or `pathlib.Path`. Missing parents are
            made. An older file is replaced once the new one has been verified.
        quantization: `None`, `"dynamic"`, `"float16"` or `"int8"`.
        representative_data: Inputs for comparing the artifact with the student, as in
            `export_saved_model`. `"int8"` requires them, to determine the ranges of the
            activations. Values far outside the range of the others are warned about.
        tolerance: Largest accepted absolute difference of the outputs, as a fraction of their
            spread, as in `export_saved_model`. Default: see the table.
        min_top1_agreement: As in `export_saved_model`. Default: 0.98, and 0.95 for `"int8"`.
        batch_size: `None` for any batch size, or 1 for one example at a time, which some runtimes
            require, such as that for browsers and delegates for accelerators.

    Returns:
        An `ExportReport`, also written to `<path>.json`.

    Raises:
        ValueError: If `student` is not a built model or its outputs are not as above, `path` cannot
            be used, `representative_data` does not fit the student's inputs or holds NaN or Inf, or
            `tolerance` or `min_top1_agreement` is out of range.
        ExportError: If LiteRT cannot express the student, or its converter crashes, or for the
            reasons of `export_saved_model`. What was at `path` then stays.

    Example:
        >>> import os, tempfile
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> images = np.random.default_rng(0).random((64, 8), dtype="float32")
        >>> path = os.path.join(tempfile.mkdtemp(), "student.tflite")
        >>> report = export_litert(student, path, "int8", images)
        >>> report.num_examples
        64
    """
    path = checked_file(path)
    check_choice("quantization", quantization, list(DEFAULT_TOLERANCE))
    if quantization == "int8" and representative_data is None:
        raise ValueError(
            "`representative_data` is required for quantization='int8', to determine the ranges "
            "of the activations. Pass the training dataset, or an array of about 100 inputs."
        )
    if batch_size not in (None, 1):
        raise ValueError(
            "`batch_size` must be None, for any batch size, or 1. Received: "
            f"batch_size={batch_size!r}"
        )
    limits = _checked_limits(tolerance, min_top1_agreement, quantization)
    check_student(student)
    check_not_quantized(student)
    examples = examples_for(student, representative_data)
    _check_no_text(examples)
    if quantization == "int8":
        warn_of_outliers(examples)
    child_process.start()
    reference = reference_for(student, examples)
    with atomic_path(report_path(path)) as report, atomic_path(path) as artifact:
        batch_sizes = [None, 1] if batch_size is None else [batch_size]
        write_litert(reference.model, examples, artifact, quantization, batch_sizes)
        run = run_litert(artifact, examples.by_name)
        result = _report(artifact, run, reference, quantization, limits)
        report.write_text(result.to_json())
    return result


def _check_no_text(examples: Examples) -> None:
    for spec in keras.tree.flatten(examples.specs):
        if spec.dtype == tf.string:
            raise ExportError(
                f"LiteRT has no strings, and the input {spec.name!r} of the student takes them. "
                "Export the part of the student after the layer that turns text into numbers "
                "(such as TextVectorization or StringLookup), and run that layer in your program; "
                "or use `export_saved_model`."
            )


def _checked_limits(tolerance, min_top1_agreement, quantization):
    """Both limits, or the defaults of the quantization."""
    if tolerance is None:
        tolerance = DEFAULT_TOLERANCE[quantization]
    if min_top1_agreement is None:
        min_top1_agreement = DEFAULT_MIN_TOP1_AGREEMENT[quantization]
    if not is_number(tolerance) or not 0 <= tolerance < math.inf:
        raise ValueError(
            "`tolerance` must be a finite number of at least 0: the accepted difference as a "
            f"fraction of the spread of the outputs. Received: tolerance={tolerance!r}"
        )
    if not is_number(min_top1_agreement) or not 0 <= min_top1_agreement <= 1:
        raise ValueError(
            "`min_top1_agreement` must be a number from 0 to 1: the fraction of examples whose "
            f"largest output must be the same. Received: min_top1_agreement={min_top1_agreement!r}"
        )
    return Limits(float(tolerance), float(min_top1_agreement))


def _report(artifact, run, reference, quantization, limits):
    """The report of an artifact that agrees with the student; raises if it does not."""
    comparisons = checked_comparisons(run, reference, quantization, limits)
    files = _file_sizes(artifact)
    return ExportReport(
        artifact=artifact.name,
        format="saved_model" if artifact.is_dir() else "litert",
        quantization=quantization,
        bytes=sum(files.values()),
        files=files,
        parameters=reference.model.count_params(),
        **worst(comparisons.values())._asdict(),
        **limits._asdict(),
        num_examples=len(reference.examples.positions),
        example_source=reference.examples.source,
        input_range={
            name: [float(array.min()), float(array.max())]
            for name, array in reference.examples.by_name.items()
            if array.dtype != object
        },
        inputs=run.inputs,
        outputs=_described(run.outputs, comparisons),
        rebuilt_in_float32=reference.copy_difference is not None,
        rebuild_max_abs_difference=reference.copy_difference,
        versions={"keras": keras.__version__, "tensorflow": tf.__version__, **run.versions},
    )


def _described(signature, comparisons):
    """Each output of the signature, in the student's order; of several, with its differences."""
    by_name = {output["name"]: output for output in signature}
    if len(comparisons) == 1:
        return signature
    return [by_name[name] | one._asdict() for name, one in comparisons.items()]


def _file_sizes(artifact):
    if artifact.is_file():
        return {artifact.name: artifact.stat().st_size}
    return {
        file.relative_to(artifact).as_posix(): file.stat().st_size
        for file in sorted(artifact.rglob("*"))
        if file.is_file()
    }
