"""Methods where one of several outputs is compared: as if both models had this output only."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from tests.distiller.methods_by_hand import CLASSES, SEED, fit
from tests.helpers import assert_equal_weights, cross_entropy
from tests.references import logits as reference

EXAMPLES, STEPS = 8, 2
BATCH = EXAMPLES // STEPS
OUTPUTS = {"kind": (), "seg": (4, 4)}  # positions of each
OF_OUTPUTS = ("dist", "dkd", "jacobian_matching", "logit_standardization")


def network(seed, names, as_dict=True):
    """Outputs of one class for each image, and for each pixel."""
    image = x = keras.Input((4, 4, 1), name="image")
    for number, name in enumerate(("stem", "block1")):
        init = keras.initializers.GlorotNormal(seed=seed + number)
        x = layers.Conv2D(
            4, 3, padding="same", activation="tanh", kernel_initializer=init, name=name
        )(x)
    init = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    heads = {
        "kind": lambda: layers.Dense(CLASSES, kernel_initializer=init, name="kind")(
            layers.GlobalAveragePooling2D()(x)
        ),
        "seg": lambda: layers.Conv2D(CLASSES, 1, kernel_initializer=init, name="seg")(x),
    }
    outputs = {name: heads[name]() for name in names}
    listed = list(outputs.values())
    return keras.Model(image, listed[0] if len(listed) == 1 else outputs if as_dict else listed)


def data():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(EXAMPLES, 4, 4, 1)).astype("float32")
    labels = {n: rng.integers(0, CLASSES, (EXAMPLES, *shape)) for n, shape in OUTPUTS.items()}
    weights = {n: rng.uniform(0.5, 2.0, (EXAMPLES, *shape)) for n, shape in OUTPUTS.items()}
    return x, labels, weights


def method_of(name):
    made = type(methods.get(name))
    if issubclass(made, methods.LayersMethod):
        return made(["stem", "block1"], ["stem", "block1"])
    if made is methods.CRD:
        return made("block1", "block1", feature_dim=4, num_negatives=EXAMPLES)
    return made("block1", "block1") if issubclass(made, methods.FeatureMethod) else made()


def trained(name, outputs, compared, at="data", weighted=False, as_dict=True, rate=0.05):
    """The log of a method that is the only term, its student and itself."""
    keras.utils.set_random_seed(0)
    x, labels, weights = data()
    models = [network(seed, outputs, as_dict) for seed in (10, 20)]
    distiller = L2RKDDistiller(
        *models, divergence={compared: "kl"}, hard_weight=0.0, kd_weight=0.0, region_weight=0.0,
        distillation_losses=method_of(name), distillation_losses_at=at, region=regions.Segment(),
        distillation_loss_weights=0.1, seed=SEED,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(rate), run_eagerly=True)
    y, w = ({n: given[n] for n in outputs} for given in (labels, weights))
    if not as_dict:
        y, w = list(y.values()), list(w.values())
    logs = fit(distiller, x, y, BATCH, sample_weight=w if weighted else None)
    (log,) = (logs[one] for one in distiller.distillation_loss_layers)
    return log, models[1], distiller.distillation_losses[0]


def assert_equal_runs(found, expected):
    assert np.isfinite(expected[0]).all()
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for name in ("stem", "block1"):
        layer, wanted = found[1].get_layer(name), expected[1].get_layer(name)
        assert_equal_weights(layer, wanted, atol=1e-6)
    if isinstance(expected[2], methods.TrainableMethod):
        assert_equal_weights(found[2], expected[2], atol=1e-6)


@pytest.mark.parametrize("compared", OUTPUTS)
@pytest.mark.parametrize("name", methods.METHODS)
def test_a_method_compares_one_of_two_outputs(name, compared):
    at = "both" if name in ("dkd", "crd", "jacobian_matching") else "data"
    expected = trained(name, [compared], compared, at)
    assert_equal_runs(trained(name, list(OUTPUTS), compared, at), expected)


@pytest.mark.parametrize("compared", OUTPUTS)
@pytest.mark.parametrize("name", OF_OUTPUTS)
@pytest.mark.parametrize("as_dict", [True, False])
def test_a_method_takes_the_weights_of_the_output_that_it_compares(name, compared, as_dict):
    expected = trained(name, [compared], compared, weighted=True)
    found = trained(name, list(OUTPUTS), compared, weighted=True, as_dict=as_dict)
    assert_equal_runs(found, expected)


@pytest.mark.parametrize("as_dict", [True, False])
def test_dkd_takes_the_labels_of_the_output_that_it_compares(as_dict):
    x, labels, _ = data()
    log, *_ = trained("dkd", list(OUTPUTS), "kind", as_dict=as_dict, rate=0.0)
    logits = [network(seed, ["kind"])(x) for seed in (10, 20)]
    expected = reference.dkd(*logits, labels["kind"], alpha=1.0, beta=8.0, temperature=4.0)
    np.testing.assert_allclose(log, expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("compared", OUTPUTS)
@pytest.mark.parametrize("as_dict", [True, False])
def test_crd_takes_labels_of_examples_only(compared, as_dict):
    _, labels, _ = data()
    *_, crd = trained("crd", list(OUTPUTS), compared, as_dict=as_dict)
    first, second = np.split(labels["kind"], STEPS)
    expected = np.concatenate([second, first]) if compared == "kind" else np.full(EXAMPLES, -1)
    np.testing.assert_array_equal(crd.label_memory, expected)


@pytest.mark.parametrize("divergence", [{"kind": "kl", "seg": "kl"}, {"seg": "kl"}])
def test_without_labels_of_a_compared_output_methods_get_none(divergence):
    x, labels, _ = data()
    crd = method_of("crd")
    distiller = L2RKDDistiller(
        *(network(seed, list(OUTPUTS)) for seed in (10, 20)), divergence=divergence, seed=SEED,
        distillation_losses=[crd] if len(divergence) == 2 else [crd, methods.DKD()],
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(0.0), {"kind": cross_entropy()}, run_eagerly=True)
    logs = fit(distiller, x, {"kind": labels["kind"]}, BATCH)
    np.testing.assert_array_equal(crd.label_memory, -np.ones(EXAMPLES))
    if "dkd_loss" in logs:
        logits = [network(seed, ["seg"])(x) for seed in (10, 20)]
        expected = methods.DKD().values(*logits).numpy().mean()
        np.testing.assert_allclose(logs["dkd_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("compared", OUTPUTS)
def test_one_tensor_of_labels_belongs_to_the_only_output_with_a_loss(compared):
    x, labels, _ = data()
    distiller = L2RKDDistiller(
        *(network(seed, list(OUTPUTS)) for seed in (10, 20)), divergence={compared: "kl"},
        distillation_losses=methods.DKD(), seed=SEED,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(0.0), {"kind": cross_entropy()}, run_eagerly=True)
    log = fit(distiller, x, labels["kind"], BATCH)["dkd_loss"]
    logits = [network(seed, [compared])(x) for seed in (10, 20)]
    known = labels["kind"] if compared == "kind" else None
    expected = methods.DKD().values(*logits, known).numpy().mean()
    np.testing.assert_allclose(log, expected, rtol=1e-5)
