"""Wrong use of methods in a distiller."""

import numpy as np
import pytest

from l2rkd_tf import L2RKDDistiller, methods
from tests.distiller.methods_by_hand import METHODS, compiled, data, fit, pair


@pytest.mark.parametrize(
    ("method", "model"),
    [
        (lambda: methods.FitNet("block9", "block1"), "network_5"),
        (lambda: methods.FitNet("block1", "block9"), "network_4"),
        (lambda: methods.AttentionTransfer(["block1", "block9"], ["block1"] * 2), "network_5"),
        (lambda: methods.RelationalKD("features", "block9"), "network_4"),
    ],
)
def test_a_wrong_name_of_a_layer_lists_the_right_ones(method, model):
    with pytest.raises(ValueError) as error:
        L2RKDDistiller(*pair(), distillation_losses=method())
    for word in ("block9", model, "'block1'", "'block2'", "'dense1'", "'features', 'logits'"):
        assert word in str(error.value)


SHAPES = {
    "hint of maps and vectors": (
        lambda: methods.FitNet("block3", "features"),
        ["FitNet", "block3", "features", "1, 1, 5", "4"],
    ),
    "variance of maps and vectors": (
        lambda: methods.VID("block3", "features"),
        ["VID", "block3", "features", "1, 1, 5", "4"],
    ),
    "attention to vectors": (
        lambda: methods.AttentionTransfer("features", "features"),
        ["AttentionTransfer", "features", "5)", "4)"],
    ),
    "flow of other channels": (
        lambda: methods.FSP(["block2", "block3"], ["block2", "block3"]),
        ["FSP", "block2", "block3", "1, 1, 5", "1, 1, 4"],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_features_that_do_not_fit_are_named_with_method_layers_and_shapes(name):
    make, words = SHAPES[name]
    with pytest.raises(ValueError) as error:
        fit(compiled(L2RKDDistiller(*pair(), distillation_losses=make())), *data())
    for word in words:
        assert word in str(error.value), word


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"distillation_losses_at": "regions"}, ["distillation_losses_at", "'regions'"]),
        ({"distillation_losses_at": None}, ["distillation_losses_at"]),
        ({"distillation_losses_at": ["data", 3]}, ["distillation_losses_at", "3"]),
        ({"distillation_losses_at": ["data"]}, ["distillation_losses_at", "2"]),
        ({"distillation_losses_at": ["data"] * 3}, ["distillation_losses_at", "2"]),
        ({"distillation_losses_at": []}, ["distillation_losses_at", "2"]),
        ({"distillation_loss_weights": [1.0]}, ["distillation_loss_weights", "2"]),
        ({"distillation_loss_weights": [1.0, -1.0]}, ["distillation_loss_weights", "-1.0"]),
        ({"distillation_loss_weights": [1.0, np.nan]}, ["distillation_loss_weights", "nan"]),
        ({"distillation_losses": "hints"}, ["distillation_losses", "'hints'"]),
        ({"distillation_losses": [methods.DIST, methods.DIST]}, ["distillation_losses", "DIST"]),
        (
            {"region_targets": "interpolated", "distillation_losses_at": ["data", "both"]},
            ["distillation_losses_at", "interpolated", "'data'"],
        ),
        (
            {"region_targets": "interpolated", "distillation_losses_at": "region"},
            ["distillation_losses_at", "interpolated", "'data'"],
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    arguments = {"distillation_losses": [methods.DIST(), methods.DKD()]} | arguments
    with pytest.raises(ValueError) as error:
        L2RKDDistiller(*pair(), **arguments)
    for word in words:
        assert word in str(error.value)


def test_defaults_are_the_weights_of_the_papers_at_the_data():
    made = [make() for make, _ in METHODS.values()]
    distiller = L2RKDDistiller(*pair(), distillation_losses=made)
    assert distiller.distillation_loss_weights == tuple(method.default_weight for method in made)
    assert distiller.distillation_losses_at == ("data",) * len(made)
    for setting in ("distillation_loss_weights", "distillation_losses_at"):
        with pytest.raises(AttributeError):
            setattr(distiller, setting, None)
