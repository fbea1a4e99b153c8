"""Models with several outputs: one SGD step against NumPy, names, logs, metrics and refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions, teacher_cache
from tests.helpers import (
    BATCH,
    RATE,
    GivenDraws,
    partner_draw,
    random_weights,
    two_replicas,
)
from tests.references import losses as reference

SIZE = 4
NAMES = {"kind": 3, "place": 2, "other": 1}


def heads_model(rng, names=("kind", "place"), as_dict=True, activation=None):
    """Linear heads on the same inputs, and their weights by name."""
    weights = {name: random_weights(rng, (SIZE,), NAMES[name]) for name in names}
    inputs = keras.Input((SIZE,))
    outputs = {
        name: layers.Dense(NAMES[name], name=name, activation=activation)(inputs) for name in names
    }
    model = keras.Model(inputs, outputs if as_dict else list(outputs.values()))
    for name, (kernel, bias) in weights.items():
        model.get_layer(name).set_weights([kernel, bias])
    return model, weights


def data(rng, count=BATCH):
    x = rng.normal(size=(count, SIZE)).astype("float32")
    y = {
        "kind": rng.integers(0, 3, count),
        "place": rng.normal(size=(count, 2)).astype("float32"),
    }
    return x, y


def losses():
    return {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "place": "mse"}


DIVERGENCE = {"kind": "kl", "place": "mse"}


def hand_step(x, y, teacher, student, draw, tau, output_weights, weights):
    near = reference.move(x, draw.partners.numpy(), draw.lam.numpy())
    after = {}
    for name, model in student.items():
        gradient = reference.kl_gradient if name == "kind" else reference.mse_gradient
        ask = lambda points, of: points @ of[0] + of[1]  # noqa: E731
        at_x = ask(x, model)
        if name == "kind":
            hard = reference.softmax(at_x) - np.eye(3)[y["kind"]]
        else:
            hard = reference.mse_gradient(y["place"], at_x)
        parts = [(x, 0.3 * hard)]
        for points, weight in ((x, 0.7), (near, 1.3)):
            of_logits = gradient(ask(points, teacher[name]), ask(points, model), tau[name])
            parts.append((points, weight * output_weights[name] * of_logits))
        kernel, bias = (np.array(one, np.float64) for one in model)
        for points, of_logits in parts:
            of_logits = of_logits * weights[name][:, None] / len(x)
            kernel -= RATE * points.T @ of_logits
            bias -= RATE * of_logits.sum(axis=0)
        after[name] = kernel, bias
    return after


@pytest.mark.covering
@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("weighted", ["no", "examples", "outputs"])
@pytest.mark.parametrize("interpolated", [False, True])
def test_one_sgd_step_equals_weights_derived_by_hand(as_dict, weighted, interpolated):
    rng = np.random.default_rng(1)
    x, y = data(rng)
    (teacher, of_teacher), (student, of_student) = (
        heads_model(rng, as_dict=as_dict) for _ in range(2)
    )
    draw = partner_draw(rng, 1)
    distiller = L2RKDDistiller(
        teacher,
        student,
        region=GivenDraws(regions.Segment(), [draw]),
        region_targets="interpolated" if interpolated else "teacher",
        divergence=DIVERGENCE,
        temperature={"kind": 3.0, "place": 1.0},
        output_weights={"kind": 1.0, "place": 0.5},
        hard_weight=0.3,
        kd_weight=0.7,
        region_weight=1.3,
    )
    weights = {name: np.ones(BATCH) for name in DIVERGENCE}
    given = None
    if weighted == "examples":
        given = rng.uniform(0.5, 2.0, BATCH)
        weights = dict.fromkeys(DIVERGENCE, given)
    elif weighted == "outputs":
        given = weights = {name: rng.uniform(0.5, 2.0, BATCH) for name in DIVERGENCE}
        given = given if as_dict else list(given.values())
    distiller.compile(keras.optimizers.SGD(RATE), losses(), run_eagerly=True)
    labels = y if as_dict else list(y.values())
    logs = distiller.fit(x, labels, BATCH, sample_weight=given, shuffle=False, verbose=0).history
    # Linear teachers: interpolated targets are those at the region points.
    tau, of_outputs = {"kind": 3.0, "place": 1.0}, {"kind": 1.0, "place": 0.5}
    expected = hand_step(x, y, of_teacher, of_student, draw, tau, of_outputs, weights)
    for name, wanted in expected.items():
        for actual, one in zip(student.get_layer(name).get_weights(), wanted, strict=True):
            np.testing.assert_allclose(actual, one, rtol=0.0, atol=2e-6)
    for term in ("kd_loss", "region_loss"):
        total = logs[f"kind_{term}"][0] + 0.5 * logs[f"place_{term}"][0]
        np.testing.assert_allclose(logs[term][0], total, rtol=1e-6)
    kind = x @ of_student["kind"][0] + of_student["kind"][1]
    at_teacher = x @ of_teacher["kind"][0] + of_teacher["kind"][1]
    kl = (reference.kl(at_teacher, kind, 3.0) * weights["kind"]).mean()
    np.testing.assert_allclose(logs["kind_kd_loss"][0], kl, rtol=1e-5)


def trained(x, y, weights, *, as_dict=True, loss=None, method=tuple, **options):
    """Logs and weights of an epoch with linear heads; in one batch, as Keras logs and evaluates."""
    rng = np.random.default_rng(12)
    teacher, student = (heads_model(rng, as_dict=as_dict)[0] for _ in range(2))
    options |= {"region": "segment", "distillation_losses": method()}
    distiller = L2RKDDistiller(teacher, student, divergence=DIVERGENCE, seed=0, **options)
    loss = loss or losses()
    metrics = {"kind": ["accuracy"], "place": ["mae"] if loss["place"] else []}
    metrics = {"metrics": metrics, "weighted_metrics": metrics}
    distiller.compile(keras.optimizers.SGD(RATE), loss, run_eagerly=True, **metrics)
    given = x, y, weights
    if not as_dict:
        given = x, list(y.values()), list(weights.values())
    logs = distiller.evaluate(*given[:2], sample_weight=given[2], verbose=0, return_dict=True)
    history = distiller.fit(*given[:2], BATCH, sample_weight=given[2], shuffle=False, verbose=0)
    logs |= {f"fit_{name}": values[0] for name, values in history.history.items()}
    return logs, student.get_weights()


def assert_equal_runs(found, expected):
    for name, value in expected[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-6, err_msg=name)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_region_points": 2},
        {"replace_fraction": 0.5},
        {"region_targets": "interpolated"},
        {"region_weight": 0.0},
        {"method": lambda: methods.FitNet("kind", "kind"), "distillation_losses_at": "both"},
    ],
)
def test_an_output_without_weights_has_weights_of_one(as_dict, options):
    rng = np.random.default_rng(13)
    x, y = data(rng)
    weights = {"kind": rng.uniform(0.5, 2.0, BATCH), "place": None}
    expected = trained(x, y, weights | {"place": np.ones(BATCH)}, as_dict=as_dict, **options)
    assert_equal_runs(trained(x, y, weights, as_dict=as_dict, **options), expected)


@pytest.mark.parametrize("options", [{}, {"num_region_points": 2}, {"replace_fraction": 0.5}])
def test_an_output_without_a_loss_needs_no_labels(options):
    x, y = data(np.random.default_rng(14))
    options = options | {"loss": losses() | {"place": None}}
    expected = trained(x, y, None, **options)
    found = trained(x, y | {"place": None}, None, **options)
    assert_equal_runs(found, expected)


def test_logs_and_metrics_name_the_output_as_keras_does():
    rng = np.random.default_rng(2)
    x, y = data(rng)
    student, _ = heads_model(rng)
    distiller = L2RKDDistiller(heads_model(rng)[0], student, divergence=DIVERGENCE, seed=0)
    metrics = {"kind": ["accuracy"], "place": ["mae"]}
    distiller.compile("sgd", losses(), metrics=metrics)
    history = distiller.fit(x, y, validation_data=(x, y), verbose=0).history
    assert set(history) == {
        "loss", "hard_loss", "kind_loss", "place_loss", "kind_accuracy", "place_mae", "kd_loss",
        "kind_kd_loss", "place_kd_loss", "region_loss", "kind_region_loss", "place_region_loss",
        "val_loss", "val_hard_loss", "val_kind_loss", "val_place_loss", "val_kind_accuracy",
        "val_place_mae",
    }  # fmt: skip
    alone = keras.models.clone_model(student)
    alone.set_weights(student.get_weights())
    alone.compile("sgd", losses(), metrics=metrics)
    expected = alone.evaluate(x, y, verbose=0, return_dict=True)
    actual = distiller.evaluate(x, y, verbose=0, return_dict=True)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-6)


def test_only_shared_outputs_are_compared():
    rng = np.random.default_rng(3)
    x, y = data(rng)
    teacher, _ = heads_model(rng, ("kind", "other"))
    student, _ = heads_model(rng, ("place", "kind"))
    distiller = L2RKDDistiller(teacher, student, seed=0)
    distiller.compile("sgd", losses())
    history = distiller.fit(x, y, verbose=0).history
    assert "kd_loss" in history
    assert "kind_kd_loss" not in history  # there is no other


def test_a_teacher_of_two_outputs_and_a_student_of_one():
    rng = np.random.default_rng(3)
    x, y = data(rng)
    teacher, _ = heads_model(rng)
    student = keras.Sequential([keras.Input((SIZE,)), layers.Dense(3, name="kind")])
    distiller = L2RKDDistiller(teacher, student, seed=0)
    distiller.compile("sgd", losses()["kind"], metrics=["accuracy"])
    assert "accuracy" in distiller.fit(x, y["kind"], verbose=0).history


def test_none_leaves_an_output_out():
    rng = np.random.default_rng(4)
    x, y = data(rng)
    teacher, _ = heads_model(rng)
    student, of_student = heads_model(rng)
    distiller = L2RKDDistiller(
        teacher, student, divergence={"kind": "kl", "place": None}, hard_weight=0.0, seed=0
    )
    distiller.compile("sgd")
    distiller.fit(x, verbose=0)
    np.testing.assert_allclose(
        student.get_layer("place").get_weights()[0], of_student["place"][0], rtol=1e-6
    )
    assert not np.allclose(student.get_layer("kind").get_weights()[0], of_student["kind"][0])
    distiller = L2RKDDistiller(
        teacher, student, divergence={"kind": "kl", "place": None}, seed=0,
        distillation_losses=methods.LogitStandardization(),
    )  # fmt: skip
    distiller.compile("sgd", losses())
    assert "logit_standardization_loss" in distiller.fit(x, y, verbose=0).history


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.layers_by_name = {name: layers.Dense(NAMES[name]) for name in DIVERGENCE}

    def call(self, inputs):
        return {name: layer(inputs) for name, layer in self.layers_by_name.items()}


def test_subclassed_models_are_told_which_outputs_to_compare():
    rng = np.random.default_rng(5)
    x, y = data(rng)
    teacher = Subclassed()
    teacher(x)
    distiller = L2RKDDistiller(teacher, Subclassed(), divergence=DIVERGENCE, seed=0)
    distiller.compile("sgd", losses(), metrics={"kind": ["accuracy"]})
    assert "place_region_loss" in distiller.fit(x, y, verbose=0).history
    distiller = L2RKDDistiller(teacher, Subclassed(), hard_weight=0.0, seed=0)
    with pytest.raises(ValueError, match="`divergence` as a dict by output name"):
        distiller.compile("sgd", losses())
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="`divergence` must be a dict by output name"):
        distiller.fit(x, verbose=0)


def test_two_replicas_equal_one_device():
    def trained(strategy):
        rng = np.random.default_rng(6)
        x, y = data(rng)
        with strategy.scope():
            teacher, student = (heads_model(rng)[0] for _ in range(2))
            distiller = L2RKDDistiller(
                teacher, student, divergence=DIVERGENCE, region=_Shrunk(), seed=0
            )
            distiller.compile(keras.optimizers.SGD(0.1), losses())
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
        logs = distiller.fit(batches, verbose=0).history
        return logs, student.get_weights()

    logs, weights = trained(two_replicas())
    expected_logs, expected = trained(tf.distribute.get_strategy())
    for actual, wanted in zip(weights, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-6)
    for name in ("loss", "kd_loss", "kind_kd_loss", "place_region_loss"):
        np.testing.assert_allclose(logs[name], expected_logs[name], rtol=1e-5)


class _Shrunk(regions.Region):
    def draw(self, inputs, seed, labels=None):
        return self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor * (1.0 - 0.5 * coefficients)


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
@pytest.mark.stress
def test_graph_xla_and_eager_train_alike(options):
    def trained(**options):
        rng = np.random.default_rng(7)
        x, y = data(rng)
        teacher, student = (heads_model(rng)[0] for _ in range(2))
        distiller = L2RKDDistiller(teacher, student, divergence=DIVERGENCE, seed=0)
        distiller.compile(keras.optimizers.SGD(0.1), losses(), **options)
        distiller.fit(x, y, 4, shuffle=False, verbose=0)
        return student.get_weights()

    for actual, wanted in zip(trained(**options), trained(), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-6)


def test_settings_by_output_are_saved(tmp_path):
    rng = np.random.default_rng(8)
    x, y = data(rng)
    teacher, student = (heads_model(rng)[0] for _ in range(2))
    distiller = L2RKDDistiller(
        teacher, student, divergence=DIVERGENCE, temperature={"kind": 2.0, "place": 1.0},
        output_weights={"kind": 1.0, "place": 3.0}, seed=0,
    )  # fmt: skip
    distiller.compile("sgd", losses())
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.divergence == DIVERGENCE
    assert loaded.temperature == {"kind": 2.0, "place": 1.0}
    assert loaded.output_weights == {"kind": 1.0, "place": 3.0}
    logs = [model.fit(x, y, shuffle=False, verbose=0).history for model in (distiller, loaded)]
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-6)
    loaded.temperature = 5.0
    assert loaded.temperature == 5.0
    distiller.summary(print_fn=lambda text: None)


@pytest.mark.parametrize("first", [4.0, {"kind": 1.0, "place": 6.0}])
def test_temperatures_are_set_by_output(first):
    rng = np.random.default_rng(11)
    x, _ = data(rng)
    (teacher, of_teacher), (student, of_student) = (heads_model(rng) for _ in range(2))
    distiller = L2RKDDistiller(teacher, student, temperature=first, hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(0.0))
    distiller.fit(x, verbose=0)  # the step is traced with the first ones
    for given in ({"kind": 2.0, "place": 8.0}, 3.0, {"kind": 5.0, "place": 0.5}):
        distiller.temperature = given
        assert distiller.temperature == given
        logs = distiller.fit(x, verbose=0).history
        for name in DIVERGENCE:
            tau = given[name] if isinstance(given, dict) else given
            logits = (x @ of[name][0] + of[name][1] for of in (of_teacher, of_student))
            wanted = reference.kl(*logits, tau).mean()
            np.testing.assert_allclose(logs[f"{name}_kd_loss"][0], wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="`temperature` must be a finite number above 0"):
        distiller.temperature = {"kind": 1.0, "place": -1.0}
    assert distiller.temperature == given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": {"kimd": "kl"}}, r"`divergence` must name outputs.*\['kimd'\].*'place'"),
        ({"divergence": {"kind": None}}, "must share an output that is compared"),
        ({"divergence": {"kind": "kl", "place": "l2"}}, "`divergence` must be one of"),
        ({"divergence": DIVERGENCE, "temperature": {"kind": 2.0}}, "`temperature` must be one for"),
        ({"divergence": DIVERGENCE, "output_weights": {"kind": 1, "place": -1}}, "not below 0"),
        ({"divergence": DIVERGENCE, "output_weights": [1, 2]}, "must be a dict by output name"),
        ({"divergence": DIVERGENCE, "output_weights": {"kind": 0, "place": 0}}, "not all 0"),
        (
            {"divergence": DIVERGENCE, "distillation_losses": "dist"},
            r"\['DIST'\] compare one output of each model",
        ),
    ],
)
def test_wrong_settings_are_refused(options, message):
    rng = np.random.default_rng(9)
    with pytest.raises(ValueError, match=message):
        L2RKDDistiller(heads_model(rng)[0], heads_model(rng)[0], **options)


@pytest.mark.parametrize("argument", ["divergence", "temperature", "output_weights"])
def test_the_only_output_has_the_name_of_either_model(argument):
    rng = np.random.default_rng(9)
    value = {"divergence": "kl", "temperature": 3.0, "output_weights": 2.0}[argument]
    teacher, other = (heads_model(rng, ("kind",), as_dict=False)[0] for _ in range(2))
    outputs = layers.Activation("linear", name="mine")(other.outputs[0])
    student = keras.Model(other.inputs, outputs)
    for name in ("kind", "mine"):
        distiller = L2RKDDistiller(teacher, student, **{argument: {name: value}})
        assert distiller.temperature == (3.0 if argument == "temperature" else 4.0)
    message = rf"`{argument}` must be .*compared outputs: \['kind', 'mine'\]"
    for wrong in ({"knid": value}, {"kind": value, "mine": value}):
        if argument != "divergence" or len(wrong) == 1:
            with pytest.raises(ValueError, match=message):
                L2RKDDistiller(teacher, student, **{argument: wrong})
    with pytest.raises(ValueError, match=r"compared outputs: \['kind', 'mine'\]"):
        distiller.temperature = {"knid": 2.0}


def test_the_weight_of_an_only_compared_output_counts():
    rng = np.random.default_rng(9)
    teacher, student = heads_model(rng)[0], heads_model(rng)[0]
    x, _ = data(rng)
    values = {}
    for name, options in {
        "alone": {"divergence": {"kind": "kl"}, "output_weights": {"kind": 0.25}},
        "with another": {
            "divergence": DIVERGENCE,
            "output_weights": {"kind": 0.25, "place": 0.0},
        },
        "of weight 1": {"divergence": {"kind": "kl"}},
    }.items():
        distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, seed=0, **options)
        distiller.compile(keras.optimizers.SGD(0.0))
        history = distiller.fit(x, batch_size=len(x), verbose=0).history
        values[name] = [history[term][0] for term in ("kd_loss", "region_loss", "loss")]
    np.testing.assert_allclose(values["alone"], values["with another"], rtol=1e-6)
    np.testing.assert_allclose(values["alone"], 0.25 * np.array(values["of weight 1"]), rtol=1e-6)


def test_models_without_a_shared_output_are_refused():
    rng = np.random.default_rng(9)
    teacher, student = heads_model(rng, ("other",)), heads_model(rng, ("kind", "place"))
    with pytest.raises(ValueError, match=r"outputs \['other'\] of the teacher"):
        L2RKDDistiller(teacher[0], student[0])


def test_an_output_that_differs_is_named():
    rng = np.random.default_rng(9)
    models = [heads_model(rng, activation=activation)[0] for activation in (None, "softmax")]
    with pytest.raises(ValueError, match="The output 'kind' of `student` must output logits"):
        L2RKDDistiller(*models, divergence=DIVERGENCE)


def test_data_carry_more_outputs_than_the_student_has():
    rng = np.random.default_rng(10)
    x, y = data(rng)
    teacher, _ = heads_model(rng)
    student = keras.Sequential([keras.Input((SIZE,)), layers.Dense(3, name="kind")])
    carried = teacher_cache.CachedInputs(x, teacher.predict(x, verbose=0))
    distiller = L2RKDDistiller(
        None, student, divergence={"kind": "kl"}, region_targets="interpolated", seed=0
    )
    distiller.compile("sgd", losses()["kind"])
    batches = tf.data.Dataset.from_tensors((carried, y["kind"]))
    assert distiller.fit(batches, verbose=0).history["kd_loss"][0] > 0.0
