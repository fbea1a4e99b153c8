"""Several teachers as one."""

import keras
import numpy as np
import pytest
import scipy.special

from l2rkd_tf import L2RKDDistiller, models

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def images(shape=(8, 8, 1), count=8):
    random = np.random.default_rng(0)
    return random.uniform(size=(count, *shape)).astype("float32"), np.arange(count) % 10


def fit_a_step(teacher, student, **kwargs):
    distiller = L2RKDDistiller(teacher, student, seed=0, **kwargs)
    distiller.compile(keras.optimizers.SGD(0.1), SPARSE, jit_compile=False)
    return distiller.fit(*images(), batch_size=8, verbose=0).history


def dense(scale, seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Rescaling(scale)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers], name="teacher")


def test_an_ensemble_has_the_mean_of_the_probabilities(tmp_path):
    members = [dense(scale, seed) for seed, scale in enumerate((1.0, 5.0, 300.0))]
    ensemble = models.ensemble(members)
    x, _ = images()
    probabilities = [
        scipy.special.softmax(member(x).numpy().astype(float), -1) for member in members
    ]
    expected = np.mean(probabilities, axis=0)
    assert np.min(probabilities[2]) < 1e-30  # a member that is certain excludes nothing
    np.testing.assert_allclose(ensemble(x), np.log(expected), rtol=1e-5, atol=1e-5)
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.models.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_array_equal(loaded(x), ensemble(x))


def test_an_ensemble_teaches():
    members = [dense(1.0, seed) for seed in range(2)]
    student = dense(1.0, 2)
    x, _ = images()
    targets = np.mean([scipy.special.softmax(member(x).numpy(), -1) for member in members], axis=0)
    log_student = scipy.special.log_softmax(student(x).numpy(), -1)
    expected = np.mean(np.sum(targets * (np.log(targets) - log_student), -1))
    history = fit_a_step(models.ensemble(members), student, temperature=1.0, region_weight=0.0)
    assert history["kd_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_members_of_an_ensemble_must_fit_together():
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(
        ValueError, match=r"`teachers` must have the same input shape.*\(None, 64\)"
    ):
        models.ensemble([dense(1.0, 0), other])


def several_outputs():
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [flat, flat])


class Subclassed(keras.Model):
    """A model without a graph of layers."""

    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("make", [several_outputs, Subclassed])
def test_members_of_an_ensemble_are_graphs_with_one_output(make):
    with pytest.raises(ValueError, match="`teachers` must be one or more functional"):
        models.ensemble([make()])


def test_an_ensemble_has_members():
    with pytest.raises(ValueError, match="`teachers` must be one or more functional"):
        models.ensemble([])
