"""Converts SavedModels to LiteRT files and runs such files, in a process of its own.

Converter, calibrator and interpreter are native code, and a crash in it ends the process. This
program runs them for `child_process.py`, so that a crash is an error there. It is started by the
path of its folder and imports neither Keras nor l2rkd_tf, which would take longer than the job.

Each line of standard input is a job: a JSON object with the name of a function below, its arguments
and a folder for temporary files. The answer is one line of JSON: `{"result": ...}` or
`{"error": text}`. The program ends with its standard input.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings

import numpy as np

__all__ = ["convert", "main", "run"]


def convert(saved_model: str, artifact: str, quantization: str | None, examples: str) -> None:
    """Writes a `.tflite` file; int8 is calibrated on the arrays in the `.npz` file `examples`."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _one_at_a_time(examples)
    contents = converter.convert()
    with open(artifact, "wb") as file:
        file.write(contents)


def run(artifact: str, examples: str, outputs: str) -> dict:
    """Runs a `.tflite` file on one example at a time, which every such file accepts.

    Args:
        artifact: Path of the `.tflite` file.
        examples: Path of an `.npz` file with arrays of shape `(examples, ...)`, and the `names` of
            the inputs that they are for.
        outputs: Path of the `.npz` file to write, with an array for each output, in their order.

    Returns:
        The file's `inputs` and `outputs`, and the `versions` of the interpreter.
    """
    interpreter, versions = _interpreter(artifact)
    # By name: the interpreter's own order of the outputs is not that of the model.
    runner = interpreter.get_signature_runner()
    details = runner.get_output_details()
    results = [runner(**example) for example in _one_at_a_time(examples)]
    np.savez(outputs, *(np.concatenate([one[name] for one in results]) for name in details))
    return {
        "inputs": _signature(runner.get_input_details()),
        "outputs": _signature(details),
        "versions": versions,
    }


def _one_at_a_time(examples):
    with np.load(examples) as file:
        arrays = {name: file[f"arr_{index}"] for index, name in enumerate(file["names"])}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index : index + 1] for name, array in arrays.items()}


def _interpreter(artifact):
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        # The interpreter in TensorFlow runs the same files, but warns that it is deprecated:
        # `pip install l2rkd-tf[litert]` installs its successor.
        import tensorflow as tf

        return tf.lite.Interpreter(model_path=artifact), {"tf.lite": tf.__version__}
    from importlib import metadata

    versions = {"ai-edge-litert": metadata.version("ai-edge-litert")}
    return interpreter.Interpreter(model_path=artifact), versions


def _signature(details):
    return [
        {
            "name": name,
            "shape": [None if size < 0 else int(size) for size in detail["shape_signature"]],
            "dtype": np.dtype(detail["dtype"]).name,
        }
        for name, detail in details.items()
    ]


def _answer(job):
    # What native code leaves in the folder for temporary files is deleted with the job's.
    tempfile.tempdir = job.pop("folder")
    function = {"convert": convert, "run": run}[job.pop("function")]
    try:
        return {"result": function(**job)}
    except Exception as error:
        traceback.print_exc()
        return {"error": str(error) or type(error).__name__}


def main() -> None:
    """Does one job after the other, until standard input ends."""
    # Ctrl-C in a terminal reaches the child as well; its parent decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # TensorFlow prints to standard output, which is for answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    import tensorflow  # noqa: F401  # while the parent prepares the first job

    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
