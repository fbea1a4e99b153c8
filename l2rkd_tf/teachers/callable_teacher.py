"""A function outside of TensorFlow as a teacher."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.points import as_floats
from l2rkd_tf.utils.model_checks import all_layers
from l2rkd_tf.utils.types import Config, Tensors
from l2rkd_tf.utils.validation import is_positive_integer

__all__ = ["CallableTeacher", "callable_teachers", "check_functions", "errors_of_functions"]

_NumOutputs = int | tuple[int, ...]


@keras.saving.register_keras_serializable("l2rkd_tf")
class CallableTeacher(keras.Model):
    """A teacher that is a function of NumPy arrays: ONNX Runtime, PyTorch, a server.

    ```
    f_T(x) = function(x)
    ```

    The function is called once a step, by Python, with all points of the batch at which the teacher
    is asked, training and region points together. What this excludes:

    - XLA: `compile(jit_compile="auto")` trains without it, `jit_compile=True` is refused;
    - methods that compare inner features or gradients of the teacher;
    - files: a saved distiller does not hold the function. A loaded one trains again once it has got
      it, `distiller.get_teacher().function = function`, and says so;
    - other machines: each worker needs a function of its own.

    Args:
        function: A callable from inputs, as NumPy arrays of shape `(batch, ...)` in the structure
            that the student takes, float32 if they are uint8 or numbers with a fraction, to an
            array of shape `(batch, num_outputs)`: logits, if the distiller has `from_logits=True`.
            It runs in inference mode: dropout and the like are to be switched off. The number of
            examples differs from call to call. `None` if it is to be set later.
        num_outputs: Number of outputs; a tuple for dense ones, `(height, width, classes)`, or a
            dict of such by name for several outputs, where the function returns a dict.
        version: A string that tells this function from others, such as the hash of a file. Only
            `teacher_cache.cache_teacher` needs it, to find its files again.
        name: Name of the model.
        **kwargs: Passed to `keras.Model`.

    Attributes:
        function: The function, or `None`.
        failure: The error of the last call, or `None`: compiled functions raise another one.

    Raises:
        ValueError: If `function` cannot be called or is a Keras layer, or `num_outputs` is not as
            above; in training, if the function returns anything but arrays of these shapes.
        RuntimeError: In training, if the function raises an error, with its message.

    Example:
        >>> kernel = np.eye(4, 3)
        >>> teacher = CallableTeacher(lambda x: x @ kernel, num_outputs=3)
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0, seed=0)
        >>> distiller.compile("sgd")
        >>> history = distiller.fit(np.random.normal(size=(8, 4)), verbose=0)
        >>> sorted(history.history)
        ['hard_loss', 'kd_loss', 'loss', 'region_loss']
    """

    def __init__(
        self,
        function: Callable[..., Any] | None,
        num_outputs: _NumOutputs | Mapping[str, _NumOutputs],
        *,
        version: str | None = None,
        name: str = "callable_teacher",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **{"dtype": "float32", "trainable": False} | kwargs)
        if function is not None and (
            not callable(function) or isinstance(function, (type, keras.layers.Layer))
        ):
            raise ValueError(
                "`function` must be a callable of NumPy arrays. Received: "
                f"function={function!r}. A Keras model or layer is a teacher itself."
            )
        if version is not None and not isinstance(version, str):
            raise ValueError(f"`version` must be a string or None. Received: version={version!r}")
        self.function = function
        self.num_outputs = num_outputs
        self.version = version
        self.output_shapes = _shapes_of(num_outputs)
        self.failure: Exception | None = None
        self.supports_jit = False  # XLA cannot call Python
        self.built = True

    def call(self, inputs: Tensors, training: bool | None = None) -> Any:
        """The function's outputs, float32: a tensor, or a dict by name."""
        del training
        leaves = keras.tree.flatten(as_floats(inputs))

        def answer(*arrays):
            try:
                return self._answer(keras.tree.pack_sequence_as(inputs, list(arrays)))
            except (RuntimeError, ValueError) as error:
                self.failure = error  # of which TensorFlow keeps only the text
                raise

        shapes = list(self.output_shapes.values())
        outputs = tf.nest.flatten(tf.numpy_function(answer, leaves, [tf.float32] * len(shapes)))
        for output, shape in zip(outputs, shapes, strict=True):
            output.set_shape((leaves[0].shape[0], *shape))
        return self._in_structure(outputs)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """Symbolic outputs; the function is not called."""
        del training
        count = keras.tree.flatten(inputs)[0].shape[0]
        return self._in_structure(
            [keras.KerasTensor((count, *shape)) for shape in self.output_shapes.values()]
        )

    def get_config(self) -> Config:
        """Arguments of the constructor, but the function, which no file can hold."""
        return {
            "name": self.name,
            "function": None,
            "num_outputs": self.num_outputs,
            "version": self.version,
        }

    def _in_structure(self, outputs):
        if None in self.output_shapes:
            return outputs[0]
        return dict(zip(self.output_shapes, outputs, strict=True))

    def _answer(self, inputs):
        self.failure = None
        if self.function is None:
            raise ValueError(f"`function` of the teacher {self.name!r} must be set. Received: None")
        try:
            answers = self.function(inputs)
        except Exception as error:  # also StopIteration, with which data end
            raise RuntimeError(
                f"`function` of the teacher {self.name!r} failed: {type(error).__name__}: {error}"
            ) from error
        count = len(keras.tree.flatten(inputs)[0])
        return [
            self._checked(answers if name is None else _entry(answers, name), (count, *shape))
            for name, shape in self.output_shapes.items()
        ]

    def _checked(self, answer, shape):
        array = np.asarray(answer)
        if array.dtype.kind not in "fiu" or array.shape != shape:
            raise ValueError(
                f"`function` of the teacher {self.name!r} must return an array of numbers of shape "
                f"{shape}. Received: an array of {array.dtype} of shape {array.shape}"
            )
        return array.astype("float32")


