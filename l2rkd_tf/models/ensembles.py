"""Several teachers as one Keras model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from l2rkd_tf.utils.model_checks import input_symbols, new_inputs
from l2rkd_tf.utils.outputs import tensor_or_dict
from l2rkd_tf.utils.types import Config, Divergence, TensorLike
from l2rkd_tf.utils.validation import check_choice, check_flag

__all__ = ["MeanOfMembers", "ensemble"]

_DIVERGENCES = ("kl", "binary_kl", "mse")


@keras.saving.register_keras_serializable("l2rkd_tf")
class MeanOfMembers(keras.layers.Layer):
    """Joins an output of several teachers: see `ensemble` for the equations.

    Args:
        divergence: `"kl"`, `"binary_kl"` or `"mse"`.
        from_logits: Whether the outputs are logits and not probabilities.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self, divergence: Divergence = "kl", from_logits: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)
        check_choice("divergence", divergence, _DIVERGENCES)
        check_flag("from_logits", from_logits)
        self.divergence = divergence
        self.from_logits = from_logits
        self.supports_masking = True

    def call(self, outputs: Sequence[TensorLike]) -> Any:
        """One tensor, of the shape of each of the members' outputs."""
        stacked = keras.ops.stack(outputs)
        if self.divergence == "mse" or not self.from_logits:
            return keras.ops.mean(stacked, axis=0)
        if self.divergence == "kl":
            total = keras.ops.logsumexp(keras.ops.log_softmax(stacked), axis=0)
            return total - math.log(len(outputs))
        yes, no = (
            keras.ops.logsumexp(keras.ops.log_sigmoid(sign * stacked), axis=0) for sign in (1, -1)
        )
        return yes - no

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the first member."""
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return super().get_config() | {
            "divergence": self.divergence,
            "from_logits": self.from_logits,
        }


def ensemble(
    teachers: Sequence[keras.Model],
    *,
    divergence: Divergence | Mapping[str, Divergence | None] = "kl",
    from_logits: bool = True,
) -> keras.Model:
    """Combine teachers into one model that averages what they predict.

    An ensemble is often a more accurate teacher than any of its members. `L2RKDDistiller` makes one
    of a list of teachers. Its outputs are of the same kind as those of its members:

    ```
    "kl"         logits(x) = log( mean_k softmax(logits_k(x)) )
    "binary_kl"  logits(x) = logit( mean_k sigmoid(logits_k(x)) )
    "mse", or probabilities: the mean of the outputs
    ```

    At temperature 1 a student thus learns the ensemble's own predictions. A mean of the logits
    would instead be dominated by the member with the largest logits, and a single confident member
    could rule out what all others consider possible.

    Args:
        teachers: One or more functional or sequential `keras.Model`s with the same inputs and the
            same outputs, of shape `(batch, ..., outputs)`; of several outputs, those of the same
            names.
        divergence: That of the distiller, which says what the outputs are; a dict by output name
            for several outputs. Those that it leaves out are left out.
        from_logits: Whether the teachers output logits; `False` for probabilities.

    Returns:
        A functional `keras.Model` with the inputs of its members, and float32 outputs of the shapes
        of theirs. It shares the layers of `teachers`, and can be saved.

    Raises:
        ValueError: If `teachers` is empty, if a member is a subclassed model without a graph of
            layers, or if the shapes of inputs or outputs differ; if `divergence` or `from_logits`
            is not as above.

    Example:
        >>> from l2rkd_tf import models
        >>> members = [models.convnet((8, 8, 1), 10) for _ in range(3)]
        >>> teacher = models.ensemble(members)
        >>> teacher.output_shape
        (None, 10)
    """
    _check_graphs(teachers)
    inputs = new_inputs(input_symbols(teachers[0]))
    members = [  # under names of their own
        keras.Model(input_symbols(teacher), _outputs(teacher), name=f"teacher{index}")
        for index, teacher in enumerate(teachers)
    ]
    _check_shapes(members)
    outputs = [member(inputs) for member in members]
    if not isinstance(outputs[0], dict):
        mean = MeanOfMembers(_of_output(divergence, None) or "kl", from_logits)
        return keras.Model(inputs, mean(outputs), name="ensemble")
    by_name = {}
    for name in outputs[0]:
        of_output = _of_output(divergence, name)
        if of_output is not None:
            mean = MeanOfMembers(of_output, from_logits, name=f"mean_{name}")
            by_name[name] = mean([output[name] for output in outputs])
    return keras.Model(inputs, by_name, name="ensemble")


def _of_output(divergence: Any, name: str | None) -> Divergence | None:
    """The divergence of an output; `None` for the name of the only one."""
    if not isinstance(divergence, Mapping):
        return divergence
    return divergence.get(name) if name is not None else next(iter(divergence.values()), None)


def _outputs(teacher):
    if isinstance(teacher, keras.Sequential):
        return teacher.outputs[0]
    return tensor_or_dict("teachers", teacher, teacher.output)


def _check_graphs(teachers):
    if not teachers or any(input_symbols(teacher) is None for teacher in teachers):
        raise ValueError(
            "`teachers` must be one or more functional or sequential Keras models. Received: "
            f"teachers={teachers}"
        )


def _check_shapes(members):
    found = [(member.input_shape, member.output_shape) for member in members]
    if any(pair != found[0] for pair in found):
        raise ValueError(
            "`teachers` must have the same input shape and the same output shape. Received: models "
            f"with input and output shapes {found}"
        )
