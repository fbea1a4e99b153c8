"""Which teacher cached outputs come from, and whether it is the one that a distiller needs."""

import functools
from typing import Any, NamedTuple

import keras

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.inputs import CachedInputs
from l2rkd_tf.utils.validation import check_activation, output_activation

__all__ = ["Origin", "check_origin", "inputs_from", "origin_of"]


class Origin(NamedTuple):
    """What is known of the teacher that gave cached outputs.

    Attributes:
        weights: Fingerprint of its weights. Names of layers do not matter, which differ between
            a model and the same one that was made again.
        activation: Name of the function that makes its outputs; `None` where its graph does not
            tell.
    """

    weights: str
    activation: str | None


def origin_of(teacher: keras.Model) -> Origin:
    """The `Origin` of what this Keras model gives."""
    activation = output_activation(teacher) if getattr(teacher, "outputs", None) else None
    return Origin(fingerprints.hash_weights(teacher), activation)


@functools.cache
def inputs_from(origin: Origin) -> type[CachedInputs]:
    """The type of `CachedInputs` of this origin.

    A type, since data sets that are made of others, by `repeat` or `map`, keep the types of
    elements and nothing else. The name stays, by which `tf.data` compares types.
    """
    return type(CachedInputs.__name__, (CachedInputs,), {"__slots__": (), "origin": origin})


def check_origin(
    data: Any, teacher: keras.Model | None, divergence: str, from_logits: bool
) -> None:
    """Checks, as far as it is known, that cached outputs are those that a distiller needs.

    Args:
        data: What `fit` gets for `x`: a data set, or anything else.
        teacher: The distiller's Keras model, or `None`.
        divergence: Name of the divergence.
        from_logits: Whether outputs are taken for logits.

    Raises:
        ValueError: If they are probabilities in the place of logits, or logits in that of
            probabilities, or come from another teacher.
    """
    element = getattr(data, "element_spec", None)
    x = keras.utils.unpack_x_y_sample_weight(element)[0]
    if not isinstance(x, CachedInputs) or x.origin is None:
        return
    check_activation(
        "The teacher of the cached inputs `x`", x.origin.activation, divergence, from_logits
    )
    if teacher is not None and fingerprints.hash_weights(teacher) != x.origin.weights:
        raise ValueError(
            "`x` must carry the outputs of the distiller's own `teacher`. Received: a cache of a "
            f"teacher with other weights than those of {teacher.name!r}. Build it anew with "
            "cache_teacher, or pass teacher=None where the data carry all that is needed; to have "
            "two teachers on purpose, map the data to CachedInputs(x.inputs, x.teacher_outputs)."
        )
