"""How far a piecewise-linear model is exactly linear: along a direction and in a ball."""

import functools
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.piecewise_linear.graph import run, trace
from l2rkd_tf.utils.types import TensorLike
from l2rkd_tf.utils.validation import check_choice, checked_seed, is_positive_integer

__all__ = ["BallRadius", "activation_pattern", "linear_ball_radius", "linear_radius"]

# Exponent of the norm that is dual to the norm of the ball.
_DUAL_EXPONENTS = {"l2": 2, "linf": 1}


class BallRadius(NamedTuple):
    """Radii of the largest balls in which a model is linear.

    Attributes:
        radius: Radius of the ball around each point, in units of the input, float64, shape
            `(batch,)`; `inf` if none of the examined neurons can change.
        exact: Whether all neurons were examined. If not, the radii are upper bounds.
        num_neurons: Number of examined neurons.
    """

    radius: np.ndarray
    exact: bool
    num_neurons: int


def linear_radius(
    model: keras.Model, x: TensorLike, directions: TensorLike, *, batch_size: int = 256
) -> np.ndarray:
    """Distance along a direction at which a piecewise-linear model first changes its pattern.

    Up to there the model is exactly affine along the direction. With `m_i(x) >= 0` the margins
    that hold the activation pattern in place (`|z - threshold|` of a unit with pre-activation
    `z`; the lead of the winner over a candidate of a max-pooling window), and `m_i'` their
    derivatives along the direction `d`, all from one forward-mode pass:

        radius = min_i m_i / -m_i'   over all i with m_i' < 0
               = sup {t: the pattern of x + s d is the same for all 0 < s < t, and that of x}

    A unit on its threshold counts as below it (as the gradient of `tf.nn.relu` has it), and the
    first of tied candidates wins: the radius is 0 if the direction leads off that piece.

    Everything is computed in float64, with copies of the model's layers: the smallest of very many
    margins is a tiny difference of large numbers, for which float32 has too few digits (with
    250,000 units, one radius in ten would be off by more than 20 %).

    Args:
        model: A Functional or Sequential Keras model, with nested models and shared layers, of
            layers that are piecewise linear: convolutions, `Dense`, `BatchNormalization`
            (inference), ReLUs, pooling, sums, reshapes and the like; without a softmax at the end.
        x: Points, shape `(batch, ...)`.
        directions: A direction for each point, shape of `x`. Their length is the unit of the
            radius: the pattern changes at `x + radius * directions`.
        batch_size: Number of points that pass through the model at once.

    Returns:
        Radii in lengths of the directions, float64, shape `(batch,)`; `inf` if the pattern never
        changes.

    Raises:
        ValueError: If a layer or an activation of the model is not supported, the model has not
            one input, or the arrays hold NaN or Inf or do not have the shape of the input.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.ReLU(max_value=6.0)])
        >>> linear_radius(model, [[2.0], [2.0], [7.0]], [[1.0], [-0.5], [1.0]]).tolist()
        [4.0, 4.0, inf]

    Reference: Lee, Alvarez-Melis and Jaakkola, Towards Robust, Locally Linear Deep Networks
    (arXiv:1907.03998): the margins of its linear regions, followed along one direction.
    """
    graph, x = _checked(model, x, batch_size)
    directions = _checked_array("directions", directions)
    if directions.shape != x.shape:
        raise ValueError(
            "`directions` must have the shape of `x`: a direction for each point. Received: "
            f"directions of shape {directions.shape}, x of shape {x.shape}"
        )

    def radius(points, tangents):
        margins, rates = _margins_and_rates(graph, points, tangents)
        never = tf.fill([tf.shape(points)[0], 1], tf.constant(np.inf, points.dtype))
        ends = tf.where(rates < 0, margins / tf.where(rates < 0, -rates, 1.0), np.inf)
        return tf.reduce_min(tf.concat([never, ends], axis=1), axis=1)

    return _in_batches(radius, (x, directions), batch_size)


