"""Exports of a distilled student that have been run before anyone relies on them.

`export_saved_model` (servers) and `export_litert` (phones, browsers, microcontrollers) write the
artifact, run it on real inputs, compare its outputs with those of the Keras student, and only
then move it to its place, with a report beside it: `student.tflite.json` for `student.tflite`. An
export that disagrees with the student raises `ExportError` and leaves nothing behind.

A student in mixed precision is first rebuilt in float32, because LiteRT has no kernels for its
half-precision operations; the student itself is left as it is.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import numbers
import os
import pathlib
import re
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "DEFAULT_TOLERANCE",
    "ExportError",
    "ExportReport",
    "export_litert",
    "export_saved_model",
]

# Ten times, in float32 a few hundred times, what small networks show: see `export_litert`.
DEFAULT_TOLERANCE = {None: 1e-4, "float16": 1e-2, "dynamic": 5e-2, "int8": 0.15}

# Of the spread of the outputs. A float32 copy differs from its bfloat16 original by 0.005 where
# it was measured; a copy with misplaced weights differs by about the whole spread.
_REBUILD_TOLERANCE = 0.1
_MAX_EXAMPLES = 256
_UNIFORM_EXAMPLES = 32
_BATCH_SIZE = 32
_HALF_PRECISION = ("float16", "bfloat16")
_SAVED_MODEL_ENTRIES = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


class ExportError(RuntimeError):
    """An artifact could not be made, or does not compute what the student computes."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported, and how closely it follows the Keras student.

    Attributes:
        artifact: Name of the exported file or folder, without its parents.
        format: `"saved_model"` or `"litert"`.
        quantization: `None`, `"dynamic"`, `"float16"` or `"int8"`.
        bytes: Size of the artifact, of all its files together.
        files: Size in bytes of each file, by its path inside the artifact.
        parameters: Number of weights of the student.
        max_abs_difference: Largest absolute difference between an output of the artifact and
            the same output of the float32 Keras student.
        mean_abs_difference: Mean of these absolute differences.
        output_spread: Largest minus smallest output of the Keras student.
        tolerance: Largest accepted `max_abs_difference / output_spread`.
        top1_agreement: Fraction of examples (of positions, when the output has more than two
            axes) with the same largest output; `None` for a student with one output.
        num_examples: Number of inputs compared.
        example_source: `"representative_data"` or `"uniform [0, 1]"`.
        input_range: Smallest and largest value given to each input, by its name.
        inputs: Name, shape (`None` for any size) and dtype of each input of the artifact.
        outputs: The same of its outputs.
        rebuilt_in_float32: Whether the student is in mixed precision and a float32 copy of it
            was exported.
        rebuild_max_abs_difference: Largest absolute difference between that copy and the
            student itself; `None` without a copy.
        versions: Versions of Keras, TensorFlow and the interpreter that ran the artifact.
    """

    artifact: str
    format: str
    quantization: str | None
    bytes: int
    files: dict
    parameters: int
    max_abs_difference: float
    mean_abs_difference: float
    output_spread: float
    tolerance: float
    top1_agreement: float | None
    num_examples: int
    example_source: str
    input_range: dict
    inputs: list
    outputs: list
    rebuilt_in_float32: bool
    rebuild_max_abs_difference: float | None
    versions: dict

    def to_json(self):
        """The report as indented JSON text, as it is written beside the artifact."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def export_saved_model(student, path, *, representative_data=None, tolerance=None):
    """Exports the student as a TensorFlow SavedModel, for a server, and verifies it.

    The artifact is one folder with a `serving_default` signature. A dict of inputs keeps its
    keys as names; a named `keras.Input` keeps its name; any other input is called `input_0`,
    `input_1` and so on. The output is `output_0`.

    Args:
        student: A built `keras.Model` with one output of shape `(batch, ...)`.
        path: Folder to write, `str` or `pathlib.Path`. Missing parents are made. An older
            export at `path` is replaced once the new one has been verified.
        representative_data: Inputs on which the artifact and the student are compared: a batched
            `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`, or arrays of shape
            `(examples, ...)` in the structure of the student's inputs. At most 256 examples are
            used. Without it 32 examples uniform on [0, 1] are.
        tolerance: Largest accepted absolute difference of the outputs, as a fraction of the
            spread (largest minus smallest) of the student's outputs. Default: 1e-4.

    Returns:
        An `ExportReport`, also written to `<path>.json`.

    Raises:
        ValueError: If an argument cannot be used; the message says what would work.
        ExportError: If the artifact gives a value that is not finite, or differs from the student
            by more than `tolerance`. What was at `path` is then still there.

    Example:
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> report = export_saved_model(student, "/tmp/l2rkd_tf_example/saved_model")
        >>> report.top1_agreement
        1.0
    """
    path = _checked_path(path)
    _check_folder(path)
    tolerance = _checked_tolerance(tolerance, None)
    exported = _prepare(student, representative_data)
    with _working_folder(path) as folder:
        artifact = folder / "saved_model"
        _write_saved_model(exported, artifact, batch_size=None)
        report = _verify(exported, artifact, path.name, None, tolerance, _run_saved_model)
        _publish(artifact, path, report)
    return report


