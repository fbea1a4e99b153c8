"""A teacher that is run once, at some points in the region of each image, or in every step."""

import dataclasses

from studies.harness.definitions import Method, Study
from studies.networks import DIGITS, FASHION, GLYPHS, HALF, LEARNING_RATES, SMALL_STUDENT

_LIVE = "in every step"


def _method(kind="l2rkd", arguments=None, **options):
    own = {} if options or arguments else {"choose": LEARNING_RATES}
    return Method(
        kind=kind,
        arguments=arguments or {},
        options=HALF | {"region": "patch"} | options,
        against=_LIVE,
        settings_of="" if own else _LIVE,
        **own,
    )


_METHODS = {
    _LIVE: _method(),
    "once, at 100 points": _method("asked_once", {"points_per_example": 100}),
    "once, at 10 points": _method("asked_once", {"points_per_example": 10}),
    "once, interpolated": _method(region_targets="interpolated"),
}

asked_once_digits = Study(
    title="A teacher that is run once, digits",
    **DIGITS,
    methods=_METHODS,
    fractions=(0.05,),
    measures=(),
)

asked_once_glyphs = Study(
    title="A teacher that is run once, glyphs",
    **GLYPHS,
    methods=_METHODS,
    fractions=(0.05,),
    measures=(),
)

# Nothing is chosen here, as in `f1_fashion`, whose teachers these are.
asked_once_fashion = Study(
    title="A teacher that is run once, Fashion-MNIST",
    **FASHION,
    pairs={"fashion": SMALL_STUDENT},
    methods={
        name: dataclasses.replace(method, choose={}, settings_of="")
        for name, method in _METHODS.items()
    },
    fractions=(0.05,),
    measures=(),
)