def linear_ball_radius(
    model: keras.Model,
    x: TensorLike,
    *,
    num_neurons: int | None = None,
    norm: Literal["l2", "linf"] = "l2",
    seed: int = 0,
    batch_size: int = 256,
) -> BallRadius:
    """Radius of the largest ball around a point in which a model keeps its activation pattern.

    The distance to the nearest of the hyperplanes on which a neuron changes:

        radius = min_n |z_n(x)| / ||grad_x z_n(x)||_2

    Exact, not a bound: the points with the pattern of `x` form a polytope on which every `z_n` is
    affine, and its faces lie on the hyperplanes of these affine functions. A hyperplane without a
    face is further away than some face, by convexity. In a max-pooling window, `z_n` is the lead of
    the winner over each other candidate.

    Args:
        model: As for `linear_radius`.
        x: Points, shape `(batch, ...)`.
        num_neurons: `None` examines all neurons, with one pass per input dimension or per neuron,
            whichever is fewer: for small networks. Otherwise the size of a random sample of neurons
            (the same for all points), with one pass each: the minimum over them is an upper bound.
            A unit counts as one neuron for each threshold, a pooling window as one for each
            candidate.
        norm: `"l2"`, or `"linf"` for boxes (the norm of the gradient is then its dual, l1).
        seed: Seed of the sample.
        batch_size: Number of points that pass through the model at once.

    Returns:
        A `BallRadius`: radii in units of the input, and whether they are exact.

    Raises:
        ValueError: As for `linear_radius`, and if `num_neurons`, `norm` or `seed` is not as above.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(threshold=1.0)])
        >>> result = linear_ball_radius(model, [[4.0, 3.0]])
        >>> result.radius.tolist(), result.exact
        ([2.0], True)

    Reference: Lee, Alvarez-Melis and Jaakkola, Towards Robust, Locally Linear Deep Networks
    (arXiv:1907.03998): its l2 margin.
    """
    check_choice("norm", norm, tuple(_DUAL_EXPONENTS))
    if num_neurons is not None and not is_positive_integer(num_neurons):
        raise ValueError(
            "`num_neurons` must be an integer of at least 1, or None for all neurons. "
            f"Received: num_neurons={num_neurons!r}"
        )
    seed = checked_seed(seed)
    graph, x = _checked(model, x, batch_size)
    total = int(_margins(graph, tf.constant(x[:1])).shape[1])
    exact = num_neurons is None or num_neurons >= total
    if total == 0:
        return BallRadius(np.full(len(x), np.inf), True, 0)
    count = total if num_neurons is None else min(num_neurons, total)
    exponent = _DUAL_EXPONENTS[norm]
    if exact and x[0].size < total:
        distances = functools.partial(_distances_by_inputs, exponent=exponent)
    else:
        neurons = np.sort(np.random.default_rng(seed).permutation(total)[:count])
        distances = functools.partial(_distances_by_neurons, exponent=exponent, neurons=neurons)

    def radius(points):
        return tf.reduce_min(distances(graph, points), axis=1)

    return BallRadius(_in_batches(radius, (x,), batch_size), exact, count)


def activation_pattern(model: keras.Model, x: TensorLike, *, batch_size: int = 256) -> np.ndarray:
    """The linear piece of each unit of a piecewise-linear model.

    Two points of equal patterns are joined by a segment on which the model is affine. Computed in
    float64, as `linear_radius`.

    Args:
        model: As for `linear_radius`.
        x: Points, shape `(batch, ...)`.
        batch_size: Number of points that pass through the model at once.

    Returns:
        uint16, shape `(batch, units)`, in the order in which the layers are called: for a unit
        with a ReLU, the number of its thresholds below its value (0 or 1; 2 above the
        `max_value`); for a max-pooling window, the number of the winner in it, row by row.

    Raises:
        ValueError: As `linear_radius`.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU(max_value=6.0)])
        >>> activation_pattern(model, [[-1.0, 2.0, 7.0]]).tolist()
        [[0, 1, 2]]
    """
    graph, x = _checked(model, x, batch_size)

    def pattern(points):
        _, kinks = run(graph, points)
        none = tf.zeros([tf.shape(points)[0], 0], tf.uint16)
        return tf.concat([none, *(kink.pattern for kink in kinks)], axis=1)

    return _in_batches(pattern, (x,), batch_size)


