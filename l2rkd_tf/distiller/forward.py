"""One forward pass of points through a model: its outputs, logits and inner features."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.objective import Term
from l2rkd_tf.distiller.settings import Settings
from l2rkd_tf.features import INPUT_GRADIENT, LOGITS, OUTPUT, feature_model
from l2rkd_tf.losses import logits_from_probabilities
from l2rkd_tf.methods.jacobian import projected_gradients
from l2rkd_tf.utils.types import FeatureFunction, Features

__all__ = ["Forward", "as_logits", "make_forwards", "with_logits"]


class Forward:
    """Passes points through a model, once, and returns all that terms compare.

    Args:
        model: Keras model.
        layer_names: Names of the layers whose outputs terms compare.
        features: As the argument of `L2RKDDistiller`.
        probabilities_of: Name of the divergence if the model outputs probabilities; `None` if it
            outputs logits.

    Attributes:
        model: The model.
        features_argument: The argument `features`.
    """

    def __init__(
        self,
        model: keras.Model,
        layer_names: Collection[str],
        features: FeatureFunction | None,
        probabilities_of: str | None,
    ) -> None:
        self.model = model
        self.features_argument = features
        self._features: Callable[..., Features] = feature_model(model, layer_names, features)
        self._probabilities_of = probabilities_of

    def __call__(self, batch: Batch, training: bool) -> dict[str, Features]:
        """Features of all points of a batch, from one pass, by where the points are.

        Args:
            batch: The batch.
            training: Whether the model is trained, as for its `call`.

        Returns:
            Features at `"data"`, `"region"` and `"both"`, as `Batch.split` returns them: as `at`,
            with float32 logits under `features.LOGITS`.

        Raises:
            ValueError: If the model has several outputs.
        """
        return with_logits(batch.split(self.at(batch.both, training)), self._probabilities_of)

    def at(self, points: Points, training: bool) -> Features:
        """Features of points, by name.

        Args:
            points: The points.
            training: Whether the model is trained, as for its `call`.

        Returns:
            A dict with the model's outputs under `features.OUTPUT`, the outputs of layers under
            their names, and, where the points have directions, projected gradients under
            `features.INPUT_GRADIENT`.

        Raises:
            ValueError: If the model has several outputs.
        """
        if points.directions is None:
            found = self._features(points.inputs, training=training)
        else:
            found, gradients = projected_gradients(
                self._features, points.inputs, points.directions, training=training
            )
            found |= {INPUT_GRADIENT: gradients}
        if keras.tree.is_nested(found[OUTPUT]):
            raise ValueError(
                "`teacher` and `student` must have one output each, of shape (batch, ..., "
                "outputs). Received: outputs "
                f"{keras.tree.map_structure(lambda output: output.shape, found[OUTPUT])}"
            )
        return found

    def trace(self, inputs: Any) -> Features:
        """The model's features for inputs, in inference mode, to know their shapes."""
        found = self._features(inputs, training=False)
        return found | {LOGITS: found[OUTPUT]}


def make_forwards(
    teacher: keras.Model | None,
    student: keras.Model,
    terms: Sequence[Term],
    features: FeatureFunction | None,
    settings: Settings,
) -> tuple[Forward | None, Forward]:
    """Forward passes of teacher, if there is one, and student, with the layers that terms compare.

    Args:
        teacher: Keras model or `None`.
        student: Keras model.
        terms: The terms.
        features: As the argument of `L2RKDDistiller`.
        settings: Those of the distiller.

    Returns:
        Two `Forward`s; `None` for no teacher.
    """
    layers = [{name for term in terms for name in term.layers[side]} for side in (0, 1)]
    options = features, settings.probabilities_of
    return (
        None if teacher is None else Forward(teacher, layers[0], *options),
        Forward(student, layers[1], *options),
    )


def with_logits(features: dict[str, Features], probabilities_of: str | None) -> dict[str, Features]:
    """Features by where their points are, with float32 logits under `features.LOGITS` in each."""
    return {
        where: found | {LOGITS: as_logits(found[OUTPUT], probabilities_of)}
        for where, found in features.items()
    }


def as_logits(outputs: tf.Tensor, probabilities_of: str | None) -> tf.Tensor:
    """A model's outputs as float32 logits, of shape `(batch, ..., outputs)`.

    Args:
        outputs: The outputs.
        probabilities_of: Name of the divergence if these are probabilities, else `None`.
    """
    if len(outputs.shape) == 1:  # one number for each example
        outputs = outputs[:, None]
    if probabilities_of is None:
        return tf.cast(outputs, tf.float32)
    return logits_from_probabilities(outputs, probabilities_of)
