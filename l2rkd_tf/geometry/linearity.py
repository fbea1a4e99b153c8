"""How far a model is from linear between two inputs."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.features import model_outputs
from l2rkd_tf.geometry.evaluation import (
    as_arrays,
    batched,
    checked_fractions,
    mean_and_stderr,
    per_example,
    ratio_and_stderr,
)
from l2rkd_tf.utils.model_checks import check_models_are_built
from l2rkd_tf.utils.outputs import flat_outputs
from l2rkd_tf.utils.types import Tensors

__all__ = ["LinearityGap", "linearity_gap", "linearity_gaps"]


class LinearityGap(NamedTuple):
    """Mean distance of a model's outputs from linear interpolation.

    Attributes:
        fractions: Fractions of the way to the partner, shape `(fractions,)`.
        absolute: Mean distance at each, in units of the outputs, shape `(fractions,)`.
        absolute_stderr: Its standard error over the examples.
        relative: Mean distance over the mean distance between the outputs at both ends, shape
            `(fractions,)`; NaN if the ends do not differ.
        relative_stderr: Its standard error over the examples, by the delta method.
    """

    fractions: np.ndarray
    absolute: np.ndarray
    absolute_stderr: np.ndarray
    relative: np.ndarray
    relative_stderr: np.ndarray


def linearity_gap(
    model: keras.Model,
    x: Tensors,
    partners: Tensors,
    fractions: Sequence[float] | np.ndarray = (0.25, 0.5, 0.75),
    *,
    batch_size: int = 256,
) -> LinearityGap:
    """Measures how far a model is from linear on segments between examples and partners.

    ```
    x_f    = x + f * (partner - x)
    gap(f) = || f(x_f) - [(1 - f) f(x) + f f(partner)] ||_2
    ```

    It is 0 for every `f` if the model is linear on the segment. The relative gap is a ratio of
    means, `mean(gap) / mean(||f(partner) - f(x)||)`, not a mean of ratios, which pairs with nearly
    equal outputs would dominate.

    Args:
        model: Built Keras model with outputs of shape `(batch, ...)`: for teachers and students,
            logits. The norm is over all outputs of an example.
        x: Inputs, an array of shape `(examples, ...)`, or a list or dict of such.
        partners: The other ends of the segments, of the same structure and shapes.
        fractions: Fractions of the way to the partner, from 0 to 1.
        batch_size: Examples evaluated together.

    Returns:
        `LinearityGap`.

    Raises:
        ValueError: If `model` is not built, `x` and `partners` are not floating-point or uint8
            arrays of equal shapes, `fractions` are not numbers from 0 to 1, or `batch_size` is
            below 1.

    Example:
        >>> absolute = keras.Sequential([keras.Input((1,)), keras.layers.Activation(abs)])
        >>> gap = linearity_gap(absolute, [[-1.0], [1.0]], [[3.0], [2.0]], fractions=[0.25])
        >>> gap.absolute.tolist(), gap.relative.tolist()  # gaps 1.5 and 0, changes 2 and 1
        ([0.75], [0.5])

    Reference: what Deng and Zhang (arXiv:2010.04812) call locally linear; the measure itself is not
    from the paper.
    """
    gaps, changes = linearity_gaps(model, x, partners, fractions, batch_size=batch_size)
    return LinearityGap(
        checked_fractions(fractions),
        *mean_and_stderr(gaps.T),
        *ratio_and_stderr(gaps.T, changes[:, None]),
    )


def linearity_gaps(
    model: keras.Model,
    x: Tensors,
    partners: Tensors,
    fractions: Sequence[float] | np.ndarray = (0.25, 0.5, 0.75),
    *,
    batch_size: int = 256,
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of a model's outputs from linear interpolation, one for each example.

    Args:
        model: See `linearity_gap`.
        x: See `linearity_gap`.
        partners: See `linearity_gap`.
        fractions: See `linearity_gap`.
        batch_size: See `linearity_gap`.

    Returns:
        Gaps, float32, shape `(fractions, examples)`, and distances `||f(partner) - f(x)||_2`
        between the outputs at both ends, float32, shape `(examples,)`.

    Raises:
        ValueError: If `model` is not built, `x` and `partners` are not floating-point or uint8
            arrays of equal shapes, `fractions` are not numbers from 0 to 1, or `batch_size` is
            below 1.

    Example:
        >>> absolute = keras.Sequential([keras.Input((1,)), keras.layers.Activation(abs)])
        >>> gaps, changes = linearity_gaps(absolute, [[-1.0]], [[3.0]], fractions=[0.25, 0.5])
        >>> gaps.tolist(), changes.tolist()
        ([[1.5], [1.0]], [2.0])
    """
    check_models_are_built(model=model)
    fractions = checked_fractions(fractions)
    if isinstance(x, tf.data.Dataset) or isinstance(partners, tf.data.Dataset):
        raise ValueError(
            "`x` and `partners` must be arrays, so that they stay paired. Received: a "
            "tf.data.Dataset"
        )
    sides = [as_arrays(x), as_arrays(partners)]
    _check_pairs(*sides)

    def step(inputs, labels, number):
        del labels, number
        starts, ends = (keras.tree.map_structure(_float_inputs, side) for side in inputs)
        at_start, at_end = (flat_outputs(model_outputs(model, side)) for side in (starts, ends))

        def gap(fraction):
            points = keras.tree.map_structure(
                lambda start, end: start + tf.cast(fraction, start.dtype) * (end - start),
                starts,
                ends,
            )
            straight = at_start + fraction * (at_end - at_start)
            return tf.norm(flat_outputs(model_outputs(model, points)) - straight, axis=-1)

        gaps = tf.map_fn(gap, fractions, fn_output_signature=tf.float32)
        return tf.transpose(gaps), tf.norm(at_end - at_start, axis=-1)

    gaps, changes = per_example(step, batched(sides, batch_size))
    return gaps.T, changes


def _check_pairs(x, partners):
    shapes = [[leaf.shape for leaf in keras.tree.flatten(side)] for side in (x, partners)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`partners` must have the shape of `x`. Received: partners of shapes "
            f"{shapes[1]} for inputs of shapes {shapes[0]}"
        )
    for leaf in keras.tree.flatten([x, partners]):
        if not (tf.as_dtype(leaf.dtype).is_floating or leaf.dtype == np.uint8):
            raise ValueError(
                "`x` and `partners` must be floating-point or uint8 arrays, to interpolate "
                f"between them. Received: inputs of dtype {leaf.dtype}"
            )


def _float_inputs(tensor):
    # Half precision is too coarse to interpolate.
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
