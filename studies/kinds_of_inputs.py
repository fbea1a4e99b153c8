"""Regions for inputs of every kind: numbers, time series, texts and scenes, at equal compute.

Each seed divides the examples again, but for MNIST, whose division is fixed, and has a teacher of
its own, which has seen all training examples. Noise is in units of the inputs' standard deviations.
MNIST must be prepared: see `studies/harness/tasks/known.py`.
"""

from studies.harness import fractions
from studies.harness.definitions import Method, Study
from studies.harness.pairs import Network, Pair
from studies.networks import HALF, PERMUTED, SERIES, TABLES

_RATES = {"learning_rate": (3e-3, 1e-2, 3e-2)}
_TEMPERATURES = {"temperature": (1.0, 4.0)}
_SEEDS = tuple(range(10))


def _methods(regions, rates=_RATES):
    """Labels only, plain distillation, and regions: their texts, or options of the distiller."""
    chosen = rates | _TEMPERATURES
    options = {
        name: {"region": region} if isinstance(region, str) else region
        for name, region in regions.items()
    }
    return {
        "student only": Method(kind="none", choose=rates),
        "KD": Method(kind="kd", choose=chosen),
        **{
            name: Method(kind="l2rkd", options=HALF | own, choose=chosen)
            for name, own in options.items()
        },
    }


def _noise(deviation):
    return f'ball:radius={deviation},norm="gaussian"'


tables = Study(
    title="Tables: regions of numbers and categories",
    **TABLES,
    methods=_methods(
        {
            "noise of 0.3": _noise(0.3),
            "noise of 1": _noise(1.0),
            "segment": "segment",
            "swap": "swap",
            "swap or noise of 1": f"swap + {_noise(1.0)}",
        }
    ),
    fractions=(0.05, 0.1),
    seeds=_SEEDS,
)

series = Study(
    title="Time series: regions of steps and channels",
    **SERIES,
    methods=_methods(
        {
            "noise of 0.3": _noise(0.3),
            "segment": "segment",
            "patch": "patch:grid=4",
            "swap of patches": "swap:grid=4",
            "swap of a span": "swap:contiguous=True",
        },
        {"learning_rate": (1e-2, 3e-2)},
    ),
    fractions=(0.05, 0.1),
    seeds=_SEEDS,
    tuning_seeds=(100,),
)

texts = Study(
    title="Texts: regions of bytes",
    dataset="text/languages",
    pairs={"texts": Pair(teacher=Network(widths=(96, 96)), student=Network(widths=(16, 16)))},
    methods=_methods(
        {
            "swap": "swap",
            "swap of a span": "swap:contiguous=True",
            "segment of embeddings": {"region_at": "embedding"},
        },
        {"learning_rate": (3e-3, 1e-2)},
    ),
    fractions=(0.05, 0.1),
    seeds=_SEEDS,
    steps=1000,
    teacher_steps=1500,
    teacher_learning_rate=3e-3,
    measures=(),
)

scenes = Study(
    title="Scenes: regions of dense outputs",
    dataset="scenes/ink",
    pairs={"scenes": Pair(teacher=Network(widths=(12,)), student=Network(widths=(4,)))},
    methods=_methods(
        {
            "segment": "segment",
            "patch": "patch",
            "swap of patches": "swap:grid=4",
        },
        {},
    ),
    fractions=(0.05,),
    seeds=_SEEDS,
    steps=600,
    batch_size=16,
    teacher_steps=400,
    teacher_batch_size=16,
    teacher_learning_rate=1e-2,
    measures=(),
)


def _fixed(**options):
    return Method(kind="l2rkd", options=HALF | options)


# Nothing is chosen: all methods have the learning rate and temperature of the development study.
f4_permuted = Study(
    title="MNIST with permuted pixels: regions of vectors",
    **PERMUTED,
    methods={
        "KD": Method(kind="kd"),
        "noise of 1": _fixed(region=f'{_noise(1.0)},scale="std"'),
        "segment": _fixed(region="segment"),
        "swap": _fixed(region="swap"),
        "L2RKD": _fixed(),
    },
    fractions=(*fractions.of_known(100, 1000), 1.0),
    seeds=_SEEDS,
)
