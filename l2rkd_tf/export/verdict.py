"""Whether an artifact is good enough, and if not, why."""

import warnings

import numpy as np

from l2rkd_tf.export.artifacts import Run
from l2rkd_tf.export.examples import Examples, batches
from l2rkd_tf.export.layer_search import describe, inner_outputs
from l2rkd_tf.export.outputs import of_output
from l2rkd_tf.export.parity import Comparison, Limits, check_finite, compare_each
from l2rkd_tf.export.reference import Reference
from l2rkd_tf.export.report import ExportError
from l2rkd_tf.export.spread import FRACTION, distances, outliers, robust_spread

__all__ = ["checked_comparisons", "warn_of_outliers"]

_NUM_NAMED = 3
_BATCH = 64
_LEVELS = 255  # of 8 bits, between the smallest and the largest value


def checked_comparisons(
    run: Run, reference: Reference, quantization: str | None, limits: Limits
) -> dict[str, Comparison]:
    """The differences of an artifact that agrees with its student, for each output.

    Raises:
        ExportError: If an output differs too much, or agrees too rarely.
    """
    check_finite(run.results, "exported artifact", reference.examples.source)
    comparisons = compare_each(reference.outputs, run.results)
    failed = [
        _measured(comparison, of_output(name, comparisons), quantization, limits)
        for name, comparison in comparisons.items()
        if not comparison.is_within(limits.tolerance)
        or not comparison.agrees(limits.min_top1_agreement)
    ]
    if not failed:
        return comparisons
    examples = reference.examples
    compared = f"Compared on {len(examples.positions)} inputs from {examples.source}."
    reasons = _exact_reasons if quantization is None else _quantization_reasons
    raise ExportError(" ".join([*failed, compared, *reasons(reference, quantization)]))


def _measured(comparison, of_which, quantization, limits):
    largest, mean, spread, top1 = comparison
    agreement = ""
    if top1 is not None:
        agreement = f" Top-1 agreement: {top1:.3g}; min_top1_agreement={limits[1]:g}."
    return (
        f"The export with quantization={quantization!r} differs from the Keras student{of_which} "
        f"by {largest:.3g} (mean {mean:.3g}), which is {comparison.relative_difference:.3g} of the "
        f"spread {spread:.3g} of its outputs; tolerance={limits[0]:g}.{agreement}"
    )


def _exact_reasons(reference, quantization):
    """Names the layer that does something else when it is traced, or says what else to look at."""
    first = next(batches(reference.examples.arrays, _BATCH))
    runs = (inner_outputs(reference.model, first, in_graph) for in_graph in (False, True))
    for (layer, eager), (_, traced) in zip(*runs, strict=True):
        if np.abs(eager - traced).max() > 1e-3 * robust_spread(eager):
            return [
                f"The layer {describe(layer)} computes something else in a traced graph than when "
                "it is called: `call` must use TensorFlow or `keras.ops` only, and must not depend "
                "on Python state or on `tf.executing_eagerly()`."
            ]
    return [
        "Check that its layers compute the same in a `tf.function`. If outputs are not classes, "
        "set `min_top1_agreement=0`."
    ]


def _quantization_reasons(reference, quantization):
    """What spoils the quantization, as far as it can be told, and what to do."""
    reasons = [*_outlier_sentences(reference.examples)]
    if quantization in ("dynamic", "int8"):
        reasons += _coarse_layers(reference)
    return [
        *reasons,
        "Otherwise use a finer quantization. If outputs are not classes, set "
        "`min_top1_agreement=0`; if such differences are acceptable, raise `tolerance`.",
    ]


def warn_of_outliers(examples: Examples) -> None:
    """Warns about values in calibration data that are far outside the range of the others."""
    for sentence in _outlier_sentences(examples):
        warnings.warn(sentence, stacklevel=3)


def _outlier_sentences(examples):
    """Names the outliers in each input, and says what they do."""
    for name, array in examples.by_name.items():
        if not np.issubdtype(array.dtype, np.number):
            continue
        found = outliers(array)
        if not len(found):
            continue
        values = array.reshape(len(array), -1)
        places = distances(array).argmax(axis=1)
        named = ", ".join(
            f"{values[row, places[row]]:.4g} in example {examples.positions[row]} at "
            f"{[int(axis) for axis in np.unravel_index(places[row], array.shape[1:])]}"
            for row in found[:_NUM_NAMED]
        )
        more = f" and {len(found) - _NUM_NAMED} more" if len(found) > _NUM_NAMED else ""
        usual = np.quantile(distances(array).max(axis=1), FRACTION, method="lower")
        yield (
            f"`representative_data` has outliers in the input {name!r}: {named}{more}, counted "
            f"from 0, where {FRACTION:.0%} of the examples stay within {usual:.3g} of the median. "
            "Leave them out or clip them, unless the student really receives such values: int8 "
            "spends most of its 256 levels on them."
        )


def _coarse_layers(reference):
    """Names the layers whose usual outputs share the fewest levels of 8 bits."""
    first = next(batches(reference.examples.arrays, _BATCH))
    levels = {}
    for layer, output in inner_outputs(reference.model, first):
        low, high = min(output.min(), 0.0), max(output.max(), 0.0)
        if high > low:
            used = _LEVELS * min(1.0, robust_spread(output) / (high - low))
            levels[describe(layer)] = max(1, round(used))
    worst = sorted(levels, key=levels.__getitem__)[:_NUM_NAMED]
    named = ", ".join(f"{layer} {levels[layer]}" for layer in worst)
    if not named:
        return []
    return [
        f"Layers in which the values of {FRACTION:.0%} of the examples share the fewest of the "
        f"{_LEVELS + 1} levels of 8 bits: {named}."
    ]