def export_litert(student, path, quantization=None, representative_data=None, *, tolerance=None):
    """Exports the student as a LiteRT (`.tflite`) file, for a device, and verifies it.

    Only LiteRT's own operations are used, so that every LiteRT runtime can run the file. Any
    batch size is accepted, except where LiteRT cannot compile the student that way (recurrent
    layers): then the file takes one example at a time, and the report's `inputs` say so. Inputs
    and output are named as in `export_saved_model`.

    | `quantization` | weights | activations | default tolerance | measured |
    |---|---|---|---|---|
    | `None` | float32 | float32 | 1e-4 | 3e-7 |
    | `"float16"` | float16 | float32 | 1e-2 | 5e-4 |
    | `"dynamic"` | int8 | float32 | 5e-2 | 6e-3 |
    | `"int8"` | int8 | int8 | 0.15 | 2e-2 |

    Measured is the largest difference, as a fraction of the spread of the outputs, of a small
    convolutional, a residual, a depthwise-separable and a dense network on 8x8 digits. The inputs
    and outputs of the file stay float32 in each case; with `"int8"` its first operation quantizes
    and its last one dequantizes them, and all between is integer arithmetic.

    Args:
        student: A built `keras.Model` with one output of shape `(batch, ...)`.
        path: File to write, ending in `.tflite`, `str` or `pathlib.Path`. Missing parents are
            made. An older file is replaced once the new one has been verified.
        quantization: `None`, `"dynamic"`, `"float16"` or `"int8"`.
        representative_data: Inputs on which the artifact and the student are compared, and from
            which `"int8"` (which requires them) takes the ranges of the activations: a batched
            `tf.data.Dataset` of `x`, `(x, y)` or `(x, y, sample_weight)`, or arrays of shape
            `(examples, ...)` in the structure of the student's inputs. At most 256 examples are
            used. Without it 32 examples uniform on [0, 1] are.
        tolerance: Largest accepted absolute difference of the outputs, as a fraction of the
            spread (largest minus smallest) of the student's outputs. Default: see the table.

    Returns:
        An `ExportReport`, also written to `<path>.json`.

    Raises:
        ValueError: If an argument cannot be used; the message says what would work.
        ExportError: If LiteRT cannot express the student, or the artifact gives a value that is
            not finite or differs from the student by more than `tolerance`. What was at
            `path` is then still there.

    Example:
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> images = np.random.default_rng(0).random((64, 8), dtype="float32")
        >>> report = export_litert(student, "/tmp/l2rkd_tf_example/student.tflite", "int8", images)
        >>> report.num_examples
        64
    """
    path = _checked_path(path)
    if path.suffix != ".tflite" or path.is_dir():
        raise ValueError(f"`path` must be a file name ending in '.tflite'. Received: path={path}")
    _check_quantization(quantization, representative_data)
    tolerance = _checked_tolerance(tolerance, quantization)
    exported = _prepare(student, representative_data)
    with _working_folder(path) as folder:
        artifact = folder / "student.tflite"
        artifact.write_bytes(_convert(exported, quantization, folder))
        report = _verify(exported, artifact, path.name, quantization, tolerance, _run_litert)
        _publish(artifact, path, report)
    return report


# ---------------------------------------------------------------------------------------------
# What the user gave
# ---------------------------------------------------------------------------------------------