def _shapes_of(num_outputs):
    """Shapes of the outputs of an example by name; the only one has the name `None`."""
    by_name = dict(num_outputs) if isinstance(num_outputs, Mapping) else {None: num_outputs}
    shapes = {
        name: tuple(sizes) if isinstance(sizes, (list, tuple)) else (sizes,)
        for name, sizes in by_name.items()
    }
    sizes = [size for shape in shapes.values() for size in shape]
    if not shapes or not all(shapes.values()) or not all(map(is_positive_integer, sizes)):
        raise ValueError(
            "`num_outputs` must be a positive integer, a tuple of such for dense outputs, or a "
            f"dict of these by output name. Received: num_outputs={num_outputs!r}"
        )
    return shapes


def _entry(answers, name):
    if not isinstance(answers, Mapping) or name not in answers:
        found = list(answers) if isinstance(answers, Mapping) else type(answers).__name__
        raise ValueError(
            "`function` of a teacher with several outputs must return a dict by name. Received: "
            f"{found}, without the output {name!r}"
        )
    return answers[name]


def callable_teachers(model: keras.Model | None) -> Iterator[CallableTeacher]:
    """The functions among a teacher and its layers."""
    for layer in (model, *all_layers(model)):
        if isinstance(layer, CallableTeacher):
            yield layer


@contextlib.contextmanager
def errors_of_functions(teacher: keras.Model | None) -> Iterator[None]:
    """Raises what a teacher's function has raised where TensorFlow raises an error of its own."""
    try:
        yield
    except tf.errors.OpError:
        for one in callable_teachers(teacher):
            failure, one.failure = one.failure, None
            if failure is not None:
                raise failure from failure.__cause__
        raise


def check_functions(teacher: keras.Model | None) -> None:
    """Checks that all functions of a teacher are there.

    Raises:
        ValueError: If one is not, as after loading.
    """
    for one in callable_teachers(teacher):
        if one.function is None:
            raise ValueError(
                f"`function` of the teacher {one.name!r} must be set. Received: a teacher that was "
                "loaded from a file or made from a config, which hold no functions. Use "
                f"distiller.get_teacher(){_way_to(one, teacher)}.function = function."
            )


def _way_to(teacher, model):
    """Code that finds a teacher among the layers of a model."""
    for layer in getattr(model, "layers", []) if teacher is not model else []:
        if teacher in (layer, *all_layers(layer)):
            return f".get_layer({layer.name!r}){_way_to(teacher, layer)}"
    return ""
