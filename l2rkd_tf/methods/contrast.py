"""Contrastive distillation: recognizes the teacher's features of an example among others."""

import keras
import tensorflow as tf

from l2rkd_tf.methods.base import FeatureMethod, TrainableMethod
from l2rkd_tf.methods.vectors import directions, flattened
from l2rkd_tf.utils.types import Config, Shape, TensorLike
from l2rkd_tf.utils.validation import is_positive_float32, is_positive_integer

__all__ = ["CRD"]

# Labels, besides class numbers.
_UNKNOWN = -1
_EMPTY = -2


@keras.saving.register_keras_serializable("l2rkd_tf")
class CRD(TrainableMethod, FeatureMethod):
    """Contrastive representation distillation (CRD).

    Learned linear maps, normalized to length 1, produce embeddings `t` and `s` of teacher and
    student. A memory holds the embeddings of the last `num_negatives` examples:

    ```
    value_i = L(s_i, t_i, teacher's memory) + L(t_i, s_i, student's memory)
    L(a, b, memory) = -log h(a . b) - sum over negatives n of log(1 - h(a . n))
    h(x) = exp(x / tau) / (exp(x / tau) + N / M)
    ```

    The negatives of an example are the `N` entries of the memory from earlier batches, except those
    with the same label if both labels are known. An example without negatives, as in the first
    batch, contributes 0.

    `M` is the number of training examples in equation 19 of the paper. The authors' code also
    divides `exp(x / tau)` by a constant, `M` times a mean of `exp(x / tau)`, so that `M` cancels;
    the weights in the paper are for that. `num_examples=None` means `M = 1`, which replaces that
    mean, about 2 in the first step of the authors' code, by 1. With `M` in the tens of thousands,
    the loss starts about a thousand times larger than with `M = 1`, and needs a smaller weight.

    Further differences from the paper: the memory holds the most recent examples, not one entry,
    averaged over epochs, for each example of the dataset, since examples in Keras have no index;
    and all entries are negatives, not a random sample. Each call adds its batch to the memory after
    the loss has read it. Under `tf.distribute`, each replica has its own memory; that of the first
    replica is saved, and restored on all.

    Args:
        teacher_layer_name: Name of the teacher's layer. `None` finds the embedding, the input of
            the classifier. Features of more axes are flattened.
        student_layer_name: Name of the student's layer, or `None`.
        feature_dim: Size of the embeddings that are compared.
        num_negatives: Number of examples in the memory.
        temperature: Positive number `tau`.
        num_examples: `M`, the number of training examples, or `None` for 1.

    Raises:
        ValueError: If a layer name is not a string, or a number is out of range.

    Example:
        >>> method = CRD(feature_dim=8, num_negatives=32)
        >>> values = method.values(tf.ones((4, 5)), tf.ones((4, 3)))  # nothing to compare to yet
        >>> values.numpy().tolist()
        [0.0, 0.0, 0.0, 0.0]
        >>> values = method.values(tf.ones((4, 5)), tf.ones((4, 3)))
        >>> bool(tf.reduce_all(values > 0.0))
        True

    Reference: Tian, Krishnan and Isola, Contrastive Representation Distillation (arXiv:1910.10699),
    equations 17 to 19. The defaults are those of the authors' code, RepDistiller.
    """

    default_weight = 0.8
    uses_labels = True

    def __init__(
        self,
        teacher_layer_name: str | None = None,
        student_layer_name: str | None = None,
        *,
        feature_dim: int = 128,
        num_negatives: int = 16384,
        temperature: float = 0.07,
        num_examples: int | None = None,
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)
        sizes = {"feature_dim": feature_dim, "num_negatives": num_negatives}
        if num_examples is not None:
            sizes["num_examples"] = num_examples
        for argument, size in sizes.items():
            if not is_positive_integer(size):
                raise ValueError(
                    f"`{argument}` must be an integer of at least 1. Received: {argument}={size!r}"
                )
        if not is_positive_float32(temperature):
            raise ValueError(
                f"`temperature` must be a positive number. Received: temperature={temperature!r}"
            )
        self.feature_dim = int(feature_dim)
        self.num_negatives = int(num_negatives)
        self.temperature = float(temperature)
        self.num_examples = None if num_examples is None else int(num_examples)

    def build(self, teacher_shapes: Shape, student_shapes: Shape) -> None:
        """Creates the linear maps and the empty memory."""
        self.teacher_embedding = self._linear("teacher", teacher_shapes)
        self.student_embedding = self._linear("student", student_shapes)
        size = (self.num_negatives, self.feature_dim)
        self.teacher_memory = _memory("teacher_memory", size, "float32", 0.0)
        self.student_memory = _memory("student_memory", size, "float32", 0.0)
        self.label_memory = _memory("label_memory", size[:1], "int32", _EMPTY)

    def per_example(
        self, teacher: tf.Tensor, student: tf.Tensor, labels: TensorLike | None = None
    ) -> tf.Tensor:
        """See `Method.per_example`; labels as `Method.uses_labels` says."""
        teacher = directions(self.teacher_embedding(flattened(teacher)))
        student = directions(self.student_embedding(flattened(student)))
        if labels is None:
            labels = tf.fill([tf.shape(student)[0]], _UNKNOWN)
        labels = tf.cast(labels, tf.int32)
        memories = self.teacher_memory, self.student_memory, self.label_memory
        teacher_entries, student_entries, entry_labels = (
            tf.stop_gradient(tf.convert_to_tensor(memory)) for memory in memories
        )
        negative = _are_negatives(labels, entry_labels)
        # Before the memory is written, since a later read would find the examples themselves.
        values = self._contrast(student, teacher, teacher_entries, negative)
        values += self._contrast(teacher, student, student_entries, negative)
        _prepend(self.teacher_memory, teacher, teacher_entries)
        _prepend(self.student_memory, student, student_entries)
        _prepend(self.label_memory, labels, entry_labels)
        return values

    def _contrast(self, anchors, positives, memory, negative):
        counts = tf.reduce_sum(tf.cast(negative, tf.float32), axis=1)
        log_ratio = tf.math.log(tf.maximum(counts, 1.0) / (self.num_examples or 1))
        # log h = -softplus(log(N / M) - x / tau): no exponential of x / tau overflows.
        alike = tf.reduce_sum(anchors * positives, axis=1) / self.temperature
        alike = tf.math.softplus(log_ratio - alike)
        unlike = tf.matmul(anchors, memory, transpose_b=True) / self.temperature
        unlike = tf.math.softplus(unlike - log_ratio[:, None])
        unlike = tf.reduce_sum(tf.where(negative, unlike, tf.zeros_like(unlike)), axis=1)
        return tf.where(counts > 0.0, alike + unlike, tf.zeros_like(alike))

    def _linear(self, model, shape):
        size = tf.TensorShape(shape)[1:].num_elements()
        if not size:
            raise ValueError(
                f"The {model}'s features must have a known size, for the weights of a linear map. "
                f"Received: features of shape {tuple(shape)}"
            )
        layer = keras.layers.Dense(self.feature_dim, dtype="float32", name=f"{model}_embedding")
        layer.build((None, size))
        return layer

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "feature_dim": self.feature_dim,
            "num_negatives": self.num_negatives,
            "temperature": self.temperature,
            "num_examples": self.num_examples,
        }


def _memory(name, shape, dtype, value):
    """A non-trainable weight with a separate value on each replica."""
    # `add_weight` has no argument `synchronization`.
    return keras.Variable(
        keras.initializers.Constant(value),
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        synchronization="on_read",
        aggregation="only_first_replica",
        name=name,
    )


def _are_negatives(labels, entry_labels):
    """Whether an entry is a negative of an example, boolean, shape `(batch, entries)`."""
    same = (labels[:, None] == entry_labels) & (labels[:, None] > _UNKNOWN)
    return ~same & (entry_labels != _EMPTY)


def _prepend(variable, batch, memory):
    """Writes the batch in front of the memory, and drops the oldest entries."""
    kept = tf.concat([tf.stop_gradient(batch), memory], axis=0)[: memory.shape[0]]
    variable.assign(tf.ensure_shape(kept, memory.shape))