def _checked_path(path):
    if not isinstance(path, (str, os.PathLike)) or "://" in str(path) or not str(path):
        raise ValueError(
            f"`path` must be a local path, as `str` or `pathlib.Path`. Received: path={path!r}"
        )
    path = pathlib.Path(path).absolute()
    report = _report_path(path)
    if report.is_dir():
        raise ValueError(f"The report of `path` goes to {report}, which is a folder.")
    return path


def _report_path(path):
    return path.with_name(path.name + ".json")


def _check_folder(path):
    """A folder is replaced only if an earlier export is all it holds."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"`path` must be a folder, and {path} is a file.")
    if path.is_dir():
        foreign = {entry.name for entry in path.iterdir()} - _SAVED_MODEL_ENTRIES
        if foreign:
            raise ValueError(
                "`path` must be new, or an earlier export, which is then replaced. Received: "
                f"path={path}, a folder that also holds {sorted(foreign)[:5]}."
            )


def _check_quantization(quantization, representative_data):
    if not (quantization is None or quantization in list(DEFAULT_TOLERANCE)):
        raise ValueError(
            f"`quantization` must be one of {list(DEFAULT_TOLERANCE)}. "
            f"Received: quantization={quantization!r}"
        )
    if quantization == "int8" and representative_data is None:
        raise ValueError(
            "`representative_data` is required for quantization='int8', which takes the ranges of "
            "the activations from it. Pass the training data set, or an array of some 100 inputs."
        )


def _checked_tolerance(tolerance, quantization):
    if tolerance is None:
        return DEFAULT_TOLERANCE[quantization]
    if (
        isinstance(tolerance, bool)
        or not isinstance(tolerance, numbers.Real)
        or not math.isfinite(tolerance)
        or tolerance < 0
    ):
        raise ValueError(
            "`tolerance` must be a finite number that is not negative: the accepted difference as "
            f"a fraction of the spread of the outputs. Received: tolerance={tolerance!r}"
        )
    return float(tolerance)


def _check_student(student):
    if not isinstance(student, keras.Model):
        raise ValueError(f"`student` must be a `keras.Model`. Received: {type(student)}")
    if isinstance(getattr(student, "student", None), keras.Model):
        raise ValueError(
            "`student` must be the student alone, not the model that distills it. Pass "
            f"`distiller.student`. Received: a {type(student).__name__}."
        )
    if not student.built:
        raise ValueError(
            "`student` must be built: call it on one batch, or start it with `keras.Input`."
        )


@dataclasses.dataclass(frozen=True)
class _Exported:
    """A float32 student, the examples to compare it on, and its outputs there."""

    model: keras.Model
    specs: object  # A structure of `tf.TensorSpec`, the batch axis open.
    names: list
    examples: object  # Arrays of shape (examples, ...) in the structure of `specs`.
    example_source: str
    expected: np.ndarray
    rebuild_max_abs_difference: float | None

    @property
    def named_examples(self):
        return dict(zip(self.names, keras.tree.flatten(self.examples), strict=True))


def _prepare(student, representative_data):
    _check_student(student)
    declared = _declared_inputs(student)
    given = None if representative_data is None else _gather(representative_data)
    specs, names = _input_specs(declared, given)
    if given is None:
        examples, source = _uniform_examples(specs), "uniform [0, 1]"
    else:
        examples, source = _align(given, specs, names), "representative_data"
    original = _outputs(student, examples)
    _check_finite(original, "Keras student", source)
    if not _is_half_precision(student):
        return _Exported(student, specs, names, examples, source, original, None)
    model = _rebuild_in_float32(student, declared)
    expected = _outputs(model, examples)
    difference = _check_rebuild(original, expected)
    return _Exported(model, specs, names, examples, source, expected, difference)


def _declared_inputs(student):
    """The symbolic inputs of a Sequential or functional student; None for a subclassed one."""
    if isinstance(student, keras.Sequential):
        return student.inputs[0]
    try:
        return student.input
    except AttributeError:
        return None


def _gather(data):
    """At most 256 examples, as a structure of arrays."""
    if not isinstance(data, tf.data.Dataset):
        return keras.tree.map_structure(_spread_out, data)
    batches, count = [], 0
    for element in data:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(element)
        batch = keras.tree.map_structure(np.asarray, inputs)
        if any(array.ndim == 0 for array in keras.tree.flatten(batch)):
            raise ValueError("`representative_data` must be batched: add `.batch(32)` to it.")
        batches.append(batch)
        count += len(keras.tree.flatten(batch)[0])
        if count >= _MAX_EXAMPLES:
            break
    if not batches:
        raise ValueError("`representative_data` must hold at least one batch. It is empty.")
    return keras.tree.map_structure(
        lambda *arrays: np.concatenate(arrays)[:_MAX_EXAMPLES], *batches
    )


def _spread_out(array):
    """Evenly spaced examples, so that data sorted by class are covered as well."""
    array = np.asarray(array)
    if array.ndim == 0 or array.dtype == object:
        raise ValueError(
            "`representative_data` must be a batched `tf.data.Dataset`, or arrays of shape "
            f"(examples, ...). Received: an entry of {type(array[()])}."
        )
    if len(array) <= _MAX_EXAMPLES:
        return array
    return array[np.linspace(0, len(array) - 1, _MAX_EXAMPLES).astype(int)]


def _input_specs(declared, given):
    """The inputs of the artifact, and a name for each that does not change between runs."""
    reference = given if declared is None else declared
    if reference is None:
        raise ValueError(
            "`representative_data` is required for a subclassed student, which does not declare "
            "its inputs. Pass an array of some inputs, or a data set."
        )
    names, specs = [], []
    for position, (where, tensor) in enumerate(keras.tree.flatten_with_path(reference)):
        name = getattr(tensor, "name", "keras_tensor")
        if where and isinstance(where[-1], str):
            name = where[-1]
        elif name.startswith("keras_tensor"):  # Keras counts these up within a process.
            name = f"input_{position}"
        names.append(re.sub(r"\W", "_", name))
        dtype = "float32" if str(tensor.dtype) == "float64" else str(tensor.dtype)
        specs.append(((None, *tensor.shape[1:]), dtype))
    if len(set(names)) < len(names):
        names = [f"input_{position}" for position in range(len(names))]
    specs = [tf.TensorSpec(*spec, name) for spec, name in zip(specs, names, strict=True)]
    return keras.tree.pack_sequence_as(reference, specs), names


def _uniform_examples(specs):
    generator = np.random.default_rng(0)

    def draw(spec):
        if not spec.dtype.is_floating or None in spec.shape[1:]:
            raise ValueError(
                f"`representative_data` is required for the input {spec.name!r}, of which not "
                f"every size is known or which does not take floats. It is {spec}."
            )
        shape = (_UNIFORM_EXAMPLES, *spec.shape[1:])
        return generator.uniform(size=shape).astype(spec.dtype.as_numpy_dtype)

    return keras.tree.map_structure(draw, specs)


def _align(given, specs, names):
    """The given arrays in the structure, and with the dtypes, of the student's inputs."""
    if isinstance(given, dict) and set(names) <= set(given):
        given = [given[name] for name in names]
    arrays = keras.tree.flatten(given)
    flat_specs = keras.tree.flatten(specs)
    fits = len(arrays) == len(flat_specs) and all(
        spec.shape.is_compatible_with(array.shape)
        and (spec.dtype.is_floating or not np.issubdtype(array.dtype, np.floating))
        for array, spec in zip(arrays, flat_specs, strict=True)
    )
    if not fits or len({len(array) for array in arrays}) != 1 or not len(arrays[0]):
        raise ValueError(
            f"`representative_data` must hold examples of the student's inputs {flat_specs}. "
            f"Received: {[(array.shape, str(array.dtype)) for array in arrays[:5]]}."
        )
    arrays = [
        array.astype(spec.dtype.as_numpy_dtype)
        for array, spec in zip(arrays, flat_specs, strict=True)
    ]
    return keras.tree.pack_sequence_as(specs, arrays)


