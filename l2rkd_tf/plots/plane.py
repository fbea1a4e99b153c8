"""The plane through three examples, and the agreement of two models on it."""

import dataclasses

import numpy as np

from l2rkd_tf.utils.types import TensorLike

__all__ = [
    "Plane",
    "plane_grid",
    "top1_agreement",
]


@dataclasses.dataclass(frozen=True)
class Plane:
    """A square part of the plane through three examples.

    A point of it is `origin + u * basis[0] + v * basis[1]`. The basis is orthonormal, so distances
    between coordinates `(u, v)` are distances between inputs.

    Attributes:
        origin: The first example, float64, flattened, shape `(features,)`.
        basis: Two orthonormal directions, float64, shape `(2, features)`.
        corners: Coordinates of the three examples, shape `(3, 2)`.
        horizontal: Coordinates `u` of the columns of the grid, ascending, `(resolution,)`.
        vertical: Coordinates `v` of the rows of the grid, ascending, `(resolution,)`.
        input_shape: Shape of one input, without the batch axis.
    """

    origin: np.ndarray
    basis: np.ndarray
    corners: np.ndarray
    horizontal: np.ndarray
    vertical: np.ndarray
    input_shape: tuple

    @property
    def coordinates(self) -> np.ndarray:
        """Coordinates of the grid, shape `(resolution, resolution, 2)`: row, column, `(u, v)`."""
        return np.stack(np.meshgrid(self.horizontal, self.vertical), axis=-1)

    def points(self, coordinates: TensorLike | None = None) -> np.ndarray:
        """Inputs at the given coordinates.

        Args:
            coordinates: Coordinates `(u, v)`, shape `(..., 2)`. Default: those of the grid.

        Returns:
            Inputs, float32, shape `(..., *input_shape)`.
        """
        coordinates = self.coordinates if coordinates is None else np.asarray(coordinates)
        flat = self.origin + coordinates @ self.basis
        return flat.reshape(*coordinates.shape[:-1], *self.input_shape).astype("float32")


def plane_grid(examples: TensorLike, resolution: int = 120, extent: float = 0.3) -> Plane:
    """The plane through three examples, with true distances, and a grid on it.

    The first example is the origin, the second lies on the horizontal axis and the third above
    it (Gram-Schmidt). The grid is a square around the triangle they form.

    Args:
        examples: Three inputs that do not lie on one line, shape `(3, ...)`.
        resolution: Number of grid points along each side, at least 2.
        extent: Margin around the triangle on each side, as a fraction of the longer side of its
            bounding box; at least 0.

    Returns:
        A `Plane`.

    Raises:
        ValueError: If `examples` are not three inputs with finite values, lie on one line, or
            `resolution` or `extent` is out of range.

    Example:
        >>> plane = plane_grid([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]], resolution=5, extent=0.0)
        >>> plane.corners.tolist()
        [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]
        >>> plane.horizontal.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    examples = np.asarray(examples, "float64")
    _check_grid(examples, resolution, extent)
    flat = examples.reshape(3, -1)
    to_second, to_third = flat[1] - flat[0], flat[2] - flat[0]
    width = np.linalg.norm(to_second)
    across = to_second / width if width else to_second
    along = to_third @ across
    upward = to_third - along * across
    height = np.linalg.norm(upward)
    if min(width, height) <= 1e-6 * max(width, np.linalg.norm(to_third)):
        raise ValueError(
            "`examples` must be three different inputs that do not lie on one line. Received: "
            f"distances {width:.3g} from the first to the second and {height:.3g} from the line "
            "through both to the third."
        )
    corners = np.array([[0.0, 0.0], [width, 0.0], [along, height]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    half_side = (0.5 + extent) * (high - low).max()
    steps = np.linspace(-half_side, half_side, resolution)
    horizontal, vertical = (low + high)[:, None] / 2 + steps
    basis = np.stack([across, upward / height])
    return Plane(flat[0], basis, corners, horizontal, vertical, examples.shape[1:])


def _check_grid(examples, resolution, extent):
    if examples.ndim < 2 or len(examples) != 3 or not np.isfinite(examples).all():
        raise ValueError(
            "`examples` must be three inputs with finite values, an array of shape (3, ...). "
            f"Received: examples of shape {examples.shape}."
        )
    if not isinstance(resolution, (int, np.integer)) or resolution < 2:
        raise ValueError(
            f"`resolution` must be an integer of at least 2. Received: resolution={resolution!r}"
        )
    if not np.isfinite(extent) or extent < 0:
        raise ValueError(
            "`extent` must be a finite number of at least 0, the margin as a fraction of the size "
            f"of the triangle. Received: extent={extent!r}"
        )


def top1_agreement(scores: TensorLike, reference_scores: TensorLike) -> float:
    """Fraction of inputs for which two models predict the same class.

    Args:
        scores: Logits or probabilities, shape `(..., classes)`.
        reference_scores: Those of the other model, with the same shape.

    Returns:
        The fraction, a float between 0 and 1.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> top1_agreement([[2.0, 1.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 0.0]])
        0.5
    """
    scores, reference_scores = np.asarray(scores), np.asarray(reference_scores)
    if scores.shape != reference_scores.shape:
        raise ValueError(
            "`scores` and `reference_scores` must have the same shape (..., classes). Received: "
            f"{scores.shape} and {reference_scores.shape}."
        )
    return float(np.mean(scores.argmax(axis=-1) == reference_scores.argmax(axis=-1)))
