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


def test_yes_no_outputs_have_the_mean_of_the_sigmoids():
    members = [dense(scale, seed) for seed, scale in enumerate((1.0, 5.0, 300.0))]
    x, _ = images()
    logits = np.array([member(x).numpy().astype(float) for member in members])
    probabilities = scipy.special.expit(logits)
    # Of many digits, also where the probability is close to 1.
    expected = np.log(probabilities.mean(axis=0)) - np.log(scipy.special.expit(-logits).mean(0))
    found = models.ensemble(members, divergence="binary_kl")(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"divergence": "mse"}, {"from_logits": False}])
def test_other_outputs_have_their_own_mean(options):
    members = [dense(scale, seed) for seed, scale in enumerate((1.0, 5.0))]
    x, _ = images()
    expected = np.mean([member(x).numpy().astype(float) for member in members], axis=0)
    np.testing.assert_allclose(models.ensemble(members, **options)(x), expected, rtol=1e-6)


def several_inputs_and_outputs(seed):
    keras.utils.set_random_seed(seed)
    inputs = {name: keras.Input((4,), name=name) for name in ("left", "right")}
    both = keras.layers.Concatenate()([inputs["left"], inputs["right"]])
    outputs = {name: keras.layers.Dense(3)(both) for name in ("kind", "size", "other")}
    return keras.Model(inputs, outputs)


def test_several_outputs_are_joined_by_name_each_in_its_own_way():
    members = [several_inputs_and_outputs(seed) for seed in range(2)]
    ensemble = models.ensemble(members, divergence={"kind": "kl", "size": "mse"})
    random = np.random.default_rng(0)
    x = {name: random.normal(size=(5, 4)).astype("float32") for name in ("left", "right")}
    outputs = [member(x) for member in members]
    found = ensemble(x)
    assert set(found) == {"kind", "size"}
    np.testing.assert_allclose(found["size"], np.mean([o["size"] for o in outputs], 0), rtol=1e-6)
    kinds = np.mean([scipy.special.softmax(o["kind"].numpy(), -1) for o in outputs], axis=0)
    np.testing.assert_allclose(found["kind"], np.log(kinds), rtol=1e-5, atol=1e-6)


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


def test_members_of_an_ensemble_are_graphs():
    with pytest.raises(ValueError, match="`teachers` must be one or more functional"):
        models.ensemble([Subclassed()])


def test_several_outputs_have_names():
    with pytest.raises(ValueError, match="`teachers` must give several outputs different names"):
        models.ensemble([several_outputs()])


def test_arguments_of_an_ensemble():
    with pytest.raises(ValueError, match="`divergence` must be"):
        models.ensemble([dense(1.0, 0)], divergence="l2")
    with pytest.raises(ValueError, match="`from_logits` must be"):
        models.ensemble([dense(1.0, 0)], from_logits="no")


def test_an_ensemble_has_members():
    with pytest.raises(ValueError, match="`teachers` must be one or more functional"):
        models.ensemble([])
