"""What matters in a region: the default against variants that differ from it in one thing."""

from studies.harness.definitions import BATCH_NORMS, Method, Study
from studies.networks import DEVELOPMENT_SEEDS, DIGITS, GLYPHS, HALF


def _variant(batch_norm="joint", **options):
    """The default but for these options; `None` leaves an option out."""
    options = HALF | {"region": "patch"} | options
    options = {name: value for name, value in options.items() if value is not None}
    return Method(kind="l2rkd", options=options, against="default", batch_norm=batch_norm)


_VARIANTS = {
    "default": _variant(),
    "KD": Method(kind="kd", against="default"),
    "region: segment": _variant(region="segment"),
    "region: simplex of 3": _variant(region="simplex"),
    "region: patch, grid 2": _variant(region="patch:grid=2"),
    "region: patch, grid 8": _variant(region="patch:grid=8"),
    "region: ball, gaussian 0.1": _variant(region='ball:radius=0.1,norm="gaussian"'),
    "region: ball, gaussian 0.3": _variant(region='ball:radius=0.3,norm="gaussian"'),
    "region: patch or segment": _variant(region="patch + segment"),
    "region: patch or gaussian 0.3": _variant(region='patch + ball:radius=0.3,norm="gaussian"'),
    "radius 0.25": _variant(region="patch:radius=0.25"),
    "radius 0.5": _variant(region="patch:radius=0.5"),
    "alpha 0.5": _variant(region="patch:alpha=0.5"),
    "partner: nearest": _variant(region='patch:partner="nearest"'),
    "partner: same class": _variant(region='patch:partner="same_class"'),
    "region weight 3": _variant(region_weight=3.0),
    "no KD term": _variant(kd_weight=0.0),
    "no hard term": _variant(hard_weight=0.0),
    "temperature 1": _variant(temperature=1.0),
    "temperature 8": _variant(temperature=8.0),
    "points: 3 in 4 moved": _variant(replace_fraction=0.75),
    "points: 9 in 10 moved": _variant(replace_fraction=0.9),
    "points: 1 added each": _variant(replace_fraction=None),
    "points: 3 added each": _variant(replace_fraction=None, num_region_points=3),
    "targets: interpolated": _variant(region_targets="interpolated"),
    "segment, interpolated": _variant(region="segment", region_targets="interpolated"),
    **{
        f"BatchNorm: {policy}": _variant(batch_norm=policy)
        for policy in BATCH_NORMS
        if policy != "joint"
    },
}
_HEAVIER = {name: _VARIANTS[name] for name in ("default", "region weight 3")}

ablation = Study(
    title="What matters in a region, 100 digits",
    **DIGITS,
    methods=_VARIANTS,
    fractions=(0.1,),
)

ablation_glyphs = Study(
    title="What matters in a region, 496 glyphs",
    **GLYPHS,
    methods={name: method for name, method in _VARIANTS.items() if method.batch_norm == "joint"},
    fractions=(0.05,),
)

ablation_again = Study(
    title="A larger region weight, 100 digits, ten other seeds",
    **DIGITS,
    methods=_HEAVIER,
    fractions=(0.1,),
    seeds=tuple(range(5, 15)),
)

ablation_again_glyphs = Study(
    title="A larger region weight, glyphs, five other seeds",
    **GLYPHS,
    methods=_HEAVIER,
    fractions=(0.05, 1.0),
    seeds=DEVELOPMENT_SEEDS,
)
