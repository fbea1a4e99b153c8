"""Which teacher cached outputs come from, and whether a distiller can use them."""

import functools
from typing import Any, NamedTuple

import keras

from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.inputs import CachedInputs
from l2rkd_tf.utils.model_checks import check_activation, output_activation

__all__ = ["Origin", "check_origin", "inputs_from", "origin_of"]


class Origin(NamedTuple):
    """What is known of the teacher of cached outputs.

    Attributes:
        weights: Fingerprint of its weights. Layer names do not matter: they differ between two
            models built by the same code.
        activation: Name of its output activation; `None` if its graph does not show it.
    """

    weights: str
    activation: str | None


def origin_of(teacher: keras.Model) -> Origin:
    """The `Origin` of the outputs of this Keras model."""
    activation = output_activation(teacher) if getattr(teacher, "outputs", None) else None
    return Origin(fingerprints.hash_weights(teacher), activation)


@functools.cache
def inputs_from(origin: Origin) -> type[CachedInputs]:
    """The type of `CachedInputs` of this origin.

    A type, since datasets made from others, by `repeat` or `map`, keep only the types of their
    elements. Its name stays the same, since `tf.data` compares types by name.
    """
    return type(CachedInputs.__name__, (CachedInputs,), {"__slots__": (), "origin": origin})


def check_origin(
    data: Any, teacher: keras.Model | None, divergence: Any, from_logits: bool
) -> None:
    """Checks, as far as possible, that cached outputs suit a distiller.

    Args:
        data: What `fit` gets for `x`: a dataset, or anything else.
        teacher: The distiller's Keras model, or `None`.
        divergence: Name of the divergence, or a dict of several by output name.
        from_logits: Whether outputs are logits.

    Raises:
        ValueError: If they are probabilities and the distiller expects logits, or the reverse, or
            if they come from another teacher.
    """
    element = getattr(data, "element_spec", None)
    x = keras.utils.unpack_x_y_sample_weight(element)[0]
    if not isinstance(x, CachedInputs) or x.origin is None:
        return
    if isinstance(divergence, str):
        check_activation(
            "The teacher of the cached inputs `x`", x.origin.activation, divergence, from_logits
        )
    if teacher is not None and fingerprints.hash_weights(teacher) != x.origin.weights:
        raise ValueError(
            "`x` must carry the outputs of the distiller's own `teacher`. Received: a cache of a "
            f"teacher with other weights than those of {teacher.name!r}. Build it again with "
            "cache_teacher, or pass teacher=None if the data carry everything needed; to use two "
            "teachers on purpose, map the data to CachedInputs(x.inputs, x.teacher_outputs)."
        )
