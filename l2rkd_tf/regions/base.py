"""The base class of regions, and what all regions share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.regions.leaves import checked_fixed
from l2rkd_tf.utils.types import Config, TensorLike, Tensors
from l2rkd_tf.utils.validation import is_positive_float32

register = keras.saving.register_keras_serializable("l2rkd_tf")


class Region:
    """Base class of regions: subclass it to define your own.

    A subclass implements `draw` and `apply`; it multiplies its draws by `radius_variable`, so that
    a change of `radius` takes effect in a compiled training step.

    Args:
        radius: Size of the region, positive. A plain attribute that may be set at any time.
        fixed: Names of inputs that stay as they are, for a subclass whose `draw` and `apply` leave
            them out: keys of a dict, or numbers of a list; `"a/b"` for `inputs["a"]["b"]`.

    Raises:
        ValueError: If `radius` is not a positive finite number, or above `max_radius`, or `fixed`
            isn't a sequence of names.

    Example:
        >>> class Towards(Region):
        ...     '''Every example goes `radius` of the way to the one before it.'''
        ...     def draw(self, inputs, seed, labels=None):
        ...         return self.radius_variable.read_value()
        ...     def apply(self, tensor, coefficients):
        ...         return tensor + coefficients * (tf.roll(tensor, 1, axis=0) - tensor)
        >>> region = Towards(radius=0.5)
        >>> x = tf.constant([[0.0], [2.0]])
        >>> region.apply(x, region.draw(x, seed=[0, 0])).numpy().tolist()
        [[1.0], [1.0]]

    Reference: the idea of a local region is from Deng and Zhang (arXiv:2010.04812); the definition
    above is not from the paper.
    """

    #: Largest allowed radius: 1 means all the way to the partner.
    max_radius = 1.0
    #: Whether `apply` is meaningful for logits, so that targets can be interpolated.
    interpolates_targets = True
    #: Whether points depend on other examples of the batch.
    needs_partners = True
    #: Names of inputs that stay as they are.
    fixed: tuple[str, ...] = ()

    def __init__(self, radius: float = 1.0, fixed: Sequence[str | int] = ()) -> None:
        with tf.init_scope():
            self.radius_variable = tf.Variable(
                self._checked_radius(radius), dtype=tf.float32, trainable=False, name="radius"
            )
        self._radius = float(radius)
        self.fixed = checked_fixed(fixed)

    @property
    def radius(self) -> float:
        """Size of the region."""
        return self._radius

    @radius.setter
    def radius(self, value: float) -> None:
        self.radius_variable.assign(self._checked_radius(value))
        self._radius = float(value)

    def _checked_radius(self, radius):
        if not is_positive_float32(radius) or radius > self.max_radius:
            bound = "" if np.isinf(self.max_radius) else f" and at most {self.max_radius:g}"
            raise ValueError(
                f"`radius` must be a finite number above 0{bound}. Received: radius={radius!r}"
            )
        return float(radius)

    def draw(self, inputs: Tensors, seed: TensorLike, labels: TensorLike | None = None) -> Any:
        """Draws the coefficients of a batch.

        Args:
            inputs: Batch of points: a tensor of shape `(batch, ...)`, or a list or dict of such.
            seed: Stateless seed, int32, shape `(2,)`. The same seed returns the same draw in eager
                mode, in a graph and under XLA.
            labels: Labels of the batch, for regions that need them.

        Returns:
            Coefficients for `apply`.

        Raises:
            ValueError: If the inputs cannot be mixed, or labels are needed and missing.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `draw`.")

    def apply(self, tensor: Tensors, coefficients: Any) -> Any:
        """Moves a batch by drawn coefficients; linear in `tensor`.

        Args:
            tensor: Batch of shape `(batch, ...)`, or a list or dict of such: inputs, logits or
                one-hot labels.
            coefficients: What `draw` returned for this batch.

        Returns:
            The moved batch, of the same structure, shapes and float dtypes (float32 for uint8 and
            for one-hot integers; boolean for masks, see `move_mask`). Token ids, categories and
            strings among the inputs keep their dtype: each is one of the examples'.

        Raises:
            ValueError: If the region has no map for such a tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `apply`.")

    def at_fraction(self, coefficients: Any, fraction: TensorLike) -> Any:
        """Coefficients of points between the examples and the boundary of the region.

        ```
        apply(x, at_fraction(coefficients, fraction)) = x + fraction * (boundary - x)
        ```

        where `boundary` is the point at which the ray from the example `x` through its drawn point
        leaves the region. An example that equals its drawn point moves in a direction given by its
        partners, and stays where it is if it has none. A custom region needs this method only for
        measures that use it, such as `l2rkd_tf.geometry.fidelity_profile`.

        Args:
            coefficients: What `draw` returned for a batch.
            fraction: 0 for the example, 1 for the boundary: a number, or float32 of shape
                `(batch,)`.

        Returns:
            Coefficients for `apply`.

        Raises:
            NotImplementedError: If the region does not define it.

        Example:
            >>> region = Segment(radius=0.5)
            >>> x = tf.constant([[0.0], [2.0]])
            >>> drawn = region.draw(x, seed=[0, 0])
            >>> region.apply(x, region.at_fraction(drawn, 1.0)).numpy().tolist()
            [[1.0], [1.0]]
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `at_fraction(coefficients, fraction)` to be "
            "measured at fractions of the way to its boundary: it returns the coefficients of "
            "`x + fraction * (boundary - x)`."
        )

    def targets(self, outputs: Tensors, coefficients: Any) -> Any:
        """Outputs at the drawn points, interpolated from outputs at the examples.

        Args:
            outputs: A model's outputs at the examples, shape `(batch, ..., outputs)`, or a list or
                dict of such.
            coefficients: What `draw` returned for this batch.

        Returns:
            Outputs of the same structure and shapes; by default those of `apply` to each of them.
        """
        return keras.tree.map_structure(lambda leaf: self.apply(leaf, coefficients), outputs)

    def move_mask(self, mask: tf.Tensor, coefficients: Any) -> tf.Tensor:
        """Which positions of the moved examples are data, and not padding.

        Args:
            mask: Which positions of the examples are data, boolean, shape `(batch, *positions)`.
                `Patch` and `Swap` also move weights of positions, which are floats.
            coefficients: What `draw` returned for this batch.

        Returns:
            Tensor of the same shape and dtype: by default, true where an example and all that it is
            mixed with are data.
        """
        return self.apply(mask, coefficients)

    def set_data_format(self, data_format: str | None) -> None:
        """Sets where images have their channels; a distiller calls it with that of its layers.

        Args:
            data_format: `"channels_first"`, `"channels_last"`, or `None` if it is not known.
        """

    def rename_fixed(self, names: Mapping[str, str]) -> None:
        """Calls inputs in `fixed` as the data do; a distiller does so, which knows both.

        Args:
            names: New names of inputs, by their old ones; others stay.
        """
        if self.fixed:
            self.fixed = tuple(names.get(name, name) for name in self.fixed)

    def set_teacher(self, teacher: keras.Model | None) -> None:
        """Sets the teacher of a region that needs one; a loaded distiller calls it."""

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return {"radius": self.radius} | ({"fixed": self.fixed} if self.fixed else {})

    @classmethod
    def from_config(cls, config: Config) -> "Region":
        """Creates a region from `get_config()`."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def in_float(tensor: TensorLike, function: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Applies `function` in float32 or better and returns the result in the tensor's float dtype.

    Unsigned images would wrap around in `x_j - x`, and half precision is too coarse. A mask, which
    is boolean, stays one: it is true where all that is mixed is.
    """
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype == tf.bool:
        return function(tf.cast(tensor, tf.float32)) >= 1.0
    compute_dtype = tf.float64 if tensor.dtype == tf.float64 else tf.float32
    moved = function(tf.cast(tensor, compute_dtype))
    return tf.cast(moved, tensor.dtype) if tensor.dtype.is_floating else moved


def append_axes(tensor: tf.Tensor, rank: int) -> tf.Tensor:
    """Appends axes of length one until the tensor has the rank."""
    return tf.reshape(tensor, tf.concat([tf.shape(tensor), [1] * (rank - tensor.shape.rank)], 0))


def scaled(tensor: tf.Tensor, factor: TensorLike) -> tf.Tensor:
    """Multiplies a batch by a number, or by one number for each example."""
    factor = tf.cast(factor, tensor.dtype)
    return tensor * (append_axes(factor, tensor.shape.rank) if factor.shape.rank else factor)
