"""Paired differences that pages tell and no table holds, and the cells that they are of."""

import collections
import functools
import json
import pathlib

import numpy as np
from scipy import stats

from studies.harness import fractions

ROOT = pathlib.Path(__file__).parents[2]
_SMALL, _LARGE, _FEW, _MORE = "6,000 weights", "95,000 weights", 100 / 55_000, 600 / 55_000


def _of(study, pair, fraction):
    """Cells of a study by method, of one pair and fraction."""
    return lambda method: (study, pair, fraction, method)


def _longer(fraction, method, study="f1_longer", pair=_SMALL):
    """The same after four times the steps, and after one."""
    long, short = _of(study, pair, fraction), _of("f1_fashion", pair, fraction)
    return [long(method)], [short(method)]


def _lead_in_gain(fraction, *study_and_pair):
    """What L2RKD gains from longer training beyond what KD gains."""
    (own, before), (other, earlier) = (
        _longer(fraction, name, *study_and_pair) for name in ("L2RKD, augmented", "KD, augmented")
    )
    return own + earlier, before + other


_DIGITS = {fraction: _of("fewshot_digits", "digits", fraction) for fraction in (0.05, 1.0)}
_BENCH = {fraction: _of("bench_fashion", _SMALL, fraction) for fraction in (_FEW, _MORE)}
_SCHEDULES = {
    fraction: _of("bench_schedules", _SMALL, fraction) for fraction in (_FEW, 6000 / 55_000)
}
_ALL = _of("f2_fashion", _SMALL, 1.0)


def _of_schedule(fraction, method):
    """What another weight or schedule changes."""
    cell = _SCHEDULES[fraction]
    return [cell(method)], [cell("patch")]


def _on_bench(study, method, length, pair=None):
    """A cell of the bench with students of two sizes."""
    fraction = _FEW if "permuted" in study else 0.1 if "series" in study else 0.05
    return (f"bench_{study}", pair, fraction, method, length)


def _added(study, length, pair=None):
    """What one added point each changes, against half of each batch."""
    names = ("1 added each", "L2RKD")
    if pair and "student" in pair:
        names = tuple(f"{name}, augmented" for name in names)
    return tuple([_on_bench(study, name, length, pair)] for name in names)


def _against_region(region, fraction):
    """The default of vectors, minus another region."""
    cell = _of("f4_permuted", "mnist", fraction)
    return [cell("L2RKD")], [cell(region)]


def _against_pe_bkd(study, length, pair):
    names = ("L2RKD, augmented", "PE-BKD, augmented")
    return tuple([_on_bench(study, name, length, pair)] for name in names)


def _in_methods(method, other, fraction, seeds=range(10)):
    cell = _of("f5_methods", "digits", fraction)
    return tuple([(*cell(name), None, seeds)] for name in (method, other))


def _interpolated_segments(study, pair, fraction):
    """What interpolated targets cost segments."""
    names = ("region: segment", "segment, interpolated")
    return tuple([_of(study, pair, fraction)(name)] for name in names)


def _against_segments(study, length):
    return tuple([_on_bench(study, name, length)] for name in ("L2RKD", "segment"))


def _patches_against_augmented_kd(data, length):
    """Patches without augmentation, in the study of regions, minus KD with it."""
    cell = _on_bench(f"{data}_sizes", "KD, augmented", length, "small student")
    return [_of(f"bench_{data}", data, 0.05)("patch")], [cell]


def _lead_on_bench(study, pair=None):
    """What L2RKD gains from four times the steps beyond what KD gains."""
    cells = {
        (name, length): _on_bench(study, name, length, pair)
        for name in ("L2RKD", "KD")
        for length in (1.0, 4.0)
    }
    return (
        [cells["L2RKD", 4.0], cells["KD", 1.0]],
        [cells["L2RKD", 1.0], cells["KD", 4.0]],
    )


def _against_funmatch(study, pair, images):
    """L2RKD minus FunMatch, both augmented."""
    cell = _of(study, pair, fractions.of_known(images)[0])
    return [cell("L2RKD, augmented")], [cell("FunMatch, augmented")]


def _with_augmentation(pair):
    """What augmentation adds to L2RKD with 100 images of Fashion-MNIST."""
    cell = _of("f1_fashion", pair, _FEW)
    return [cell("L2RKD, augmented")], [cell("L2RKD")]


