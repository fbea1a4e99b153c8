"""Saving and loading distillers with methods."""

import keras
import numpy as np

from l2rkd_tf import L2RKDDistiller, methods
from tests.distiller.methods_by_hand import all_methods, compiled, data, distiller_of, fit, pair
from tests.helpers import assert_equal_weights


def memory_of(distiller):
    return distiller.distillation_losses[-1].label_memory.numpy()


def test_a_loaded_distiller_continues_identically(tmp_path):
    x, y = data()
    distiller = all_methods()
    fit(distiller, x, y, epochs=2)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.run_eagerly = True
    assert loaded.distillation_loss_layers == distiller.distillation_loss_layers
    assert loaded.distillation_losses_at == distiller.distillation_losses_at
    assert loaded.distillation_loss_weights == distiller.distillation_loss_weights
    assert_equal_weights(loaded, distiller)
    np.testing.assert_array_equal(memory_of(loaded), memory_of(distiller))
    assert (memory_of(loaded) >= 0).any()
    expected, actual = fit(distiller, x, y), fit(loaded, x, y)
    assert_equal_weights(loaded, distiller, atol=1e-7)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-6)


def paths_in(path):
    import h5py

    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append((name, getattr(item, "shape", None))))
    return dict(found)


def test_a_weights_file_holds_weights_of_methods_but_no_teacher(tmp_path):
    x, y = data()
    names = ["fit_net", "vid", "crd"]
    distiller = compiled(distiller_of(names))
    fit(distiller, x, y, epochs=2)
    path = tmp_path / "distiller.weights.h5"
    distiller.save_weights(path)
    shapes = [shape for shape in paths_in(path).values() if shape is not None]
    assert shapes.count((8, 4)) == 2  # memories
    assert (4, 5) in shapes  # the projector
    assert (12, 4) in shapes and (12, 5) not in shapes  # the student's layer, the teacher's
    other = compiled(distiller_of(names))
    fit(other, *data(seed=9))
    other.load_weights(path)
    assert_equal_weights(other, distiller)
    expected, actual = fit(distiller, x, y), fit(other, x, y)
    np.testing.assert_allclose(actual["loss"], expected["loss"], rtol=1e-6)


def test_two_methods_of_one_class_keep_their_own_weights(tmp_path):
    x, y = data()
    distiller = L2RKDDistiller(
        *pair(),
        distillation_losses=[
            methods.FitNet("block3", "block3"),
            methods.FitNet("features", "features"),
            methods.JacobianMatching(num_projections=3),
            methods.JacobianMatching(),
        ],
        distillation_loss_weights=[1.0, 0.5, 0.1, 0.2],
        seed=0,
    )
    logs = fit(compiled(distiller), x, y)
    assert {"fit_net_loss", "fit_net_loss_2", "jacobian_matching_loss_2"} <= set(logs)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert_equal_weights(loaded, distiller)
    projectors = [method.projector.kernel.numpy() for method in loaded.distillation_losses[:2]]
    assert np.abs(projectors[0] - projectors[1]).max() > 0.01


def test_the_configuration_makes_the_same_distiller():
    distiller = all_methods()
    config = distiller.get_config()
    again = L2RKDDistiller.from_config(config)
    assert again.get_config().keys() == config.keys()
    for key in ("distillation_loss_weights", "distillation_losses_at", "seed", "kd_weight"):
        assert again.get_config()[key] == config[key]
    for one, other in zip(again.distillation_losses, distiller.distillation_losses, strict=True):
        assert type(one) is type(other)
        assert one.get_config() == other.get_config()
    assert again.distillation_loss_layers == distiller.distillation_loss_layers
