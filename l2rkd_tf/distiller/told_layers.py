"""What `fit` prints before the first epoch: which layers methods compare."""

from collections.abc import Sequence

import keras
from absl import logging

from l2rkd_tf.distiller.method_term import MethodTerm
from l2rkd_tf.features import layer_outputs
from l2rkd_tf.utils.types import FeatureFunction

__all__ = ["tell_layers"]


def tell_layers(
    terms: Sequence[MethodTerm],
    teacher: keras.Model | None,
    student: keras.Model,
    features: FeatureFunction | None,
    verbose: str | int,
) -> None:
    """Prints which layers methods compare, a line for each method that has a weight.

    Args:
        terms: The methods.
        teacher: Keras model, or `None`.
        student: Keras model.
        features: As the argument of `L2RKDDistiller`: with it, shapes are not known.
        verbose: That of `fit`; nothing is printed at 0.
    """
    if verbose == 0:
        return
    models = [] if features else [teacher, student]
    outputs = [layer_outputs(model) for model in models] or [{}, {}]
    for term in terms:
        if term.weight and term.layers[0]:
            line = _comparison(term, outputs) + _frozen(term, outputs[1])
            if keras.config.is_interactive_logging_enabled():
                print(line, flush=True)
            else:
                logging.info(line)


def _frozen(term, outputs):
    """Says which layers of the student learn nothing."""
    frozen = [path for path in term.layers[1] if path in outputs and not outputs[path].trainable]
    return f"; the student's {frozen} are frozen and learn nothing from it" if frozen else ""


def _comparison(term, outputs):
    """Such as "FitNet compares teacher 'block2' (None, 8, 8, 32) with student 'conv1' (...)"."""
    teacher, student = (
        [f"{path!r} {of_model[path].shape}" if path in of_model else repr(path) for path in layers]
        for of_model, layers in zip(outputs, term.layers, strict=True)
    )
    pairs = [f"teacher {one} with student {two}" for one, two in zip(teacher, student, strict=True)]
    return f"{type(term.method).__name__} compares {', '.join(pairs)}"