# ---------------------------------------------------------------------------------------------
# Mixed precision
# ---------------------------------------------------------------------------------------------


def _is_half_precision(layer):
    inner = layer.layers if isinstance(layer, keras.Model) else []
    return layer.compute_dtype in _HALF_PRECISION or any(map(_is_half_precision, inner))


def _rebuild_in_float32(student, declared):
    if declared is None:
        raise ValueError(
            "`student` is a subclassed model in mixed precision, of which no float32 copy can be "
            "made. Build one under the dtype policy 'float32', give it `student.get_weights()`, "
            "and export that."
        )
    copy = keras.models.clone_model(student, clone_function=_float32_layer, recursive=True)
    copy.set_weights(student.get_weights())
    return copy


def _float32_layer(layer):
    return type(layer).from_config(_float32_config(layer.get_config()))


def _float32_config(config):
    """A layer's config, with float32 in every dtype policy, also of wrapped layers."""
    if isinstance(config, (list, tuple)):
        return type(config)(map(_float32_config, config))
    if not isinstance(config, dict):
        return config
    return {
        key: "float32"
        if key == "dtype" and _names_half_precision(value)
        else _float32_config(value)
        for key, value in config.items()
    }


def _names_half_precision(dtype):
    if isinstance(dtype, dict):
        dtype = dtype.get("config", {}).get("name")
    return isinstance(dtype, str) and dtype.endswith(_HALF_PRECISION)


