"""Which teacher cached outputs come from, and whether a distiller can use them."""

import functools
import json
from typing import Any, NamedTuple

import keras

from l2rkd_tf.regions import Region
from l2rkd_tf.teacher_cache import fingerprints
from l2rkd_tf.teacher_cache.inputs import CachedInputs, CachedRegions
from l2rkd_tf.teachers.kinds import has_preprocessing
from l2rkd_tf.utils.output_checks import check_activation, output_activation
from l2rkd_tf.utils.outputs import names_of_outputs

__all__ = ["Origin", "RegionLook", "check_origin", "inputs_from", "origin_of", "region_text"]


class Origin(NamedTuple):
    """What is known of the teacher of cached outputs.

    Attributes:
        weights: Fingerprint of its weights. Layer names do not matter: they differ between two
            models built by the same code.
        activations: Names of its outputs, and of the activation of each as far as its graph shows
            it; `()` if the graph does not show the outputs.
        preprocessed: Whether it got its inputs through `teacher_preprocessing`.
        region: The region in which it was also run, as text, or `None`.
    """

    weights: str
    activations: tuple[tuple[str, str | None], ...]
    preprocessed: bool
    region: str | None = None


def origin_of(teacher: keras.Model, region: Region | None = None) -> Origin:
    """The `Origin` of the outputs of this Keras model, also in a region if one is given."""
    names = names_of_outputs(teacher) or ()
    activations = tuple((name, output_activation(teacher, at)) for at, name in enumerate(names))
    weights = fingerprints.hash_weights(teacher)
    text = None if region is None else region_text(region)
    return Origin(weights, activations, has_preprocessing(teacher), text)


@functools.cache
def inputs_from(origin: Origin, kind: Any = CachedInputs) -> Any:
    """The type of `CachedInputs`, or `CachedRegions`, of this origin.

    A type, since datasets made from others, by `repeat` or `map`, keep only the types of their
    elements. Its name stays the same, since `tf.data` compares types by name.
    """
    return type(kind.__name__, (kind,), {"__slots__": (), "origin": origin})


def region_text(region: Region | None) -> str:
    """A region with all its settings, as text."""
    return json.dumps(keras.saving.serialize_keras_object(region), sort_keys=True)


def check_origin(
    data: Any,
    teacher: keras.Model | None,
    divergence: Any,
    from_logits: bool,
    region: Region | None = None,
) -> None:
    """Checks, as far as possible, that cached outputs suit a distiller.

    Args:
        data: What `fit` gets for `x`: a dataset, or anything else.
        teacher: The distiller's Keras model, or `None`.
        divergence: Name of the divergence, or a dict by output name, with `None` for outputs that
            are not compared.
        from_logits: Whether outputs are logits.
        region: That of the distiller, if it is known yet.

    Raises:
        ValueError: If they are probabilities and the distiller expects logits, or the reverse, or
            if they come from another teacher, or not through the same preprocessing, or belong to
            points of another region.
    """
    origin = _origin_in(data)
    if origin is None:
        return
    _check_region(origin, region)
    for subject, activation, of_output in _compared(origin.activations, divergence):
        check_activation(subject, activation, of_output, from_logits)
    if teacher is not None and has_preprocessing(teacher) != origin.preprocessed:
        with_or_without = ("without", "with")[origin.preprocessed]
        raise ValueError(
            "`x` must carry outputs of the distiller's own `teacher`. Received: a cache that was "
            f"made {with_or_without} `teacher_preprocessing`. Pass the same one to cache_teacher "
            "and to the distiller."
        )
    if teacher is not None and fingerprints.hash_weights(teacher) != origin.weights:
        raise ValueError(
            "`x` must carry the outputs of the distiller's own `teacher`. Received: a cache of a "
            f"teacher with other weights than those of {teacher.name!r}. Build it again with "
            "cache_teacher, or pass teacher=None if the data carry everything needed; to use two "
            "teachers on purpose, map the data to CachedInputs(x.inputs, x.teacher_outputs)."
        )


class RegionLook(keras.callbacks.Callback):
    """Checks before each epoch that points which data carry are still those of the region."""

    def __init__(self) -> None:
        super().__init__()
        self._origin: Origin | None = None

    def begin(self, distiller: keras.Model, data: Any) -> None:
        """Notes the distiller, which a `CallbackList` would not tell, and its `x` of `fit`."""
        self.set_model(distiller)
        self._origin = _origin_in(data)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """As in Keras.

        Raises:
            ValueError: If a callback has changed the region.
        """
        _check_region(self._origin, self.model.region)


def _check_region(origin, region):
    """Checks that region points that data carry are those of this region."""
    if origin is None or region is None or origin.region in (None, region_text(region)):
        return
    raise ValueError(
        "`x` must carry points of the distiller's own `region`. Received: a cache of region "
        f"points of {origin.region}, and the region {region_text(region)}. Pass the same region to "
        "cache_regions and to the distiller, and no callback that changes it."
    )


def _origin_in(data):
    """The `Origin` of what a dataset carries, or `None`."""
    x = keras.utils.unpack_x_y_sample_weight(getattr(data, "element_spec", None))[0]
    return x.origin if isinstance(x, (CachedInputs, CachedRegions)) else None


def _compared(activations, divergence):
    """Words, activation and divergence of the teacher's outputs that are known to be compared."""
    teacher = "teacher of the cached inputs `x`"
    if len(activations) == 1:
        ((name, activation),) = activations
        if isinstance(divergence, dict) and len(divergence) == 1:
            (divergence,) = divergence.values()
        of_output = divergence.get(name) if isinstance(divergence, dict) else divergence
        return [(f"The {teacher}", activation, of_output)] if of_output else []
    by_name = divergence if isinstance(divergence, dict) else {}
    return [
        (f"The output {name!r} of the {teacher}", activation, by_name[name])
        for name, activation in activations
        if by_name.get(name)
    ]