def _margins(graph, points):
    """Margins of all layers, shape `(batch, neurons)`."""
    _, kinks = run(graph, points)
    none = tf.zeros([tf.shape(points)[0], 0], points.dtype)
    return tf.concat([none, *(kink.margins for kink in kinks)], axis=1)


def _margins_and_rates(graph, points, tangents):
    with tf.autodiff.ForwardAccumulator(points, tangents) as accumulator:
        margins = _margins(graph, points)
    zero = tf.UnconnectedGradients.ZERO
    return margins, accumulator.jvp(margins, unconnected_gradients=zero)


def _distances_by_inputs(graph, points, exponent):
    """Distance to each neuron's hyperplane, by a forward-mode pass for each input dimension."""
    size = int(np.prod(points.shape[1:]))

    def add(index, _, powers):
        basis = tf.reshape(tf.one_hot(index, size, dtype=points.dtype), [1, *points.shape[1:]])
        tangents = tf.broadcast_to(basis, tf.shape(points))
        margins, rates = _margins_and_rates(graph, points, tangents)
        return index + 1, margins, powers + tf.abs(rates) ** exponent

    margins = _margins(graph, points)
    state = (0, margins, tf.zeros_like(margins))
    _, margins, powers = tf.while_loop(lambda index, *_: index < size, add, state)
    return _distances(margins, powers, exponent)


def _distances_by_neurons(graph, points, exponent, neurons):
    """Distance to the hyperplanes of some neurons, by a reverse-mode pass for each."""

    def distance(neuron):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            margins = tf.gather(_margins(graph, points), neuron, axis=1)
        gradient = tape.gradient(margins, points, unconnected_gradients="zero")
        gradient = tf.reshape(gradient, [tf.shape(points)[0], -1])
        powers = tf.reduce_sum(tf.abs(gradient) ** exponent, axis=1)
        return _distances(margins, powers, exponent)

    found = tf.map_fn(distance, tf.constant(neurons), fn_output_signature=points.dtype)
    return tf.transpose(found)


def _distances(margins, powers, exponent):
    """Margins over norms; a neuron with zero gradient is infinitely far away, even at margin 0."""
    moves = powers > 0
    norms = tf.where(moves, powers, 1.0) ** (1.0 / exponent)
    return tf.where(moves, margins / norms, np.inf)


def _in_batches(function, arrays, batch_size):
    signature = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays]
    # A concrete function, since TensorFlow warns about a new `tf.function` in every call.
    compiled = tf.function(function, autograph=False).get_concrete_function(*signature)
    batches = range(0, len(arrays[0]), batch_size)
    results = [
        compiled(*(tf.constant(array[start : start + batch_size]) for array in arrays)).numpy()
        for start in batches
    ]
    return np.concatenate(results)


def _checked(model, x, batch_size):
    """Graph of the model, and the inputs in float64."""
    if not is_positive_integer(batch_size):
        raise ValueError(
            f"`batch_size` must be an integer of at least 1. Received: batch_size={batch_size!r}"
        )
    graph = trace(model)
    if len(graph.inputs) != 1:
        raise ValueError(
            f"`model` must have one input. Received: a model with {len(graph.inputs)} inputs"
        )
    symbol = graph.inputs[0]
    x = _checked_array("x", x)
    fits = len(x.shape) == len(symbol.shape) and all(
        expected in (None, size) for expected, size in zip(symbol.shape, x.shape, strict=True)
    )
    if not fits or not len(x):
        raise ValueError(
            "`x` must be at least one point of the shape of the model's input, "
            f"{tuple(symbol.shape)}. Received: x of shape {x.shape}"
        )
    return graph, x


def _checked_array(argument, value):
    try:
        array = np.asarray(value).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{argument}` must be an array of numbers. Received: {argument} of type "
            f"{type(value).__name__}"
        ) from error
    if not np.isfinite(array).all():
        raise ValueError(f"`{argument}` must be finite. Received: infinite or NaN values in it")
    return array