def _pe_bkd_on_mnist(images):
    """PE-BKD minus L2RKD, both augmented."""
    cell = _of("f3_mnist", "mnist", fractions.of_known(images)[0])
    return [cell("PE-BKD, augmented")], [cell("L2RKD, augmented")]


def _augmented_noise(fraction):
    """Noise minus patches, both augmented."""
    cell = _of("fewshot_digits", "digits", fraction)
    return [cell("noise, augmented")], [cell("L2RKD, augmented")]


def _on_tables(pair, fraction):
    """Noise of one standard deviation, minus swaps."""
    cell = _of("tables", pair, fraction)
    return [cell("noise of 1")], [cell("swap")]


#: Augmented L2RKD minus L2RKD without augmentation, at a rate of 0.03.
_AT_ANOTHER_RATE = (
    [_on_bench("digits_sizes", "L2RKD, augmented", 1.0, "small student")],
    [_of("bench_digits", "digits", 0.05)("patch")],
)
#: `{page: {text: (cells that are added, cells that are subtracted)}}`.
COMPARISONS = {
    "README.md": {
        "0.4 ± 0.8 above it": _against_funmatch("f1_others", "fashion", 100),
    },
    "docs/fashion.md": {
        "1.0 ± 0.3 and": _with_augmentation(_LARGE),
        "1.4 ± 0.6 (not": _with_augmentation(_SMALL),
        "a little (0.3 ± 0.2": (
            [_of("f1_longer_large", _LARGE, _MORE)("L2RKD, augmented")],
            [_of("f1_longer_large", _LARGE, _MORE)("KD, augmented")],
        ),
        "1.3 ± 0.6 below": (
            [_of("f1_fashion", _SMALL, _MORE)("L2RKD")],
            [_of("f1_fashion", _SMALL, _MORE)("L2RKD, augmented")],
        ),
        "(-0.3 ± 0.8, not": (
            [_of("f1_others", "fashion", 6000 / 55_000)("KD, augmented")],
            [_of("f1_others", "fashion", _MORE)("KD, augmented")],
        ),
        "1.6 ± 0.2 here": (
            [_of("f1_fashion", _LARGE, _MORE)("L2RKD")],
            [_of("f1_fashion", _LARGE, _MORE)("KD")],
        ),
        "0.4 ± 0.8 above": _against_funmatch("f1_others", "fashion", 100),
        "0.8 ± 0.3 and": _against_funmatch("f1_others", "fashion", 600),
        "1.0 ± 0.5 with": _against_funmatch("f1_others", "fashion", 6000),
    },
    "docs/benchmarks.md": {
        "0.2 ± 0.1 pp worse": (
            [("ablation_again", "digits", 0.1, "default")],
            [("ablation_again", "digits", 0.1, "region weight 3")],
        ),
    },
    "docs/mnist.md": {
        "(0.2 ± 0.2 and": _pe_bkd_on_mnist(50),
        "0.2 ± 0.3, not": _pe_bkd_on_mnist(100),
        "1.7 ± 0.5,": _against_funmatch("f3_mnist", "mnist", 50),
        "0.8 ± 0.4 and": _against_funmatch("f3_mnist", "mnist", 100),
        "0.2 ± 0.1 above": _against_funmatch("f3_mnist", "mnist", 2000),
    },
    "docs/same_data.md": {
        "0.1 ± 0.4 and": (
            [_of("f6_same_data", "fashion", _MORE)("L2RKD")],
            [_of("f6_same_data", "fashion", _MORE)("KD")],
        ),
        "-0.1 ± 0.4 (not": (
            [_of("f6_same_data", "fashion", 6000 / 55_000)("L2RKD")],
            [_of("f6_same_data", "fashion", 6000 / 55_000)("KD")],
        ),
    },
    "docs/tuning.md": {
        "0.3 ± 0.6 percentage": (
            [_of("ablation", "digits", 0.1)("default")],
            [_of("ablation", "digits", 0.1)("points: 1 added each")],
        ),
        "2.4 ± 1.0 on glyphs": (
            [_of("ablation_glyphs", "glyphs", 0.05)("default")],
            [_of("ablation_glyphs", "glyphs", 0.05)("points: 1 added each")],
        ),
        "(0.1 ± 0.5, 600": (
            [_of("f1_longer", _SMALL, _MORE)("L2RKD, augmented")],
            [_of("f1_longer", _SMALL, _MORE)("KD, augmented")],
        ),
    },
    "docs/longer_training.md": {
        "0.6 ± 0.4 below L2RKD": (
            [_of("f1_longer", _SMALL, _MORE)("L2RKD, augmented")],
            [_of("f1_longer", _SMALL, _MORE)("PE-BKD, augmented")],
        ),
        "1.1 ± 0.5 with 100": _longer(_FEW, "KD, augmented"),
        "1.9 ± 0.6 with 600": _longer(_MORE, "KD, augmented"),
        "1.0 ± 0.5": _lead_in_gain(_FEW),
        "1.1 ± 0.4 more": _lead_in_gain(_MORE),
        "KD 2.0 ± 0.6": (
            [_of("bench_fashion_longer", _SMALL, 6000 / 55_000)("KD, augmented")],
            [_SCHEDULES[6000 / 55_000]("KD, augmented")],
        ),
        "L2RKD 2.0 ± 0.3": (
            [_of("bench_fashion_longer", _SMALL, 6000 / 55_000)("L2RKD, augmented")],
            [_SCHEDULES[6000 / 55_000]("patch")],
        ),
        "KD 1.4 ± 0.5": _longer(_FEW, "KD, augmented", "f1_longer_large", _LARGE),
        "L2RKD 1.6 ± 0.5": _longer(_FEW, "L2RKD, augmented", "f1_longer_large", _LARGE),
        "(-0.3 ± 0.5)": (
            [_of("f1_longer", _SMALL, _FEW)("L2RKD, augmented")],
            [_of("f1_longer", _SMALL, _FEW)("PE-BKD, augmented")],
        ),
        "0.3 ± 0.5 is": _lead_in_gain(_MORE, "f1_longer_large", _LARGE),
        "2.9 ± 0.6 below": (
            [_of("f1_longer", _SMALL, _MORE)("KD, augmented")],
            [_of("f1_fashion", _SMALL, _MORE)("L2RKD, augmented")],
        ),
        "0.9 ± 0.2 below": (
            [_of("f1_longer_large", _LARGE, _MORE)("KD, augmented")],
            [_of("f1_fashion", _LARGE, _MORE)("L2RKD, augmented")],
        ),
        "2.9 ± 0.6 above": (
            [_of("f1_fashion", _LARGE, _FEW)("L2RKD, augmented")],
            [_of("f1_longer_large", _LARGE, _FEW)("KD, augmented")],
        ),
        "1.4 ± 1.1 above": (
            [_of("f1_fashion", _SMALL, _FEW)("L2RKD, augmented")],
            [_of("f1_longer", _SMALL, _FEW)("KD, augmented")],
        ),
    },
    "docs/inputs.md": {
        "2.8 ± 0.5 pp": _against_region("noise of 1", _FEW),
        "3.2 ± 0.9 above": _against_region("swap", _FEW),
        "0.3 ± 0.2 above": _against_region("noise of 1", 1000 / 55_000),
        "(0.4 ± 0.8 pp": _on_tables(None, 0.05),
        "-0.0 ± 0.7 with": _on_tables(None, 0.1),
        "1.4 ± 0.5 pp more": _on_tables("tables/digits", 0.05),
        "-0.0 ± 0.5 with": _on_tables("tables/digits", 0.1),
        "0.6 ± 0.3 and": (
            [("scenes", "scenes", 0.05, "segment")],
            [("scenes", "scenes", 0.05, "student only")],
        ),
        "0.4 ± 0.4 (not": (
            [("scenes", "scenes", 0.05, "patch")],
            [("scenes", "scenes", 0.05, "student only")],
        ),
    },
    "docs/little_data.md": {
        "0.8 ± 0.7 to": ([_DIGITS[0.05]("L2RKD")], [_DIGITS[0.05]("L2RKD, augmented")]),
        "1.3 ± 0.8 (not": ([_DIGITS[1.0]("L2RKD")], [_DIGITS[1.0]("L2RKD, augmented")]),
        "0.8 ± 0.6 above": _in_methods("L2RKD", "KD, augmented", 0.1),
        "0.7 ± 0.7 lower": (
            [("f5_methods", "digits", 0.1, "KD", None, range(5))],
            [("fewshot_digits", "digits", 0.1, "KD")],
        ),
        "(+0.3 ± 1.5": _AT_ANOTHER_RATE,
        "0.5 ± 0.3 to": _augmented_noise(0.25),
        "0.9 ± 0.6, not": _augmented_noise(0.1),
    },
    "docs/ideas.md": {
        "-0.2 ± 0.4 with 100": ([_BENCH[_FEW]("patch of weight 3")], [_BENCH[_FEW]("patch")]),
        "-0.3 ± 0.8 with 600": ([_BENCH[_MORE]("patch of weight 3")], [_BENCH[_MORE]("patch")]),
        "0.6 ± 0.4 and a falling": _of_schedule(_FEW, "patch of weight 0.3")[::-1],
        "0.3 ± 0.2 (not": _of_schedule(_FEW, "weight falls to 0")[::-1],
        "1.0 ± 0.7 below": (
            [_SCHEDULES[6000 / 55_000]("KD, warm-up")],
            [_SCHEDULES[6000 / 55_000]("patch, warm-up")],
        ),
        "1.0 ± 1.5 above": _against_segments("series_small", 4.0),
        "0.2 ± 0.2 with [all": (
            [_ALL("L2RKD of weight 0.3, augmented")],
            [_ALL("L2RKD, augmented")],
        ),
        "0.3 ± 0.4)": (
            [_of("f1_fashion", _SMALL, _MORE)("L2RKD")],
            [_of("f1_fashion", _SMALL, _MORE)("KD")],
        ),
        "1.6 ± 0.2": (
            [_of("f1_fashion", _LARGE, _MORE)("L2RKD")],
            [_of("f1_fashion", _LARGE, _MORE)("KD")],
        ),
        "0.1 ± 0.4": (
            [_of("f6_same_data", "fashion", _MORE)("L2RKD")],
            [_of("f6_same_data", "fashion", _MORE)("KD")],
        ),
    },
    "docs/ablation.md": {
        "1.8 ± 1.0 and": _interpolated_segments("ablation", "digits", 0.1),
        "5.2 ± 1.8 (not": _interpolated_segments("ablation_glyphs", "glyphs", 0.05),
    },
    "docs/published_methods.md": {
        "0.7 ± 0.4; over": _in_methods("KD", "KD, augmented", 1.0),
        "0.9 ± 0.6 (not corrected)": _in_methods("L2RKD", "KD, augmented", 0.05),
        "(+0.4 ± 1.0)": _in_methods("L2RKD", "KD, augmented", 0.1, range(5)),
        "+0.4 ± 1.0, and": _in_methods("L2RKD", "KD, augmented", 0.1, range(5)),
        "+1.1 ± 1.1": _in_methods("L2RKD", "KD, augmented", 0.1, range(5, 10)),
        "0.8 ± 0.4 (not": _in_methods("L2RKD", "KD, augmented", 1.0),
        "0.8 ± 0.6,": _in_methods("L2RKD", "jacobian_matching + KD", 0.05),
        "0.4 ± 0.4 and": _in_methods("L2RKD", "jacobian_matching + KD", 0.1),
        "0.5 ± 0.2 pp": _in_methods("L2RKD", "jacobian_matching + KD", 1.0),
        "+0.3 ± 1.5 at": _AT_ANOTHER_RATE,
        "2.5 ± 1.3, and": _in_methods("dkd + KD", "KD", 0.05),
        "2.1 ± 1.6 (not": _in_methods("KD", "crd + KD", 0.05),
    },
    "docs/choosing_a_region.md": {
        "[0.8 ± 0.6": _in_methods("L2RKD", "KD, augmented", 0.1),
        "17.7 ± 1.1": _against_region("KD", _FEW),
        "4.2 ± 0.3": _against_region("KD", 1000 / 55_000),
        "0.7 ± 0.2": _against_region("KD", 1.0)[::-1],
        "0.6 ± 0.9, is": (
            [_of("bench_fashion_regions", "fashion", _FEW)("patch")],
            [_of("bench_fashion_regions", "fashion", _FEW)("swap of patches")],
        ),
    },
    "docs/sizes.md": {
        "2.5 ± 1.7 better": _added("tables_small", 4.0, "tables/diabetes"),
        "0.5 ± 0.6, in favour": _added("tables_small", 4.0),
        "2.2 ± 0.5 pp": _added("glyphs_sizes", 4.0, "small student")[::-1],
        "0.9 ± 0.7 for": _added("glyphs_sizes", 4.0, "large student")[::-1],
        "2.0 ± 0.9)": (
            [_on_bench("glyphs_sizes", "KD, augmented", 4.0, "small student")],
            [_on_bench("glyphs_sizes", "1 added each, augmented", 4.0, "small student")],
        ),
        "26.3 ± 7.9": _added("glyphs_sizes", 1.0, "small student")[::-1],
        "31.5 ± 7.6": _added("glyphs_sizes", 1.0, "large student")[::-1],
        "2.4 ± 2.3 for": _against_pe_bkd("glyphs_sizes", 1.0, "large student"),
        "4.0 ± 4.6": _lead_on_bench("series_small"),
        "-0.7 ± 4.2 and": _against_segments("series_small", 1.0),
        "1.0 ± 1.5 for": _against_segments("series_small", 4.0),
        "0.6 ± 1.2 and": _against_segments("series_large", 1.0),
        "0.1 ± 0.3 for": _against_segments("series_large", 4.0),
        "0.6 ± 0.3 for large": _lead_on_bench("series_large"),
        "0.3 ± 0.2 better after": _added("series_large", 4.0),
        "0.7 ± 1.6 for": _lead_on_bench("tables_small"),
        "0.0 ± 1.2 for": _lead_on_bench("tables_large"),
        "1.1 ± 0.7 pp for": _lead_on_bench("permuted_sizes", "small student"),
        "2.3 ± 1.0 for": _lead_on_bench("permuted_sizes", "large student"),
        "1.4 ± 0.9 (not": (
            [_on_bench("permuted_sizes", "KD", 1.0, "large student")],
            [_on_bench("permuted_sizes", "KD", 4.0, "large student")],
        ),
        "0.6 ± 1.1, in": _added("digits_sizes", 1.0, "small student")[::-1],
        "1.2 ± 2.7 higher": _added("series_small", 1.0)[::-1],
        "0.7 ± 1.0 after": _added("series_small", 4.0)[::-1],
        "(-0.3 ± 0.7 and": _patches_against_augmented_kd("glyphs", 4.0),
        "0.4 ± 0.8, not": _patches_against_augmented_kd("digits", 1.0),
    },
    "docs/all_data.md": {
        "0.2 ± 0.5 without": ([_DIGITS[1.0]("L2RKD")], [_DIGITS[1.0]("KD")]),
    },
}


