"""All comparisons of L2RKD and KD with 600 images or more, both with augmentation."""

from studies.harness import registry, summary, tables
from tests.studies.comparisons import accuracies

SMALL, LARGE = "6,000 weights", "95,000 weights"
_AUGMENTED = ("L2RKD, augmented", "KD, augmented")
_ON_BENCH = ("patch", "KD, augmented")
_WARMED_UP = ("patch, warm-up", "KD, warm-up")
#: Comparisons with 600 images or more, both augmented: study, pair, student, images, methods.
_MANY_IMAGES = (
    ("f1_fashion", SMALL, SMALL, 600, _AUGMENTED),
    ("f1_fashion", LARGE, LARGE, 600, _AUGMENTED),
    ("f1_longer", SMALL, SMALL, 600, _AUGMENTED),
    ("f1_longer_large", LARGE, LARGE, 600, _AUGMENTED),
    ("bench_fashion", SMALL, SMALL, 600, _ON_BENCH),
    ("bench_fashion", LARGE, LARGE, 600, _ON_BENCH),
    ("f3_mnist", "mnist", SMALL, 2000, _AUGMENTED),
    ("f1_others", "fashion", SMALL, 6000, _AUGMENTED),
    ("bench_schedules", SMALL, SMALL, 6000, _ON_BENCH),
    ("bench_schedules", SMALL, f"{SMALL}, warm-up", 6000, _WARMED_UP),
    ("bench_fashion_6000", LARGE, LARGE, 6000, _ON_BENCH),
    ("bench_fashion_longer", SMALL, SMALL, 6000, _AUGMENTED),
    ("bench_fashion_longer_large", LARGE, LARGE, 6000, _AUGMENTED),
    ("f2_fashion", SMALL, SMALL, 55_000, _AUGMENTED),
    ("f2_longer", SMALL, SMALL, 55_000, _AUGMENTED),
    ("f2_large", LARGE, LARGE, 55_000, _AUGMENTED),
)


def with_many_images():
    """What L2RKD gains over KD with 600 images or more, corrected for all of these comparisons.

    Returns:
        `{(study, student, images): row}`, a row as `summary.paired_statistics` makes it.
    """
    found = {
        key: summary.paired_statistics(differences_by_seed(*key))
        for key in ((name, student, images) for name, _, student, images, _ in _MANY_IMAGES)
    }
    summary.correct(found.values())
    return found


def differences_by_seed(name, student, images):
    """Differences of one of these comparisons, an array in the order of the seeds."""
    ((pair, methods),) = [
        (pair, methods)
        for study, pair, who, number, methods in _MANY_IMAGES
        if (study, who, number) == (name, student, images)
    ]
    own, other = (accuracies(name, pair, images / 55_000, method) for method in methods)
    return own - other


def table_with_many_images():
    """The same as the lines of a table of `docs/benchmarks.md`."""
    lines = ["| study | student | images | steps | L2RKD minus KD |", "|---|---|--:|--:|--:|"]
    for (name, student, images), row in with_many_images().items():
        study, link = registry.get(name), f"[{name}](../studies/results/{name}.md)"
        steps = int(study.steps * study.lengths[0])
        text = tables.difference_text(row)
        lines.append(f"| {link} | {student} | {images:,} | {steps:,} | {text} |")
    return lines
