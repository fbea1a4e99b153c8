"""What the first batch of training shows of mistakes that no graph and no shape shows."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import Batch
from l2rkd_tf.distiller.fit_arguments import check_labels_are_numbers
from l2rkd_tf.distiller.heads import Heads
from l2rkd_tf.features import OUTPUT
from l2rkd_tf.utils.types import Features, Logs

__all__ = ["FirstBatch", "check_batch", "has_scaling"]

_LOG = "first_batch"
# Sums of probabilities in half precision differ from 1 by less.
_TOLERANCE = 2e-2
_ACTIVATIONS = {"kl": "softmax", "binary_kl": "sigmoid"}
# Layers after which inputs may have any scale.
_SCALING = (
    keras.layers.BatchNormalization,
    keras.layers.Lambda,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.Rescaling,
)
# Tensors, and their specs, whose values are not in one block.
_NOT_DENSE = (tf.RaggedTensor, tf.RaggedTensorSpec, tf.SparseTensor, tf.SparseTensorSpec)


class FirstBatch:
    """Looks at the values of the first batch of `fit`: outputs, inputs and their number.

    As `NonFiniteGuard`, it works in compiled steps and on several replicas: what the first step
    finds comes back with its logs. Later steps look at nothing.

    Args:
        heads: The compared outputs.
        has_scaling: Whether teacher or student bring inputs to a scale of their own.
    """

    def __init__(self, heads: Heads, has_scaling: bool) -> None:
        self._heads = heads
        self._has_scaling = has_scaling
        self._is_first = tf.Variable(True, trainable=False)
        self._is_pending = True

    def begin(self) -> None:
        """Makes the next batch the first one."""
        self._is_first.assign(True)
        self._is_pending = True

    def note(self, batch: Batch, teacher: Features | None, student: Features) -> dict[str, Any]:
        """Notes, within a step, what the first batch is like.

        Args:
            batch: The batch.
            teacher: The teacher's features at some of its points, or `None`.
            student: The student's features.

        Returns:
            An entry for the logs of the step, which `checked` takes out again.
        """
        models = (teacher, self._heads.teacher), (student, self._heads.student)
        outputs = [
            [] if found is None or OUTPUT not in found else of_model.each(found[OUTPUT])
            for found, of_model in models
        ]

        needs_partners = batch.drawn is not None and batch.drawn.needs_partners

        def look():
            found = [
                *(self._any(self._are_probabilities, of_model) for of_model in outputs),
                *(self._any(self._are_logits, of_model) for of_model in outputs),
                _are_grey_levels(batch.given),
                needs_partners & (batch.original.count.local == 1),
            ]
            return tf.cast(tf.stack(found), tf.float32)

        return {_LOG: tf.cond(self._is_first, look, lambda: tf.zeros(6))}

    def checked(self, train_function: Callable[[Any], Logs]) -> Callable[[Any], Logs]:
        """The train function of a Keras model that tells what its first batch has shown."""

        def function(iterator):
            logs = train_function(iterator)
            noted = logs.pop(_LOG, None)
            if noted is not None and self._is_pending:
                self._is_first.assign(False)
                self._is_pending = False
                self._tell(*(noted.numpy() == 1.0))  # a mean over replicas
            return logs

        return function

    def _any(self, is_wrong, outputs):
        """Whether any of the compared outputs is wrong; there may be none."""
        found = [
            is_wrong(output, head.divergence)
            for output, head in zip(outputs, self._heads.heads, strict=False)
            if head.divergence != "mse"
        ]
        return tf.reduce_any(found) if found else tf.constant(False)

    def _are_probabilities(self, outputs, divergence):
        """Whether outputs that should be logits are probabilities."""
        if not self._heads.from_logits:
            return tf.constant(False)
        probable = _look_like_probabilities(outputs, divergence)
        if divergence == "binary_kl":
            # Logits may lie between 0 and 1 by chance, but not many of them, and be 0 at first.
            return probable & (tf.size(outputs) >= 32) & tf.reduce_all(outputs > 0.0)
        return probable

    def _are_logits(self, outputs, divergence):
        """Whether outputs that should be probabilities are not."""
        if self._heads.from_logits:
            return tf.constant(False)
        return ~_look_like_probabilities(outputs, divergence)

    def _activations(self):
        used = {head.divergence for head in self._heads.heads}
        return " or ".join(name for kind, name in _ACTIVATIONS.items() if kind in used)

    def _tell(self, teacher_probable, student_probable, teacher_raw, student_raw, grey, single):
        for name, is_wrong in (("teacher", teacher_probable), ("student", student_probable)):
            if is_wrong:
                raise ValueError(
                    f"`{name}` must output logits. Received: outputs that are probabilities, "
                    "as the first batch shows. Pass from_logits=False, or remove the "
                    f"{self._activations()} at its end (and use a loss with from_logits=True)."
                )
        for name, is_wrong in (("teacher", teacher_raw), ("student", student_raw)):
            if is_wrong:
                raise ValueError(
                    f"`{name}` must output probabilities when from_logits=False. Received: "
                    "outputs below 0 or above 1, or that do not sum to 1, in the first batch. Pass "
                    "from_logits=True if they are logits."
                )
        if grey and not self._has_scaling:
            warnings.warn(
                "`x` holds whole numbers from 0 to 255, and neither model rescales its inputs. If "
                "the teacher was trained on inputs from 0 to 1, divide by 255.",
                stacklevel=2,
            )
        if single:
            warnings.warn(
                "`batch_size` is 1: an example has no partner in its batch, and its region "
                "point is the example itself. Use batches of at least 2 examples (on each "
                "replica), or a region without partners, such as regions.Ball(0.1).",
                stacklevel=2,
            )


def _look_like_probabilities(outputs, divergence):
    outputs = tf.cast(outputs, tf.float32)
    right = tf.reduce_all((outputs >= 0.0) & (outputs <= 1.0 + _TOLERANCE))
    if divergence == "kl":
        sums = tf.reduce_sum(outputs, axis=-1)
        return right & tf.reduce_all(tf.abs(sums - 1.0) < _TOLERANCE)
    return right


def _check_shapes(student: keras.Model, x: Any, y: Any) -> None:
    """Checks that inputs and labels are a batch, of known rank.

    Args:
        student: Keras model.
        x: Inputs of a batch.
        y: Labels, or `None`.

    Raises:
        ValueError: If they are one example, as of a dataset without `batch`, of unknown rank, not
            dense, or not of the shape of the student's only input.
    """
    for path, leaf in keras.tree.flatten_with_path(x):
        if leaf is None:
            raise ValueError(
                "`x` must hold a tensor for each input, which regions move. Received: None for "
                f"the input {'/'.join(map(str, path))!r}. Pass zeros of its shape, or distil "
                "models without it."
            )
        if isinstance(leaf, _NOT_DENSE):
            raise ValueError(
                "`x` must be dense tensors, since regions mix all values of examples. Received: "
                f"{type(leaf).__name__}. For sequences of unequal length, use `.padded_batch(32)` "
                "or RaggedTensor.to_tensor, and models that begin with keras.layers.Masking; for "
                "sparse inputs, tf.sparse.to_dense or `.toarray()`."
            )
    shapes = _shapes(x)
    if any(shape.rank is None for shape in shapes):
        raise ValueError(
            "`x` must have a known number of axes. Received: inputs of unknown shape. Pass "
            "`output_signature` to Dataset.from_generator, or call `set_shape` on what "
            "tf.py_function or tf.numpy_function returns. If earlier data had another number of "
            "axes, call compile() again."
        )
    expected = [tf.TensorShape(symbol.shape) for symbol in getattr(student, "inputs", None) or []]
    lacks_an_axis = [shape.rank + 1 for shape in shapes] == [shape.rank for shape in expected]
    is_example = lacks_an_axis and not all(map(_are_without_last_axis, shapes, expected))
    if is_example or any(shape.rank == 0 for shape in [*shapes, *_shapes(y)]):
        raise ValueError(
            "`x` must be batches of examples. Received: inputs of shapes "
            f"{[tuple(shape) for shape in shapes]}, which are one example. Add `.batch(32)` to "
            "the dataset."
        )
    if len(expected) == 1:  # Keras matches several inputs by their names
        _check_only_input(student, x, shapes, *expected)


def _check_only_input(student, x, shapes, expected):
    """Checks that inputs are the one that a student takes."""
    if isinstance(student, keras.Sequential) and isinstance(x, dict):
        raise ValueError(
            "`x` must be one tensor, as the student takes. Received: a dict with the keys "
            f"{list(x)}. Map the dataset to inputs and labels, for example with "
            "`.map(lambda example: (example['image'], example['label']))`."
        )
    for shape in shapes if len(shapes) == 1 else []:
        # Keras itself removes a last axis of size 1.
        if not (
            shape[1:].is_compatible_with(expected[1:]) or _are_without_last_axis(expected, shape)
        ):
            lacks_axis = _are_without_last_axis(shape, expected)
            raise ValueError(
                f"`x` must have the shape of the student's input, {tuple(expected)}. Received: "
                f"inputs of shape {tuple(shape)}."
                + " Add the last axis: x[..., numpy.newaxis]."
                * lacks_axis
            )


def _are_without_last_axis(shape, other):
    """Whether a batch lacks nothing but the last axis, of size 1, of another one."""
    is_longer = other.rank == shape.rank + 1 and other[-1] == 1
    return is_longer and shape[1:].is_compatible_with(other[1:-1])


def check_batch(
    student: keras.Model, x: Any, y: Any, sample_weight: Any, with_labels: bool
) -> None:
    """Checks of tensors, or of their specs, before anything is made of them.

    Args:
        student: Keras model.
        x: Inputs of a batch.
        y: Labels, or `None`.
        sample_weight: Weights, or `None`.
        with_labels: Whether labels are used.

    Raises:
        ValueError: If inputs are no batch, or labels or weights are text.
    """
    _check_shapes(student, x, y)
    if with_labels:
        check_labels_are_numbers(y)
    if any(getattr(leaf, "dtype", None) == tf.string for leaf in keras.tree.flatten(sample_weight)):
        raise ValueError(
            "`sample_weight` must be numbers. Received: text, as the third part of (x, y, "
            "sample_weight). Leave out names with `.map(lambda x, y, name: (x, y))`."
        )


def _shapes(tensors):
    leaves = [leaf for leaf in keras.tree.flatten(tensors) if hasattr(leaf, "shape")]
    return [tf.TensorShape(leaf.shape) for leaf in leaves]


def has_scaling(model: keras.Model | None) -> bool:
    """Whether a model may bring its inputs to a scale of its own, before it weighs them."""
    if model is None or not getattr(model, "inputs", None):
        return model is not None  # layers of subclassed models are not known
    for layer in model.layers:
        if isinstance(layer, _SCALING) or (isinstance(layer, keras.Model) and has_scaling(layer)):
            return True
        if layer.trainable_weights or layer.non_trainable_weights:
            return False
    return False


def _are_grey_levels(inputs):
    """Whether the first image of a batch has whole numbers, as files of images do."""
    images = [leaf for leaf in keras.tree.flatten(inputs) if len(leaf.shape) >= 4]
    if not images:
        return tf.constant(False)
    pixels = [tf.cast(image[:1], tf.float32) for image in images]
    return tf.reduce_any(
        [
            tf.reduce_all((image == tf.round(image)) & (image >= 0.0) & (image <= 255.0))
            & (tf.reduce_max(image) > 1.0)
            for image in pixels
        ]
    )