def _check_rebuild(original, rebuilt):
    difference, _, spread, _ = _compare(original, rebuilt)
    if not difference <= _REBUILD_TOLERANCE * spread:
        raise ExportError(
            f"The float32 copy of the mixed-precision student differs from it by {difference:.3g}, "
            f"at outputs that spread over {spread:.3g}. Build the student under the dtype policy "
            "'float32', give it `student.get_weights()`, and export that."
        )
    return difference


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _working_folder(path):
    """A folder beside `path`, so that moving a file from it to `path` is one atomic step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield pathlib.Path(folder)


def _write_saved_model(exported, artifact, batch_size):
    specs = keras.tree.map_structure(
        lambda spec: tf.TensorSpec((batch_size, *spec.shape[1:]), spec.dtype, spec.name),
        exported.specs,
    )
    exported.model.export(artifact, format="tf_saved_model", verbose=False, input_signature=[specs])


def _convert(exported, quantization, folder):
    """The bytes of the `.tflite` file, for any batch size or, where that fails, for one."""
    for batch_size in (None, 1):
        saved_model = folder / f"saved_model_{batch_size}"
        _write_saved_model(exported, saved_model, batch_size)
        try:
            with warnings.catch_warnings():
                # The converter calibrates with TensorFlow's own interpreter, and warns of that.
                warnings.filterwarnings("ignore", r"\s*Warning: tf\.lite\.Interpreter")
                return _converter(exported, saved_model, quantization).convert()
        except Exception as error:  # The converter's own class of errors is not public.
            failure = error
    raise ExportError(
        f"LiteRT cannot express this student with quantization={quantization!r}: {failure}"
    ) from failure


def _converter(exported, saved_model, quantization):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: _one_by_one(exported.named_examples)
    return converter


def _one_by_one(named_examples):
    for index in range(len(next(iter(named_examples.values())))):
        yield {name: array[index : index + 1] for name, array in named_examples.items()}


def _publish(artifact, path, report):
    """Moves a verified artifact and its report to their places."""
    report_file = artifact.parent / "report.json"
    report_file.write_text(report.to_json())
    previous = artifact.parent / "previous"
    # A file is replaced in one step; a folder that is not empty has to be moved aside first.
    if path.is_dir():
        os.replace(path, previous)
    try:
        os.replace(artifact, path)
    except OSError:
        if previous.exists():
            os.replace(previous, path)
        raise
    os.replace(report_file, _report_path(path))


# ---------------------------------------------------------------------------------------------
# Running and comparing
# ---------------------------------------------------------------------------------------------


def _outputs(student, examples):
    """The student's outputs on all examples, computed in batches."""
    count = len(keras.tree.flatten(examples)[0])
    outputs = []
    # On the CPU, where the artifact runs: a GPU may round float32 products to fewer bits.
    with tf.device("CPU"):
        for start in range(0, count, _BATCH_SIZE):
            batch = keras.tree.map_structure(
                lambda array, start=start: array[start : start + _BATCH_SIZE], examples
            )
            output = student(batch, training=False)
            if not tf.is_tensor(output) or len(output.shape) < 2:
                raise ValueError(
                    "`student` must have one output of shape (batch, ...). Received: a student "
                    f"whose output is {keras.tree.map_structure(lambda x: x.shape, output)}."
                )
            outputs.append(np.asarray(keras.ops.cast(output, "float32")))
    return np.concatenate(outputs)


