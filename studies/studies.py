"""What `compare.py` compares: data, teachers and students, methods, and how long they train.

    python examples/studies.py                  # the names
    python examples/studies.py fewshot_digits   # what a study says

All methods of a study get the same compute: `steps` are those of plain distillation, and a method
that asks a network at more points in a step takes fewer of them (`steps_of`). A method with
`compute=2` gets twice as much, and is compared with another one that does.
"""

import dataclasses
import itertools
import math

from absl import app

KINDS = ("none", "kd", "l2rkd", "funmatch", "mixup_kd", "noise_kd", "pe_bkd")
BATCH_NORMS = ("joint", "two passes", "frozen in regions", "recalibrated")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A small convnet: `widths` and `convs_per_block` of `l2rkd_tf.models.convnet`."""

    widths: tuple
    convs_per_block: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A teacher and its student."""

    teacher: Network
    student: Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A way of training the student.

    Attributes:
        kind: `"none"` for labels alone, `"kd"`, `"l2rkd"`, or a function of `l2rkd_tf.methods`
            that gives arguments of `L2RKDDistiller`.
        arguments: Arguments of that function.
        options: Arguments of `L2RKDDistiller`; `region` as a text, as for `distill.py --region`.
        choose: Values of `learning_rate`, of options and arguments, among which validation chooses.
        compute: Compute in units of that of plain distillation.
        against: The method that it is compared with.
        batch_norm: `"joint"` passes training and region points through the student together, as
            the distiller does; `"two passes"` one after the other; `"frozen in regions"` too, the
            second with the statistics of inference; `"recalibrated"` estimates the statistics
            from the training points alone when training is over.

    Raises:
        ValueError: If a value is not one of those that there are.
    """

    kind: str
    arguments: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)
    choose: dict = dataclasses.field(default_factory=dict)
    compute: float = 1.0
    against: str = "KD"
    batch_norm: str = "joint"

    def __post_init__(self):
        """Checks the names."""
        for name, known in (("kind", KINDS), ("batch_norm", BATCH_NORMS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {known}. Received: {name}={getattr(self, name)!r}"
                )

    def settings(self):
        """All combinations of the values to choose from."""
        names = list(self.choose)
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*self.choose.values())
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison of methods.

    Attributes:
        title: What it is about.
        dataset: Data set without a download.
        pairs: `{name: Pair}`.
        methods: `{name: Method}`.
        fractions: Parts of the training data.
        lengths: Multiples of `steps`.
        steps: Steps of plain distillation.
        batch_size: Examples of a step.
        seeds: Seeds of the reported runs; a seed decides few-shot subset, initial weights, order
            and draws, so that differences between methods are paired.
        tuning_seeds: Seeds of the runs that choose the settings.
        tuning_fraction: Part of the training data with which they are chosen.
        teacher_steps: Steps of the teacher, on all data, with random crops.
        learning_rate: Learning rate of methods that do not choose it.
        contrasts: Pairs of `(method, fraction, length)` whose difference is reported, too.

    Raises:
        ValueError: If a method is compared with one that is not there or has other compute, or a
            number is out of range.
    """

    title: str
    dataset: str
    pairs: dict
    methods: dict
    fractions: tuple
    lengths: tuple = (1.0,)
    steps: int = 1500
    batch_size: int = 50
    seeds: tuple = (0, 1, 2, 3, 4)
    tuning_seeds: tuple = (100, 101)
    tuning_fraction: float = 0.1
    teacher_steps: int = 2000
    learning_rate: float = 3e-2
    contrasts: tuple = ()

    def __post_init__(self):
        """Checks what the methods are compared with, and the numbers."""
        for name, method in self.methods.items():
            other = self.methods.get(method.against)
            if other is None or other.compute != method.compute:
                raise ValueError(
                    f"`against` of {name!r} must be a method of the study with as much compute. "
                    f"Received: {method.against!r}"
                )
        if set(self.seeds) & set(self.tuning_seeds):
            raise ValueError(
                "`tuning_seeds` must be others than `seeds`. Received: "
                f"seeds={self.seeds}, tuning_seeds={self.tuning_seeds}"
            )
        if not all(0 < fraction <= 1 for fraction in (*self.fractions, self.tuning_fraction)):
            raise ValueError(f"`fractions` must be in (0, 1]. Received: {self.fractions}")

    def __str__(self):
        """A line for each value, and for each pair and method."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lines = [f"{name} = {value!r}" for name, value in values.items() if name != "methods"]
        methods = [f"  {name!r}: {method}" for name, method in self.methods.items()]
        return "\n".join([*lines, "methods =", *methods])


def distiller_options(method, settings):
    """Arguments of `L2RKDDistiller` for a method with chosen settings, `region` as a text.

    Those of a preset are not among them, but for what it says of weights and points.
    """
    names = set(method.arguments) | {"learning_rate"}
    return method.options | {n: value for n, value in settings.items() if n not in names}


def points_of_step(batch_size, options):
    """Points at which student and teacher are asked in a step.

    Args:
        batch_size: Examples of the batch.
        options: Arguments of `L2RKDDistiller`, or `None` for a student alone.

    Returns:
        `(points of the student, points of the teacher)`.
    """
    if options is None:
        return batch_size, 0
    region_weight, kd_weight = options.get("region_weight", 0.9), options.get("kd_weight", 0.9)
    asked = options.get("region_targets", "teacher") == "teacher"
    if not region_weight:
        return batch_size, batch_size if kd_weight else 0
    replaced = options.get("replace_fraction")
    if replaced is None:
        data, region = batch_size, batch_size * options.get("num_region_points", 1)
    else:
        region = min(max(int(batch_size * replaced + 0.5), 1), batch_size - 1)
        data = batch_size - region
    if not asked:
        return data + region, batch_size
    return data + region, region + (data if kd_weight else 0)


def steps_of(study, method, options, length):
    """Steps of a method, so that no network is asked more often than in plain distillation."""
    per_step = max(points_of_step(study.batch_size, options))
    return max(1, math.floor(study.steps * length * method.compute * study.batch_size / per_step))


# Twice the last one is too much even for KD of few digits, which gains most from a high rate.
def _choose(**values):
    return {"learning_rate": (1e-2, 3e-2, 9e-2), **values}


_TEMPERATURES = _choose(temperature=(4.0, 8.0))
_HALF = {"replace_fraction": 0.5}
_FEW_SHOT = {
    "student alone": Method(kind="none", choose=_choose()),
    "KD": Method(kind="kd", choose=_TEMPERATURES),
    "NoiseKD": Method(
        kind="noise_kd",
        arguments={"stddev": 0.1},
        options=_HALF,
        choose=_choose(stddev=(0.03, 0.1, 0.3)),
    ),
    # Temperature 1 is the paper's. Few training points pass through the student, for BatchNorm.
    "FunMatch": Method(
        kind="funmatch",
        options={"replace_fraction": 0.9},
        choose=_choose(temperature=(1.0, 4.0, 8.0)),
    ),
    "PE-BKD": Method(kind="pe_bkd", choose=_TEMPERATURES),
    "L2RKD, segments": Method(
        kind="l2rkd", options=_HALF | {"region": "segment"}, choose=_TEMPERATURES
    ),
    "L2RKD, patches": Method(
        kind="l2rkd", options=_HALF | {"region": "patch"}, choose=_TEMPERATURES
    ),
}
_TWICE = {
    "KD, twice the compute": Method(
        kind="kd", choose=_TEMPERATURES, compute=2.0, against="KD, twice the compute"
    ),
    "L2RKD, twice the compute": Method(
        kind="l2rkd", choose=_TEMPERATURES, compute=2.0, against="KD, twice the compute"
    ),
}
_DIGITS = Pair(teacher=Network(widths=(32, 64, 128)), student=Network(widths=(16, 32)))
_GLYPHS = Pair(teacher=Network(widths=(32, 64, 128)), student=Network(widths=(16, 32, 64)))


def _l2rkd(**options):
    """A variant of the ablation: the default but for these options."""
    batch_norm = options.pop("batch_norm", "joint")
    options = _HALF | {"region": "patch"} | options
    if options["replace_fraction"] is None:
        del options["replace_fraction"]
    return Method(kind="l2rkd", options=options, against="default", batch_norm=batch_norm)


_ABLATION = {
    "default": _l2rkd(),
    "KD": Method(kind="kd", against="default"),
    "region: segment": _l2rkd(region="segment"),
    "region: simplex of 3": _l2rkd(region="simplex"),
    "region: patch, grid 2": _l2rkd(region="patch:grid=2"),
    "region: patch, grid 8": _l2rkd(region="patch:grid=8"),
    "region: ball, gaussian 0.1": _l2rkd(region='ball:radius=0.1,norm="gaussian"'),
    "region: ball, gaussian 0.3": _l2rkd(region='ball:radius=0.3,norm="gaussian"'),
    "region: patch or segment": _l2rkd(region="patch + segment"),
    "region: patch or gaussian 0.3": _l2rkd(region='patch + ball:radius=0.3,norm="gaussian"'),
    "radius 0.25": _l2rkd(region="patch:radius=0.25"),
    "radius 0.5": _l2rkd(region="patch:radius=0.5"),
    "alpha 0.5": _l2rkd(region="patch:alpha=0.5"),
    "partner: nearest": _l2rkd(region='patch:partner="nearest"'),
    "partner: same class": _l2rkd(region='patch:partner="same_class"'),
    "region weight 3": _l2rkd(region_weight=3.0),
    "no KD term": _l2rkd(kd_weight=0.0),
    "no hard term": _l2rkd(hard_weight=0.0),
    "temperature 1": _l2rkd(temperature=1.0),
    "temperature 8": _l2rkd(temperature=8.0),
    "points: 3 in 4 moved": _l2rkd(replace_fraction=0.75),
    "points: 9 in 10 moved": _l2rkd(replace_fraction=0.9),
    "points: 1 more each": _l2rkd(replace_fraction=None),
    "points: 3 more each": _l2rkd(replace_fraction=None, num_region_points=3),
    "targets: interpolated": _l2rkd(region_targets="interpolated"),
    "segment, interpolated": _l2rkd(region="segment", region_targets="interpolated"),
    **{
        f"BatchNorm: {policy}": _l2rkd(batch_norm=policy)
        for policy in BATCH_NORMS
        if policy != "joint"
    },
}

_HEAVIER = {name: _ABLATION[name] for name in ("default", "region weight 3")}

_ON_DIGITS = {"dataset": "digits", "pairs": {"digits": _DIGITS}}
_ON_GLYPHS = {
    "dataset": "glyphs/gray16",
    "pairs": {"glyphs": _GLYPHS},
    "steps": 2000,
    "teacher_steps": 8000,
}

STUDIES = {
    "fewshot_digits": Study(
        title="Few-shot distillation, digits",
        **_ON_DIGITS,
        methods=_FEW_SHOT | _TWICE,
        fractions=(0.05, 0.1, 0.2, 0.25, 0.5, 1.0),
        contrasts=(
            (("L2RKD, patches", 0.05, 1.0), ("KD", 0.2, 1.0)),
            (("L2RKD, patches", 0.1, 1.0), ("KD", 0.5, 1.0)),
            (("L2RKD, patches", 0.25, 1.0), ("KD", 1.0, 1.0)),
        ),
    ),
    "fewshot_glyphs": Study(
        title="Few-shot distillation, glyphs",
        **_ON_GLYPHS,
        methods=_FEW_SHOT,
        fractions=(0.05, 0.1, 0.25, 0.5, 1.0),
        tuning_seeds=(100,),
        contrasts=(
            (("L2RKD, patches", 0.1, 1.0), ("KD", 0.25, 1.0)),
            (("L2RKD, patches", 0.25, 1.0), ("KD", 0.5, 1.0)),
        ),
    ),
    "patience": Study(
        title="Accuracy against training compute, 50 digits",
        **_ON_DIGITS,
        methods={
            "KD": _FEW_SHOT["KD"],
            "KD + mixup": Method(kind="mixup_kd", options=_HALF, choose=_TEMPERATURES),
            "L2RKD, patches": _FEW_SHOT["L2RKD, patches"],
            "L2RKD, 1 point beside each": Method(
                kind="l2rkd", options={"region": "patch"}, choose=_TEMPERATURES
            ),
        },
        fractions=(0.05,),
        lengths=(1.0, 2.0, 4.0, 8.0),
    ),
    "equal_steps": Study(
        title="50 digits against 200, at equal steps",
        **_ON_DIGITS,
        methods={
            "KD": _FEW_SHOT["KD"],
            "KD, four times the compute": Method(
                kind="kd",
                choose=_TEMPERATURES,
                compute=4.0,
                against="KD, four times the compute",
            ),
            "L2RKD, 3 points beside each": Method(
                kind="l2rkd",
                options={"region": "patch", "num_region_points": 3},
                choose=_TEMPERATURES,
                compute=4.0,
                against="KD, four times the compute",
            ),
        },
        fractions=(0.05, 0.2),
        contrasts=(
            (("L2RKD, 3 points beside each", 0.05, 1.0), ("KD", 0.2, 1.0)),
            (
                ("L2RKD, 3 points beside each", 0.05, 1.0),
                ("KD, four times the compute", 0.2, 1.0),
            ),
        ),
    ),
    "ablation": Study(
        title="What matters in a region, 100 digits",
        **_ON_DIGITS,
        methods=_ABLATION,
        fractions=(0.1,),
    ),
    "ablation_glyphs": Study(
        title="What matters in a region, 500 glyphs",
        **_ON_GLYPHS,
        methods={
            name: method for name, method in _ABLATION.items() if method.batch_norm == "joint"
        },
        fractions=(0.05,),
    ),
    "ablation_again": Study(
        title="A greater weight of the regions, 100 digits, ten other seeds",
        **_ON_DIGITS,
        methods=_HEAVIER,
        fractions=(0.1,),
        seeds=tuple(range(5, 15)),
    ),
    "ablation_again_glyphs": Study(
        title="A greater weight of the regions, glyphs, ten other seeds",
        **_ON_GLYPHS,
        methods=_HEAVIER,
        fractions=(0.05, 1.0),
        seeds=tuple(range(5, 15)),
    ),
    "capacity": Study(
        title="Students and teachers of several sizes, 100 digits",
        dataset="digits",
        pairs={
            f"{student} of a {teacher} teacher": Pair(teacher=teachers, student=students)
            for teacher, teachers in {
                "small": Network(widths=(16, 32, 64)),
                "large": Network(widths=(32, 64, 128), convs_per_block=2),
            }.items()
            for student, students in {
                "8x16": Network(widths=(8, 16)),
                "16x32": Network(widths=(16, 32)),
                "16x32x64": Network(widths=(16, 32, 64)),
            }.items()
        },
        # As validation chose in the study of few digits, for the middle student.
        methods={
            "KD": Method(
                kind="kd", options={"temperature": 8.0}, choose={"learning_rate": (9e-2,)}
            ),
            "L2RKD, patches": Method(
                kind="l2rkd",
                options=_HALF | {"region": "patch", "temperature": 8.0},
                choose={"learning_rate": (3e-2,)},
            ),
        },
        fractions=(0.1,),
    ),
}


def get(name):
    """The study of this name.

    Raises:
        ValueError: If there is none.
    """
    if name not in STUDIES:
        raise ValueError(f"`study` must be one of {sorted(STUDIES)}. Received: {name!r}")
    return STUDIES[name]


def main(argv):
    """Prints the names, or the studies of these names."""
    print("\n\n".join(str(get(name)) for name in argv[1:]) or "\n".join(STUDIES))


if __name__ == "__main__":
    app.run(main)
