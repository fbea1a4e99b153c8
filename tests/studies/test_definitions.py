"""What a study may say, and how studies are found."""

import dataclasses
import subprocess
import sys

import pytest

from l2rkd_tf import methods
from studies import published_methods
from studies.harness import registry
from studies.harness.definitions import Method
from tests.helpers import ROOT


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: Method(kind="magic"), "`kind` must be one of .* Received: kind='magic'"),
        (lambda _: Method(kind="kd", batch_norm="x"), "`batch_norm` must be one of"),
        (lambda _: registry.get("nothing"), "The study must be one of .* Received: 'nothing'"),
        (
            lambda study: dataclasses.replace(study, tuning_seeds=(1,)),
            "`tuning_seeds` must differ from `seeds`",
        ),
        (
            lambda study: dataclasses.replace(study, fractions=(0.0,)),
            r"`fractions` must be in \(0, 1\]. Received: \(0.0,\)",
        ),
        (
            lambda study: dataclasses.replace(study, methods={"a": Method(kind="kd")}),
            "`against` of 'a' must be a method of the study. Received: 'KD'",
        ),
        (
            lambda study: dataclasses.replace(
                study, methods={"KD": Method(kind="kd", settings_of="X")}
            ),
            "`settings_of` of 'KD' must be a method of the study. Received: 'X'",
        ),
        (
            lambda study: dataclasses.replace(study, measures=("taste",)),
            r"`measures` must be among .* Received: \('taste',\)",
        ),
    ],
)
def test_wrong_definitions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(registry.get("ablation"))


def test_every_module_with_a_study_is_found():
    assert set(registry.all_studies()) >= {
        "fewshot_digits", "f1_fashion", "ablation", "f5_methods", "shape_digits",
    }  # fmt: skip


def test_studies_are_listed_without_tensorflow():
    program = (
        "import sys\nfrom studies.harness import registry\nregistry.all_studies()\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_weights_of_published_methods_are_the_defaults_of_the_library():
    for name, weight in published_methods.DEFAULT_WEIGHTS.items():
        assert weight == methods.METHODS[name]().default_weight


def test_a_row_of_a_grid_names_what_it_compares():
    grid = registry.get("f5_methods").grid
    with_kd, without_x = grid.differences
    assert grid.columns == ["X + KD", "X + L2RKD"]
    assert grid.compared("crd", with_kd) == ("crd + L2RKD", "crd + KD")
    assert grid.compared("crd", without_x) == ("crd + L2RKD", "L2RKD")
    assert grid.compared("augmentation", with_kd) == ("L2RKD, augmented", "KD, augmented")
    assert grid.compared("nothing", with_kd) == ("L2RKD", "KD")
    assert grid.compared("nothing", without_x) is None
    assert grid.compared("pe_bkd", with_kd) is None