def _run_saved_model(artifact, named_examples):
    """Outputs, input signature, output signature and interpreter of a SavedModel."""
    with tf.device("CPU"):
        model = tf.saved_model.load(str(artifact))
        serve = model.signatures["serving_default"]
        tensors = {name: tf.constant(array) for name, array in named_examples.items()}
        batches = tf.data.Dataset.from_tensor_slices(tensors).batch(_BATCH_SIZE)
        outputs = np.concatenate([serve(**batch)["output_0"] for batch in batches])
    inputs = [
        {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}
        for name, spec in serve.structured_input_signature[1].items()
    ]
    results = [
        {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name}
        for name, spec in serve.structured_outputs.items()
    ]
    return outputs, inputs, results, {}


def _run_litert(artifact, named_examples):
    """Outputs, input signature, output signature and interpreter of a `.tflite` file."""
    interpreter, version = _interpreter(artifact)
    runner = interpreter.get_signature_runner()
    inputs = _litert_signature(runner.get_input_details())
    results = _litert_signature(runner.get_output_details())
    outputs = [runner(**example)["output_0"] for example in _one_by_one(named_examples)]
    return np.concatenate(outputs), inputs, results, version


def _interpreter(artifact):
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        # The interpreter inside TensorFlow runs the same files, and warns that it is deprecated:
        # `pip install l2rkd-tf[litert]` installs its successor.
        return tf.lite.Interpreter(model_path=str(artifact)), {"tf.lite": tf.__version__}
    version = {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}
    return interpreter.Interpreter(model_path=str(artifact)), version


def _litert_signature(details):
    return [
        {
            "name": name,
            "shape": [None if size < 0 else int(size) for size in detail["shape_signature"]],
            "dtype": np.dtype(detail["dtype"]).name,
        }
        for name, detail in details.items()
    ]


def _check_finite(outputs, owner, example_source):
    unusable = np.sum(~np.isfinite(outputs))
    if unusable:
        raise ExportError(
            f"{unusable} of {outputs.size} outputs of the {owner} are not finite, on inputs from "
            f"{example_source}."
        )


def _compare(expected, actual):
    """Largest and mean absolute difference, spread of `expected`, and top-1 agreement."""
    difference = np.abs(expected.astype("float64") - actual)
    # A student whose outputs are all alike is measured by their size instead.
    spread = float(np.ptp(expected)) or float(np.abs(expected).max()) or 1.0
    top1 = None
    if expected.shape[-1] > 1:
        top1 = float(np.mean(expected.argmax(axis=-1) == actual.argmax(axis=-1)))
    return float(difference.max()), float(difference.mean()), spread, top1


def _verify(exported, artifact, name, quantization, tolerance, run):
    """Runs the artifact and reports on it; an artifact that is not as expected is an error."""
    actual, inputs, outputs, interpreter_version = run(artifact, exported.named_examples)
    _check_finite(actual, "exported artifact", exported.example_source)
    largest, mean, spread, top1 = _compare(exported.expected, actual)
    if not largest <= tolerance * spread:
        raise ExportError(
            f"The export with quantization={quantization!r} differs from the Keras student by "
            f"{largest:.3g} (mean {mean:.3g}), which is {largest / spread:.3g} of the spread "
            f"{spread:.3g} of its outputs; tolerance={tolerance:g}. Top-1 agreement: {top1}, on "
            f"{len(actual)} inputs from {exported.example_source}. Try another quantization, more "
            "representative data, or a larger `tolerance`."
        )
    files = _file_sizes(artifact, name)
    return ExportReport(
        artifact=name,
        format="saved_model" if artifact.is_dir() else "litert",
        quantization=quantization,
        bytes=sum(files.values()),
        files=files,
        parameters=exported.model.count_params(),
        max_abs_difference=largest,
        mean_abs_difference=mean,
        output_spread=spread,
        tolerance=tolerance,
        top1_agreement=top1,
        num_examples=len(actual),
        example_source=exported.example_source,
        input_range={
            name: [float(array.min()), float(array.max())]
            for name, array in exported.named_examples.items()
        },
        inputs=inputs,
        outputs=outputs,
        rebuilt_in_float32=exported.rebuild_max_abs_difference is not None,
        rebuild_max_abs_difference=exported.rebuild_max_abs_difference,
        versions={"keras": keras.__version__, "tensorflow": tf.__version__, **interpreter_version},
    )


def _file_sizes(artifact, name):
    if artifact.is_file():
        return {name: artifact.stat().st_size}
    return {
        file.relative_to(artifact).as_posix(): file.stat().st_size
        for file in sorted(artifact.rglob("*"))
        if file.is_file()
    }
