"""One forward pass of points through a model: its outputs, logits and inner features."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras

from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.heads import Heads, Outputs
from l2rkd_tf.distiller.terms import Term
from l2rkd_tf.features import INPUT_GRADIENT, LOGITS, OUTPUT, feature_model
from l2rkd_tf.methods.jacobian import projected_gradients
from l2rkd_tf.teachers import features_of_given
from l2rkd_tf.utils.types import FeatureFunction, Features

__all__ = ["Forward", "make_forwards", "with_logits"]


class Forward:
    """Passes points through a model, once, and returns all that terms compare.

    Args:
        model: Keras model.
        layer_names: Names of the layers whose outputs terms compare.
        features: As the argument of `L2RKDDistiller`.
        outputs: Finds the compared outputs among those of the model.

    Attributes:
        model: The model.
        features_argument: The argument `features`.
    """

    def __init__(
        self,
        model: keras.Model,
        layer_names: Collection[str],
        features: FeatureFunction | None,
        outputs: Outputs,
    ) -> None:
        self.model = model
        self.features_argument = features
        self._features: Callable[..., Features] = feature_model(model, layer_names, features)
        self._outputs = outputs

    def __call__(self, batch: Batch, training: bool) -> dict[str, Features]:
        """Features of all points of a batch, from one pass, by where the points are.

        Args:
            batch: The batch.
            training: Whether the model is trained, as for its `call`.

        Returns:
            Features at `"data"`, `"region"` and `"both"`, as `Batch.split` returns them: as `at`,
            with float32 logits under `features.LOGITS`.
        """
        return with_logits(batch.split(self.at(batch.both, training)), self._outputs)

    def at(self, points: Points, training: bool) -> Features:
        """Features of points, by name.

        Args:
            points: The points.
            training: Whether the model is trained, as for its `call`.

        Returns:
            A dict with the model's outputs under `features.OUTPUT`, the outputs of layers under
            their names, and, where the points have directions, projected gradients under
            `features.INPUT_GRADIENT`.
        """
        if points.directions is None:
            found = self._features(points.inputs, training=training)
        else:
            found, gradients = projected_gradients(
                self._features, points.inputs, points.directions, training=training
            )
            found |= {INPUT_GRADIENT: gradients}
        return found

    def trace(self, inputs: Any) -> Features:
        """The model's features for inputs, in inference mode, to know their shapes."""
        found = self._features(inputs, training=False)
        return found | {LOGITS: self._outputs.logits(found[OUTPUT])}


def make_forwards(
    teacher: keras.Model | None,
    given: tuple[Any, Any],
    student: keras.Model,
    terms: Sequence[Term],
    features: FeatureFunction | None,
    heads: Heads,
) -> tuple[Forward | None, Forward]:
    """Forward passes of teacher, if there is one, and student, with the layers that terms compare.

    Args:
        teacher: Keras model or `None`.
        given: The teacher and the preprocessing that it was made of.
        student: Keras model.
        terms: The terms.
        features: As the argument of `L2RKDDistiller`.
        heads: The compared outputs.

    Returns:
        Two `Forward`s; `None` for no teacher.
    """
    layers = [{name for term in terms for name in term.layers[side]} for side in (0, 1)]
    return (
        None
        if teacher is None
        else Forward(teacher, layers[0], features_of_given(features, *given), heads.teacher),
        Forward(student, layers[1], features, heads.student),
    )


def with_logits(features: dict[str, Features], outputs: Outputs) -> dict[str, Features]:
    """Features by where their points are, with float32 logits under `features.LOGITS` in each."""
    return {
        where: found | {LOGITS: outputs.logits(found[OUTPUT])} for where, found in features.items()
    }
