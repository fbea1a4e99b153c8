"""Writes and runs the two kinds of artifacts."""

import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.export import child_process
from l2rkd_tf.export.examples import Examples, batches
from l2rkd_tf.export.layer_search import describe, named_in, rolled_recurrent
from l2rkd_tf.export.outputs import concatenated, inference
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.utils.types import PathLike, Quantization

__all__ = ["Run", "run_litert", "run_saved_model", "write_litert", "write_saved_model"]

_LONGEST = 300  # characters of the converter's own message


class Run(NamedTuple):
    """Outputs of an artifact by name, its signature, and the version of the runtime."""

    results: dict[str, np.ndarray]
    inputs: list
    outputs: list
    versions: dict


def write_saved_model(
    model: keras.Model, specs: Any, artifact: PathLike, batch_size: int | None = None
) -> None:
    """Writes a SavedModel of the model at inference, for any batch size or a fixed one."""
    specs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec((batch_size, *spec.shape[1:]), spec.dtype, spec.name), specs
    )
    # Not `model.export`: random layers augment in what it traces, with training=None.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda x: inference(model, x), [specs])
    archive.write_out(str(artifact), verbose=False)


def run_saved_model(artifact: pathlib.Path, named_arrays: Mapping[str, np.ndarray]) -> Run:
    """Runs a SavedModel on the CPU, in this process: with the kernels that the student uses."""
    with tf.device("CPU"):
        model = tf.saved_model.load(str(artifact))
        serve = model.signatures["serving_default"]
        results = concatenated(
            serve(**{name: tf.constant(array) for name, array in batch.items()})
            for batch in batches(named_arrays)
        )
    inputs = _saved_model_signature(serve.structured_input_signature[1])
    outputs = _saved_model_signature(serve.structured_outputs)
    return Run(results, inputs, outputs, {})


def _saved_model_signature(specs):
    return [
        {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}
        for name, spec in specs.items()
    ]


def write_litert(
    model: keras.Model,
    examples: Examples,
    artifact: pathlib.Path,
    quantization: Quantization | None,
    batch_sizes: Sequence[int | None],
) -> None:
    """Writes a `.tflite` file, for the first of the batch sizes that LiteRT supports."""
    for batch_size in batch_sizes:
        with tempfile.TemporaryDirectory(dir=artifact.parent) as name:
            folder = pathlib.Path(name)
            write_saved_model(model, examples.specs, folder / "saved_model", batch_size)
            try:
                child_process.call(
                    "convert",
                    folder,
                    saved_model=folder / "saved_model",
                    artifact=artifact,
                    quantization=quantization,
                    examples=_write_examples(examples.by_name, folder),
                )
            except child_process.ChildError as error:
                failure = error
            except child_process.ChildDied as death:
                raise ExportError(_why_not(model, quantization, death)) from death
            else:
                return
    raise ExportError(_why_not(model, quantization, failure)) from failure


def _why_not(model, quantization, failure):
    """Why there is no `.tflite` file, with the layers that are the cause if they can be told."""
    start = f"LiteRT cannot express this student with quantization={quantization!r}: "
    if isinstance(failure, child_process.ChildDied):
        return start + _why_it_crashed(model, quantization, failure)
    named = "; ".join(named_in(model, str(failure)))
    if not named:
        return start + _short(failure)
    return (
        f"{start}{named}, which LiteRT does not support. Replace the layer, or leave it out and "
        "compute it in your program; or use `export_saved_model`."
    )


def _why_it_crashed(model, quantization, death):
    rolled = ", ".join(map(describe, rolled_recurrent(model)))
    crash = f"its converter crashed, in a process of its own, with {death}."
    if not rolled:
        return crash
    if quantization != "int8":
        return f"{crash} The student has the recurrent layers {rolled}; try unroll=True there."
    return (
        f"{crash} It cannot determine the ranges of int8 inside the loop of the recurrent layers "
        f"{rolled}. Build the student with unroll=True in these layers and set its weights to "
        "`student.get_weights()`, or use another quantization."
    )


def _short(failure):
    text = " ".join(str(failure).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _write_examples(named_arrays, folder):
    file = folder / "examples.npz"
    # Not by keyword: an input may be called `file`.
    np.savez(file, *named_arrays.values(), names=list(named_arrays))
    return file


def run_litert(artifact: pathlib.Path, named_arrays: Mapping[str, np.ndarray]) -> Run:
    """Runs a `.tflite` file on one example at a time, which every such file accepts."""
    with tempfile.TemporaryDirectory(dir=artifact.parent) as name:
        folder = pathlib.Path(name)
        outputs = folder / "outputs.npz"
        try:
            signature = child_process.call(
                "run",
                folder,
                artifact=artifact,
                examples=_write_examples(named_arrays, folder),
                outputs=outputs,
            )
        except (child_process.ChildError, child_process.ChildDied) as error:
            raise ExportError(
                f"LiteRT converted this student, but cannot run the file: {_short(error)}"
            ) from error
        names = [output["name"] for output in signature["outputs"]]
        with np.load(outputs) as arrays:
            results = {name: arrays[f"arr_{place}"] for place, name in enumerate(names)}
        return Run(results, **signature)
