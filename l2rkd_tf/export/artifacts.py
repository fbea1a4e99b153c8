"""Writes and runs the two kinds of artifacts."""

import importlib.metadata
import pathlib
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.export.inputs import Examples, batches
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.utils.types import PathLike, Quantization

__all__ = ["Run", "run_litert", "run_saved_model", "write_litert", "write_saved_model"]


class Run(NamedTuple):
    """Outputs of an artifact, its signature, and the version of the runtime."""

    results: np.ndarray
    inputs: list
    outputs: list
    versions: dict


def write_saved_model(
    model: keras.Model, specs: Any, artifact: PathLike, batch_size: int | None = None
) -> None:
    """Writes a SavedModel, for any batch size or a fixed one."""
    specs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec((batch_size, *spec.shape[1:]), spec.dtype, spec.name), specs
    )
    model.export(artifact, format="tf_saved_model", verbose=False, input_signature=[specs])


def run_saved_model(artifact: pathlib.Path, named_arrays: Mapping[str, np.ndarray]) -> Run:
    """Runs a SavedModel on the CPU."""
    with tf.device("CPU"):
        model = tf.saved_model.load(str(artifact))
        serve = model.signatures["serving_default"]
        results = [serve(**batch)["output_0"] for batch in batches(named_arrays)]
    inputs = _saved_model_signature(serve.structured_input_signature[1])
    outputs = _saved_model_signature(serve.structured_outputs)
    return Run(np.concatenate(results), inputs, outputs, {})


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
        with tempfile.TemporaryDirectory(dir=artifact.parent) as saved_model:
            write_saved_model(model, examples.specs, saved_model, batch_size)
            try:
                contents = _converted(saved_model, quantization, examples.by_name)
            except Exception as error:  # The converter's own class of errors is not public.
                failure = error
            else:
                artifact.write_bytes(contents)
                return
    raise ExportError(
        f"LiteRT cannot express this student with quantization={quantization!r}: {failure}"
    ) from failure


def _converted(saved_model, quantization, named_arrays):
    """The bytes of the `.tflite` file."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: batches(named_arrays, 1)
    with warnings.catch_warnings():
        # The converter calibrates with TensorFlow's own interpreter, which warns about that.
        warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
        return converter.convert()


def run_litert(artifact: pathlib.Path, named_arrays: Mapping[str, np.ndarray]) -> Run:
    """Runs a `.tflite` file on one example at a time, which every such file accepts."""
    interpreter, versions = _interpreter(artifact)
    runner = interpreter.get_signature_runner()
    results = [runner(**example)["output_0"] for example in batches(named_arrays, 1)]
    inputs = _litert_signature(runner.get_input_details())
    outputs = _litert_signature(runner.get_output_details())
    return Run(np.concatenate(results), inputs, outputs, versions)


def _litert_signature(details):
    return [
        {
            "name": name,
            "shape": [None if size < 0 else int(size) for size in detail["shape_signature"]],
            "dtype": np.dtype(detail["dtype"]).name,
        }
        for name, detail in details.items()
    ]


def _interpreter(artifact):
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        # The interpreter in TensorFlow runs the same files, but warns that it is deprecated:
        # `pip install l2rkd-tf[litert]` installs its successor.
        return tf.lite.Interpreter(model_path=str(artifact)), {"tf.lite": tf.__version__}
    versions = {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}
    return interpreter.Interpreter(model_path=str(artifact)), versions
