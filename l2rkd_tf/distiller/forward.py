"""One forward pass of points through a model: its outputs, logits and inner features."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras

from l2rkd_tf.distiller.batch import Batch, Points
from l2rkd_tf.distiller.heads import Heads, Outputs
from l2rkd_tf.distiller.method_term import check_layers_of_methods
from l2rkd_tf.distiller.region_at import HiddenPoints, features_after, make_cut
from l2rkd_tf.distiller.terms import Term
from l2rkd_tf.features import INPUT_GRADIENT, LOGITS, OUTPUT, feature_model
from l2rkd_tf.features.cut import CutModel, State
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
        cut: The model in two parts, where regions are drawn after a layer.

    Attributes:
        model: The model.
        features_argument: The argument `features`.
        cut: The argument `cut`.
    """

    def __init__(
        self,
        model: keras.Model,
        layer_names: Collection[str],
        features: FeatureFunction | None,
        outputs: Outputs,
        cut: CutModel | None = None,
    ) -> None:
        self.model = model
        self.features_argument = features
        self._features: Callable[..., Features] = feature_model(model, layer_names, features)
        self._outputs = outputs
        self.cut = cut

    def __call__(self, batch: Batch, training: bool) -> dict[str, Features]:
        """Features of all points of a batch, from one pass, by where the points are.

        Args:
            batch: The batch.
            training: Whether the model is trained, as for its `call`.

        Returns:
            Features at `"data"`, `"region"` and `"both"`, as `Batch.split` returns them: as `at`,
            with float32 logits under `features.LOGITS`.
        """
        return with_logits(batch.split(self.at(batch.both, training, batch.state)), self._outputs)

    @property
    def front(self) -> Callable[[Any], State] | None:
        """The model's first part in training, where regions are drawn after it."""
        return None if self.cut is None else functools.partial(self.cut.front, training=True)

    def at(self, points: Points, training: bool, state: State | None = None) -> Features:
        """Features of points, by name.

        Args:
            points: The points.
            training: Whether the model is trained, as for its `call`.
            state: What its first part has returned, if it has been run.

        Returns:
            A dict with the model's outputs under `features.OUTPUT`, the outputs of layers under
            their names, and, where the points have directions, projected gradients under
            `features.INPUT_GRADIENT`.
        """
        if isinstance(points.inputs, HiddenPoints):
            assert self.cut is not None
            return features_after(self.cut, points.inputs, training, state)
        if points.directions is None:
            found = self._features(points.inputs, training=training)
        else:
            found, gradients = projected_gradients(
                self._features,
                points.inputs,
                points.directions,
                lambda outputs: self._outputs.each(outputs)[0],
                training=training,
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
    region_at: tuple[str | None, str] | None = None,
    runs_teacher: bool = True,
) -> tuple[Forward | None, Forward]:
    """Forward passes of teacher, if there is one, and student, with the layers that terms compare.

    Args:
        teacher: Keras model or `None`.
        given: The teacher and the preprocessing that it was made of.
        student: Keras model.
        terms: The terms.
        features: As the argument of `L2RKDDistiller`.
        heads: The compared outputs.
        region_at: Layers after which regions are drawn, or `None`.
        runs_teacher: Whether the teacher is run in regions.

    Returns:
        Two `Forward`s; `None` for no teacher.

    Raises:
        ValueError: If regions cannot be drawn after the layers of `region_at`.
    """
    layers = [{name for term in terms for name in term.layers[side]} for side in (0, 1)]
    cuts: list[CutModel | None] = [None, None]
    if region_at is not None:
        if features is not None:
            raise ValueError(
                "`features` must be None with region_at, which takes features from the models' "
                f"graphs. Received: features={features!r}. Leave one of them out."
            )
        if teacher is not None and runs_teacher:
            cuts[0] = make_cut("teacher", teacher, region_at[0], layers[0])
        cuts[1] = make_cut("student", student, region_at[1], layers[1])
        check_layers_of_methods(terms, *cuts)
    return (
        None
        if teacher is None
        else Forward(
            teacher, layers[0], features_of_given(features, *given), heads.teacher, cuts[0]
        ),
        Forward(student, layers[1], features, heads.student, cuts[1]),
    )


def with_logits(features: dict[str, Features], outputs: Outputs) -> dict[str, Features]:
    """Features by where their points are, with float32 logits under `features.LOGITS` in each."""
    return {
        where: found | {LOGITS: outputs.logits(found[OUTPUT])} for where, found in features.items()
    }