@functools.cache
def _runs(study):
    return json.loads((ROOT / f"studies/results/{study}.json").read_text())["runs"]


def accuracies(study, pair, fraction, method, length=None, seeds=None):
    """Test accuracies of a cell, in the order of the seeds; `pair=None` is the mean of all pairs.

    `length` may be left out where a study has one only, and `seeds` for all.
    """
    found = collections.defaultdict(list)
    for run in _runs(study):
        if (
            (run["phase"], run.get("method")) == ("test", method)
            and pair in (None, run["pair"])
            and length in (None, run["length"])
            and (seeds is None or run["seed"] in seeds)
            and np.isclose(run["fraction"], fraction)
        ):
            found[run["seed"]].append((run["pair"], run["accuracy"]))
    assert len(found) in (5, 10)
    pairs = [sorted(name for name, _ in found[seed]) for seed in found]
    assert all(names == sorted(set(pairs[0])) for names in pairs)
    return np.array([np.mean([value for _, value in found[seed]]) for seed in sorted(found)])


def difference(added, subtracted):
    """Mean of the paired difference and the half-width of its 95 % CI (Student's t)."""
    values = sum(accuracies(*cell) for cell in added)
    values = values - sum(accuracies(*cell) for cell in subtracted)
    scale = stats.t.ppf(0.975, len(values) - 1) / len(values) ** 0.5
    return values.mean(), scale * values.std(ddof=1)


def paired_by_seed(study, method, other, fraction=None):
    """Differences of two methods in what was measured besides the accuracy.

    Returns:
        `differences(measure, key)`: an array, one number for each seed, of `run[measure][key]`.
    """

    def measured(name, measure, key):
        own = [run for run in _runs(study) if (run["phase"], run.get("method")) == ("test", name)]
        own = [run for run in own if fraction in (None, run["fraction"])]
        return np.array([run[measure][key] for run in sorted(own, key=lambda run: run["seed"])])

    return lambda measure, key: measured(method, measure, key) - measured(other, measure, key)
