"""Methods as terms of `L2RKDDistiller`: values, gradients, replicas, saving, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, losses, methods, regions
from l2rkd_tf.methods.jacobian import draw_directions
from l2rkd_tf.regions.points import draw_points
from tests.strategies import two_replicas
from tests.test_distiller import assert_equal_weights, cross_entropy

CLASSES, BATCH, SEED = 3, 8, 3
WEIGHTS = {"hard_weight": 0.3, "kd_weight": 0.7, "region_weight": 1.3, "temperature": 3.0}
RATE = 0.05
# What sets the draw of directions apart from those of the region.
DIRECTIONS = 2**30

# Each with the weight at which its gradient is of the size of that of the others.
METHODS = {
    "dkd": (lambda: methods.DKD(beta=2.0), 0.1),
    "dist": (methods.DIST, 0.1),
    "logit_standardization": (methods.LogitStandardization, 0.1),
    "jacobian_matching": (lambda: methods.JacobianMatching(num_projections=2), 0.02),
    "fit_net": (lambda: methods.FitNet("block3", "block3"), 1.0),
    "vid": (lambda: methods.VID(init_variance=1.0), 1.0),
    "attention_transfer": (methods.AttentionTransfer, 10.0),
    "neuron_selectivity_transfer": (methods.NeuronSelectivityTransfer, 1.0),
    "fsp": (
        lambda: methods.FSP(["block1", "block2"], ["block1", "block2"]),
        10.0,
    ),
    "similarity_preserving": (methods.SimilarityPreserving, 10.0),
    "correlation_congruence": (methods.CorrelationCongruence, 10.0),
    "relational_kd": (methods.RelationalKD, 0.02),
    "pkt": (methods.PKT, 10.0),
    "crd": (
        lambda: methods.CRD(feature_dim=4, num_negatives=8),
        0.05,
    ),
}
PER_EXAMPLE = [
    "dkd",
    "logit_standardization",
    "fit_net",
    "vid",
    "attention_transfer",
    "neuron_selectivity_transfer",
    "fsp",
]
OF_A_SHARE = [name for name in METHODS if name not in PER_EXAMPLE]


def network(seed, width, policy="float32"):
    """Smooth, without BatchNorm: features of a batch are those of its examples.

    Its maps are reshaped vectors: a convolution of TensorFlow fails at a batch without examples.
    """
    keras.utils.set_random_seed(seed)
    image = x = keras.Input((8, 8, 1), name="image")
    for block, shape in enumerate([(4, 4, 4), (2, 2, 3), (1, 1, width)], start=1):
        x = layers.Flatten(name=f"flat{block}", dtype=policy)(x)
        x = layers.Dense(
            int(np.prod(shape)), activation="tanh", name=f"dense{block}", dtype=policy,
            kernel_initializer=keras.initializers.GlorotNormal(seed=seed + block),
            bias_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=seed + block),
        )(x)  # fmt: skip
        x = layers.Reshape(shape, name=f"block{block}", dtype=policy)(x)
    x = layers.GlobalAveragePooling2D(name="features", dtype=policy)(x)
    logits = layers.Dense(
        CLASSES, name="logits", dtype="float32",
        kernel_initializer=keras.initializers.RandomNormal(stddev=1.5, seed=seed),
    )(x)  # fmt: skip
    return keras.Model(image, logits, name=f"network_{width}")


def pair():
    return network(10, 5), network(20, 4)


def data(count=BATCH, seed=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8, 8, 1)).astype("float32")
    return x, rng.integers(0, CLASSES, count).astype("int32")


def example_weights(count=BATCH):
    return np.random.default_rng(3).uniform(0.5, 2.0, count).astype("float32")


def distiller_of(names, at="data", models=None, **options):
    return L2RKDDistiller(
        *(models or pair()),
        region=options.pop("region", None) or regions.Segment(),
        distillation_losses=[METHODS[name][0]() for name in names],
        distillation_loss_weights=[METHODS[name][1] for name in names],
        distillation_losses_at=at,
        seed=SEED,
        **(WEIGHTS | options),
    )


def compiled(distiller, rate=RATE, **options):
    distiller.compile(
        keras.optimizers.SGD(rate), cross_entropy(), **({"run_eagerly": True} | options)
    )
    return distiller


def fit(distiller, x, y, batch_size=BATCH, **options):
    return distiller.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, **options).history


# The objective by hand.


def twin_of(method, models):
    """The same method with the same weights."""
    twin = type(method).from_config(method.get_config())
    twin.validate_model_compatibility(*models)
    if isinstance(method, methods.TrainableMethod):
        twin.set_weights(method.get_weights())
    return twin


def trained_by(method):
    return method.trainable_variables if isinstance(method, methods.TrainableMethod) else []


def layer_by_layer(model, x):
    """What every layer gives, for models that are chains of layers."""
    features = {}
    for layer in model.layers[1:]:
        x = features[layer.name] = layer(x)
    return features


def jacobian(model, x):
    """Derivative of each output with respect to the image, shape `(batch, outputs, pixels)`."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = tf.unstack(model(x), axis=1)
    rows = [tape.gradient(output, x) for output in outputs]
    return tf.stack([tf.reshape(row, (len(x), -1)) for row in rows], axis=1)


def seed_of(step, replica=0):
    """The documented key of a draw: seed, step and replica."""
    key = tf.random.fold_in([SEED, 0], step, alg="philox")
    return tf.random.fold_in(key, replica, alg="philox")


class Points:
    """The points of one replica in one step: at `"data"`, at `"region"` and at `"both"`."""

    def __init__(self, x, y, weights, step, region, replica=0, **options):
        weights = np.ones(len(x), "float32") if weights is None else weights
        seed = seed_of(step, replica)
        signs = draw_directions(
            len(x), 2, CLASSES, tf.random.fold_in(seed, DIRECTIONS, alg="philox")
        )
        drawn = draw_points(region, tf.constant(x), seed, **options)
        at_data = [drawn.at_data(part) for part in (x, y, weights, signs)]
        at_region = [drawn.at_region(x), *(drawn.of_owner(part) for part in (y, weights, signs))]
        at_region[1] = -tf.ones_like(at_region[1])
        both = [tf.concat(parts, 0) for parts in zip(at_data, at_region, strict=True)]
        self.parts = {"data": at_data, "region": at_region, "both": both}

    def count(self, where):
        return len(self.parts[where][0])


def values_of(method, teacher, student, points, where):
    """One value for each point, from what the layers give."""
    x, y, _, signs = points.parts[where]
    x = tf.convert_to_tensor(x)
    if isinstance(method, methods.JacobianMatching):
        signs = signs[:, : method.num_projections]
        compared = [tf.einsum("bpk,bks->bps", signs, jacobian(m, x)) for m in (teacher, student)]
    else:
        compared = []
        names = method.teacher_layers, method.student_layers
        for model, of_model in zip((teacher, student), names, strict=True):
            features = layer_by_layer(model, x)
            found = [features[name] for name in of_model or ("logits",)]
            compared.append(found[0] if len(found) == 1 else found)
    return method.values(*compared, labels=tf.convert_to_tensor(y))


def hand_step(models, twins, weights, at, shares, settings=WEIGHTS):
    """Logs, and weights of student and twins after a step, which changes them.

    Args:
        models: Teacher and student.
        twins: For each share, its methods by name; those of one name have equal weights.
        weights: Weight of each method, by name.
        at: Where each method compares, by name.
        shares: `Points` of each replica.
        settings: Weights of the other terms.

    Returns:
        The terms and the loss.
    """
    teacher, student = models
    trained = [student.trainable_variables]
    trained += [[v for m in of_share.values() for v in trained_by(m)] for of_share in twins]
    with tf.GradientTape() as tape:
        terms = {}

        def add(name, where, values, points):
            count = sum(share.count(where) for share in shares)
            part = tf.reduce_sum(values * tf.cast(points.parts[where][2], tf.float32)) / count
            terms[name] = terms.get(name, 0.0) + part

        for points, of_share in zip(shares, twins, strict=True):
            x, y = points.parts["data"][:2]
            hard = tf.nn.sparse_softmax_cross_entropy_with_logits(y, student(x))
            add("hard_loss", "data", hard, points)
            for name, where in (("kd_loss", "data"), ("region_loss", "region")):
                x = points.parts[where][0]
                soft = losses.kl_divergence(teacher(x), student(x), settings["temperature"])
                add(name, where, soft, points)
            for name, method in of_share.items():
                values = values_of(method, teacher, student, points, at[name])
                add(f"{name}_loss", at[name], values, points)
        factors = {f"{name}_loss": weight for name, weight in weights.items()}
        factors |= {f"{n}_loss": settings[f"{n}_weight"] for n in ("hard", "kd", "region")}
        loss = tf.add_n([factors[name] * term for name, term in terms.items()])
    of_student, *of_twins = tape.gradient(loss, trained)
    for variable, gradient in zip(trained[0], of_student, strict=True):
        variable.assign_sub(RATE * gradient)
    for of_variable in zip(*trained[1:], strict=True):
        place = [variable is of_variable[0] for variable in trained[1]].index(True)
        gradient = tf.add_n([gradients[place] for gradients in of_twins])
        for variable in of_variable:
            variable.assign_sub(RATE * gradient)
    return {name: float(term) for name, term in terms.items()} | {"loss": float(loss)}


def hand_steps(distiller, names, at, batches, region, num_replicas=1, **options):
    """`hand_step` for batches, each a list of the shares of the replicas; before any training."""
    models = pair()
    assert_equal_weights(models[0], distiller.get_teacher())
    assert_equal_weights(models[1], distiller.student)
    twins = [
        {n: twin_of(m, models) for n, m in zip(names, distiller.distillation_losses, strict=True)}
        for _ in range(num_replicas)
    ]
    logs = []
    for step, shares in enumerate(batches):
        points = [
            Points(*share, step, region, replica, **options) for replica, share in enumerate(shares)
        ]
        weights = {name: METHODS[name][1] for name in names}
        at_each = dict(zip(names, [at] * len(names) if isinstance(at, str) else at, strict=True))
        logs.append(hand_step(models, twins, weights, at_each, points))
    return logs, models[1], twins


def assert_equal_methods(distiller, twins, atol, memory=True):
    for method, twin in zip(distiller.distillation_losses, twins.values(), strict=True):
        if isinstance(twin, methods.TrainableMethod):
            kind = "weights" if memory else "trainable_variables"
            for one, other in zip(getattr(method, kind), getattr(twin, kind), strict=True):
                np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=0.0, atol=atol)


# One method at a time.


BESIDE = {"num_points": 2}
REPLACED = {"num_points": 1, "replace_fraction": 0.5}


def test_every_method_is_tested_here():
    made = {type(make()).__name__ for make, _ in METHODS.values()}
    bases = {"Method", "FeatureMethod", "LayersMethod", "TrainableMethod"}
    assert made == {n for n in methods.__all__ if isinstance(getattr(methods, n), type)} - bases


@pytest.mark.parametrize(
    ("at", "options"),
    [("data", REPLACED), ("region", BESIDE), ("both", REPLACED)],
    ids=["data, replaced", "region", "both, replaced"],
)
@pytest.mark.parametrize("name", METHODS)
def test_two_weighted_steps_equal_those_by_hand(name, at, options):
    x, y = data()
    weights = example_weights()
    distiller = distiller_of(
        [name],
        at,
        num_region_points=options["num_points"],
        replace_fraction=options.get("replace_fraction"),
    )
    before = distiller.get_teacher().get_weights()
    expected, student, twins = hand_steps(
        distiller, [name], at, [[(x, y, weights)]] * 2, regions.Segment(), **options
    )
    logs = fit(compiled(distiller), x, y, sample_weight=weights, epochs=2)
    for step in range(2):
        assert set(expected[step]) == set(logs)
        for term, value in expected[step].items():
            np.testing.assert_allclose(logs[term][step], value, rtol=2e-5, atol=1e-6, err_msg=term)
    # The memory of the contrast is empty in the first step.
    assert logs[f"{name}_loss"][1] != 0.0
    assert_equal_weights(distiller.student, student, atol=2e-6)
    assert_equal_methods(distiller, twins[0], atol=2e-6)
    for one, other in zip(distiller.get_teacher().get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_student_holds_nothing_of_the_methods():
    x, y = data()
    teacher, student = pair()
    own = [id(variable) for variable in student.variables]
    count, size = student.count_params(), student.get_config()
    distiller = compiled(distiller_of(METHODS, models=(teacher, student)))
    parts = [v for m in distiller.distillation_losses for v in trained_by(m)]
    # A projector, 3 x 3 + 1 + 3 + 3 (two with a variance), and two linear maps.
    assert len(parts) == 2 + 3 * 4 + 4
    for _ in range(2):
        fit(distiller, x, y)
        assert [id(variable) for variable in student.variables] == own
        assert (student.count_params(), student.get_config()) == (count, size)
        expected = [id(v) for v in (*student.trainable_variables, *parts)]
        assert sorted(map(id, distiller.trainable_variables)) == sorted(expected)
    held = {id(variable) for variable in distiller.variables}
    assert not held & {id(variable) for variable in teacher.variables}


def test_the_exported_student_gives_the_same_with_and_without_methods(tmp_path):
    x, y = data()
    distiller = compiled(distiller_of(METHODS))
    fit(distiller, x, y)
    distiller.student.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    assert loaded.count_params() == network(20, 4).count_params()
    np.testing.assert_array_equal(loaded(x), distiller(x))


def test_all_methods_together_at_different_points_equal_their_sum_by_hand():
    x, y = data()
    at = [("region", "data", "both")[index % 3] for index in range(len(METHODS))]
    names = list(METHODS)
    distiller = distiller_of(names, at)
    expected, student, twins = hand_steps(
        distiller, names, at, [[(x, y, None)]] * 2, regions.Segment()
    )
    logs = fit(compiled(distiller), x, y, epochs=2)
    for step in range(2):
        for term, value in expected[step].items():
            np.testing.assert_allclose(logs[term][step], value, rtol=1e-4, atol=1e-6, err_msg=term)
    assert_equal_weights(distiller.student, student, atol=1e-5)
    assert_equal_methods(distiller, twins[0], atol=1e-5)


# Passes.


class Counting(layers.Layer):
    """Counts its calls."""

    def build(self, shape):
        self.calls = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls"
        )

    def call(self, inputs):
        self.calls.assign(self.calls + 1)
        return inputs

    def compute_output_shape(self, shape):
        return shape


def counting_network(seed, width):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 1))
    x = Counting(name="counting")(image)
    for block, filters in enumerate((4, 3, width), start=1):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", name=f"conv{block}")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"norm{block}")(x)
        x = layers.Activation("tanh", name=f"block{block}")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x))


def calls_of(model):
    return int(model.get_layer("counting").calls.numpy())


@pytest.mark.parametrize(
    ("at", "kd_weight"), [("data", 0.7), ("region", 0.0), ("both", 0.0), ("each", 0.7)]
)
def test_one_pass_of_each_model_for_all_methods(at, kd_weight):
    x, y = data()
    at = [("region", "data", "both")[i % 3] for i in range(len(METHODS))] if at == "each" else at
    models = counting_network(0, 5), counting_network(1, 4)
    distiller = compiled(
        distiller_of(METHODS, at, models, kd_weight=kd_weight, region_weight=0.0), rate=1e-3
    )
    before = models[0].get_weights()
    for step in (1, 2):
        distiller.train_on_batch(x, y)
        assert [calls_of(model) for model in models] == [step, step]
    models[0].get_layer("counting").calls.assign(0)  # the teacher counts in inference, too
    for one, other in zip(models[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("at", ["data", "both"])
def test_statistics_of_batch_norm_move_once_a_step(at):
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    student = models[1]
    distiller = compiled(distiller_of(METHODS, at, models, region_weight=0.0), rate=0.0)
    points = Points(x, y, None, 0, regions.Segment()).parts[at][0]
    convolved = student.get_layer("conv1")(points).numpy()
    distiller.train_on_batch(x, y)
    norm = student.get_layer("norm1")
    mean, variance = convolved.mean(axis=(0, 1, 2)), convolved.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_mean, 0.5 * mean, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, 0.5 + 0.5 * variance, rtol=1e-5)


def test_evaluation_touches_neither_teacher_nor_batch_norm_nor_memory():
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    distiller = compiled(distiller_of(METHODS, models=models))
    fit(distiller, x, y)
    state = [*models[0].get_weights(), *distiller.get_weights()]
    calls = calls_of(models[1])
    logs = distiller.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    distiller.predict(x, verbose=0)
    models[1].get_layer("counting").calls.assign(calls)
    after = [*models[0].get_weights(), *distiller.get_weights()]
    for one, other in zip(after, state, strict=True):
        np.testing.assert_array_equal(one, other)
    hard = cross_entropy()(y, models[1](x, training=False))
    np.testing.assert_allclose(logs["loss"], hard, rtol=1e-6)


@pytest.mark.parametrize("name", ["fit_net", "relational_kd", "attention_transfer"])
def test_features_of_a_student_with_batch_norm_are_those_of_training(name):
    x, y = data()
    models = counting_network(0, 5), counting_network(1, 4)
    copy = keras.models.clone_model(models[1])
    copy.set_weights(models[1].get_weights())
    distiller = compiled(distiller_of([name], models=models, region_weight=0.0))
    method = twin_of(distiller.distillation_losses[0], models)
    compared = []
    for model, names, training in (
        (models[0], method.teacher_layers, False),
        (copy, method.student_layers, True),
    ):
        inner = keras.Model(model.inputs[0], [model.get_layer(layer).output for layer in names])
        found = inner(x, training=training)
        compared.append(found if len(names) > 1 else keras.tree.flatten(found)[0])
    logs = distiller.train_on_batch(x, y, return_dict=True)
    expected = method.values(*compared).numpy().mean()
    np.testing.assert_allclose(logs[f"{name}_loss"], expected, rtol=1e-5)


# Replicas.


class Brighter(regions.Region):
    """Every point becomes larger by a tenth: the region of an example is its own affair."""

    def draw(self, inputs, seed, labels=None):
        return 0.1 * self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor * (1.0 + coefficients)


def on_two(make):
    with two_replicas().scope():
        return make()


@pytest.mark.parametrize("count", [7, 5], ids=["uneven", "a share without examples"])
def test_methods_of_single_examples_on_two_replicas_equal_one_device(count):
    x, y = data(count)
    weights = example_weights(count)
    at = ["both", "region", "data", "both", "region", "data", "both"]

    def make(**options):
        return compiled(distiller_of(PER_EXAMPLE, at, region=Brighter()), **options)

    one, two = make(), on_two(lambda: make(run_eagerly=False, jit_compile=False))
    for own, method in zip(one.distillation_losses, two.distillation_losses, strict=True):
        if isinstance(own, methods.TrainableMethod):
            method.set_weights(own.get_weights())
    expected, actual = (
        fit(distiller, x, y, batch_size=4, sample_weight=weights) for distiller in (one, two)
    )
    assert_equal_weights(two.student, one.student, atol=1e-6)
    twins = dict(zip(PER_EXAMPLE, one.distillation_losses, strict=True))
    assert_equal_methods(two, twins, atol=1e-6)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=2e-5, err_msg=name)


def test_methods_of_a_share_on_two_replicas_equal_the_sum_of_their_parts():
    x, y = data(15)
    weights = example_weights(15)
    at = ["both", "data", "region", "data", "both", "data", "both"]
    assert len(at) == len(OF_A_SHARE)
    two = on_two(
        lambda: compiled(distiller_of(OF_A_SHARE, at), run_eagerly=False, jit_compile=False)
    )
    # Batches of 8 and 7 examples, the second shared unequally.
    shares = [[slice(0, 4), slice(4, 8)], [slice(8, 12), slice(12, 15)]]
    batches = [[(x[rows], y[rows], weights[rows]) for rows in batch] for batch in shares]
    expected, student, twins = hand_steps(
        two, OF_A_SHARE, at, batches, regions.Segment(), num_replicas=2
    )
    logs = fit(two, x, y, batch_size=8, sample_weight=weights)
    for term in expected[0]:
        mean = (8 * expected[0][term] + 7 * expected[1][term]) / 15
        np.testing.assert_allclose(logs[term][0], mean, rtol=1e-4, err_msg=term)
    assert_equal_weights(two.student, student, atol=1e-5)
    assert_equal_methods(two, twins[0], atol=1e-5, memory=False)
    method = two.distillation_losses[-1]
    memories = two.distribute_strategy.experimental_local_results(method.label_memory.value)
    for own, of_share in zip(memories, twins, strict=True):
        memory = of_share["crd"].label_memory
        np.testing.assert_array_equal(own.numpy(), memory.numpy())
        assert {-1, 0} < set(own.numpy())


def test_a_share_without_examples_is_no_hindrance_to_methods_of_a_share():
    x, y = data(5)
    at = ["both", "data", "region", "data", "both", "data", "both"]
    two = on_two(
        lambda: compiled(distiller_of(OF_A_SHARE, at), run_eagerly=False, jit_compile=False)
    )
    logs = fit(two, x, y, batch_size=4)  # batches of 4 and 1
    for name, values in logs.items():
        assert np.isfinite(values).all(), name
    for value in two.get_weights():
        assert np.isfinite(value).all()


# How a step runs.


def all_methods(**options):
    at = [("region", "data", "both")[index % 3] for index in range(len(METHODS))]
    return compiled(distiller_of(METHODS, at), **options)


@pytest.fixture(scope="module")
def run_eagerly():
    keras.utils.set_random_seed(0)
    x, y = data(2 * BATCH)
    distiller = all_methods(run_eagerly=True)
    return fit(distiller, x, y, epochs=2), distiller.get_weights()


@pytest.mark.parametrize(
    "options",
    [{"jit_compile": False, "steps_per_execution": 2}, {"jit_compile": True}],
    ids=["graph of several steps", "xla"],
)
def test_graphs_and_xla_train_as_eager_mode(options, run_eagerly):
    x, y = data(2 * BATCH)
    distiller = all_methods(run_eagerly=False, **options)
    logs = fit(distiller, x, y, epochs=2)
    for name, values in run_eagerly[0].items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    for one, other in zip(distiller.get_weights(), run_eagerly[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-5)


def test_a_second_compile_trains_on_with_the_parts_and_the_memory():
    x, y = data()
    distillers = [all_methods(), all_methods()]
    for distiller in distillers:
        fit(distiller, x, y)
    # A new optimizer counts its steps, which key the draws, from 0 again.
    compiled(distillers[0])
    distillers[1].optimizer.iterations.assign(0)
    logs = [fit(distiller, x, y) for distiller in distillers]
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=1e-6, err_msg=name)
    assert logs[0]["crd_loss"][0] > 0.0
    assert_equal_weights(distillers[0].student, distillers[1].student, atol=1e-6)


# A float16 feature is off by up to 2^-11 of itself; relations take differences of close features.
HALF_PRECISION = {"rtol": 0.05, "atol": 5e-3}


@pytest.mark.parametrize("policy", ["mixed_float16"])
def test_half_precision_student_of_a_float32_teacher(policy):
    x, y = data()
    logs = []
    for name in ("float32", policy):
        student = network(20, 4, policy=name)
        distiller = compiled(
            distiller_of(METHODS, "both", (network(10, 5), student)), auto_scale_loss=False
        )
        logs.append(fit(distiller, x, y, epochs=2))
    assert {tf.as_dtype(v.dtype) for v in distiller.trainable_variables} == {tf.float32}
    for term, values in logs[0].items():
        np.testing.assert_allclose(logs[1][term], values, err_msg=term, **HALF_PRECISION)
    for value in distiller.get_weights():
        assert np.isfinite(value).all()


def test_parts_stay_float32_under_a_half_precision_global_policy():
    x, y = data()
    keras.config.set_dtype_policy("mixed_float16")
    distiller = all_methods()
    logs = fit(distiller, x, y, epochs=2)
    assert {v.dtype for v in distiller.trainable_variables} == {"float32"}
    assert np.isfinite(list(logs.values())).all()


# Saving.


def memory_of(distiller):
    return distiller.distillation_losses[-1].label_memory.numpy()


def test_a_loaded_distiller_trains_on_identically(tmp_path):
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


def test_a_weights_file_holds_the_parts_but_no_teacher(tmp_path):
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


def test_two_methods_of_one_class_keep_their_own_parts(tmp_path):
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


# Keras's own distiller.

IN_KERAS = {
    "attention_transfer": lambda: methods.AttentionTransfer("block2", "block2"),
    "neuron_selectivity_transfer": lambda: methods.NeuronSelectivityTransfer("block2", "block2"),
    "vid": lambda: methods.VID("block3", "block3"),
}
NOT_IN_KERAS = ("jacobian_matching", "fsp")


def keras_distiller(method):
    distiller = keras.distillation.Distiller(*pair(), method, student_loss_weight=0.5)
    distiller.compile(keras.optimizers.SGD(RATE), cross_entropy(), run_eagerly=True)
    return distiller


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NOT_IN_KERAS])
def test_methods_of_logits_or_one_pair_of_layers_in_the_distiller_of_keras(name):
    x, y = data()
    distiller = keras_distiller(IN_KERAS.get(name, METHODS[name][0])())
    (method,) = distiller.distillation_losses
    models = pair()
    twin = twin_of(method, models)
    for step in range(2):
        points = Points(x, -np.ones_like(y), None, step, regions.Segment())
        with tf.GradientTape() as tape:
            expected = tf.reduce_mean(values_of(twin, *models, points, "data"))
            loss = 0.5 * expected + 0.5 * cross_entropy()(y, models[1](x))
        variables = [*models[1].trainable_variables, *trained_by(twin)]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(RATE * gradient)
        logs = fit(distiller, x, y)
        np.testing.assert_allclose(logs["distillation_loss"][0], expected, rtol=1e-5)
    assert_equal_weights(distiller.student, models[1], atol=5e-6)
    if isinstance(twin, methods.TrainableMethod):
        for one, other in zip(method.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (methods.JacobianMatching, ["JacobianMatching", "L2RKDDistiller", "gradients"]),
        *(
            (make, ["L2RKDDistiller", "keras.distillation.Distiller", "block1", "one layer"])
            for make in (
                methods.AttentionTransfer,
                methods.NeuronSelectivityTransfer,
                methods.VID,
                methods.FSP,
            )
        ),
    ],
)
def test_gradients_and_several_layers_are_refused_by_the_distiller_of_keras(make, words):
    with pytest.raises(ValueError) as error:
        fit(keras_distiller(make()), *data())
    for word in words:
        assert word in str(error.value)


# Models without a graph.


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, width, seed, **kwargs):
        super().__init__(**kwargs)
        self.width, self.seed = width, seed
        init = [keras.initializers.RandomNormal(stddev=0.5, seed=seed + i) for i in range(2)]
        self.hidden = layers.Dense(width, activation="tanh", kernel_initializer=init[0])
        self.top = layers.Dense(CLASSES, kernel_initializer=init[1])

    def call(self, inputs, training=None):
        return self.top(self.hidden(inputs))

    def get_config(self):
        return super().get_config() | {"width": self.width, "seed": self.seed}


def functional_twin(model):
    row = keras.Input((4,))
    hidden = layers.Dense(model.width, activation="tanh", name="hidden")(row)
    twin = keras.Model(row, layers.Dense(CLASSES, name="logits")(hidden))
    twin.set_weights(model.get_weights())
    return twin


@keras.saving.register_keras_serializable("tests")
def hidden_features(model, inputs, training):
    hidden = model.hidden(inputs)
    return model.top(hidden), {"hidden": hidden}


def table(count=BATCH):
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, 4)).astype("float32"), rng.integers(0, CLASSES, count)


def subclassed_pair(built=True):
    models = Subclassed(6, 1), Subclassed(4, 2)
    for model in models if built else models[:1]:
        model(table()[0])
    return models


def methods_of_hidden():
    return [
        methods.FitNet("hidden", "hidden"),
        methods.VID("hidden", "hidden"),
        methods.RelationalKD("hidden", "hidden"),
        methods.CRD("hidden", "hidden", feature_dim=3, num_negatives=8),
        methods.DKD(),
    ]


def of_hidden(models, features=None, at=("both", "data", "both", "data", "region"), **options):
    return L2RKDDistiller(
        *models,
        distillation_losses=methods_of_hidden(),
        distillation_loss_weights=[0.1, 0.1, 0.01, 0.05, 0.05],
        distillation_losses_at=list(at),
        region=regions.Segment(),
        features=features,
        seed=SEED,
        **options,
    )


def set_parts(distiller, other):
    for one, of_other in zip(distiller.distillation_losses, other.distillation_losses, strict=True):
        if isinstance(one, methods.TrainableMethod):
            one.set_weights(of_other.get_weights())


MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"run_eagerly": False, "jit_compile": False},
}


@pytest.mark.parametrize(
    ("built", "mode"), [(True, "eager"), (False, "graph")], ids=["built", "unbuilt student, graph"]
)
def test_subclassed_models_train_as_functional_ones(built, mode):
    x, y = table()
    models = subclassed_pair(built)
    one = of_hidden([functional_twin(model) for model in subclassed_pair()])
    other = of_hidden(models, hidden_features)
    for distiller in (one, other):
        compiled(distiller, rate=0.0, **MODES[mode])
        fit(distiller, x, y)  # makes the parts
    set_parts(other, one)
    logs = []
    for distiller in (one, other):
        distiller.optimizer.learning_rate = RATE
        logs.append(fit(distiller, x, y, epochs=2))
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert_equal_weights(other.student, one.student, atol=1e-6)
    twins = dict(enumerate(one.distillation_losses))
    assert_equal_methods(other, twins, atol=1e-6)
    assert logs[0]["fit_net_loss"][0] != logs[0]["fit_net_loss"][1]


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt student"])
def test_parts_made_in_the_first_step_are_trained_and_saved(built, tmp_path):
    x, y = table()
    distiller = compiled(of_hidden(subclassed_pair(built), hidden_features))
    assert not distiller.distillation_losses[0].built
    fit(distiller, x, y)
    before = distiller.distillation_losses[0].projector.kernel.numpy()
    fit(distiller, x, y)
    assert np.abs(distiller.distillation_losses[0].projector.kernel.numpy() - before).max() > 1e-5
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.run_eagerly = True
    for one, other in zip(loaded.distillation_losses, distiller.distillation_losses, strict=True):
        if isinstance(one, methods.TrainableMethod):
            for weight, saved in zip(one.get_weights(), other.get_weights(), strict=True):
                np.testing.assert_array_equal(weight, saved)
    expected, actual = fit(distiller, x, y), fit(loaded, x, y)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-6, err_msg=name)
    assert_equal_weights(loaded.student, distiller.student, atol=1e-7)


def test_weights_are_restored_before_the_first_step_makes_the_parts(tmp_path):
    x, y = table()
    saved, fresh = (compiled(of_hidden(subclassed_pair(), hidden_features)) for _ in range(2))
    for _ in range(2):
        fit(saved, x, y)
    saved.save_weights(tmp_path / "distiller.weights.h5")
    with pytest.raises(ValueError, match=r"distiller.build\(input_shape\)"):
        fresh.load_weights(tmp_path / "distiller.weights.h5")
    fresh.build(x.shape)
    fresh.load_weights(tmp_path / "distiller.weights.h5")
    projectors = []
    for distiller in (saved, fresh):
        distiller.optimizer.learning_rate = 0.0
        fit(distiller, x, y)
        projectors.append(distiller.distillation_losses[0].projector.kernel.numpy())
    np.testing.assert_array_equal(*projectors)


def test_parts_made_in_the_first_step_on_two_replicas():
    x, y = table()

    def make():
        return compiled(
            L2RKDDistiller(
                *subclassed_pair(),
                distillation_losses=methods.FitNet("hidden", "hidden"),
                distillation_loss_weights=0.5,
                features=hidden_features,
                region_weight=0.0,
                seed=SEED,
            ),
            rate=0.0,
            run_eagerly=False,
            jit_compile=False,
        )

    one, two = make(), on_two(make)
    for distiller in (one, two):
        fit(distiller, x, y)
    set_parts(two, one)
    for distiller in (one, two):
        distiller.optimizer.learning_rate = RATE
        fit(distiller, x, y)
    assert_equal_weights(two.student, one.student, atol=1e-6)
    assert_equal_methods(two, {"fit_net": one.distillation_losses[0]}, atol=1e-6)


def test_features_is_called_once_for_each_pass():
    x, y = table()
    calls = []

    def counted(model, inputs, training):
        calls.append((model.name, training, len(inputs)))
        return hidden_features(model, inputs, training)

    models = subclassed_pair()
    distiller = compiled(of_hidden(models, counted))
    distiller.build(x.shape)  # a symbolic call, which makes the parts
    calls.clear()
    distiller.train_on_batch(x, y)
    assert calls == [(models[0].name, False, 2 * BATCH), (models[1].name, True, 2 * BATCH)]


WRONG_FEATURES = {
    "no pair": (lambda model, x, training: model(x), ["`features` must return (outputs"]),
    "three things": (
        lambda model, x, training: (model(x), {}, {}),
        ["`features` must return (outputs"],
    ),
    "no dict": (
        lambda model, x, training: (model(x), model.hidden(x)),
        ["`features` must return (outputs"],
    ),
    "other names": (
        lambda model, x, training: (model(x), {"b": model.hidden(x), "a": model.hidden(x)}),
        ["['hidden']", "does not return", "['a', 'b']"],
    ),
}


@pytest.mark.parametrize("name", WRONG_FEATURES)
def test_wrong_returns_of_features_are_named(name):
    wrong, words = WRONG_FEATURES[name]
    distiller = compiled(
        L2RKDDistiller(
            *subclassed_pair(),
            distillation_losses=methods.RelationalKD("hidden", "hidden"),
            features=wrong,
        )
    )
    with pytest.raises(ValueError) as error:
        distiller.train_on_batch(*table())
    for word in words:
        assert word in str(error.value)


def test_a_model_without_a_graph_needs_features():
    with pytest.raises(ValueError, match=r"\['hidden'\].*not connected in a graph.*`features"):
        L2RKDDistiller(
            *subclassed_pair(), distillation_losses=methods.RelationalKD("hidden", "hidden")
        )


def test_features_are_for_models_without_a_graph_alone():
    x, y = table()
    teacher, student = subclassed_pair()
    functional = functional_twin(teacher)
    logs = []
    for models in ((teacher, student), (functional, subclassed_pair()[1])):
        distiller = L2RKDDistiller(
            *models,
            distillation_losses=methods.RelationalKD("hidden", "hidden"),
            features=hidden_features,
            region=regions.Segment(),
            seed=0,
        )
        logs.append(fit(compiled(distiller), x, y))
    np.testing.assert_allclose(logs[1]["loss"], logs[0]["loss"], rtol=1e-6)


# Errors.


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
        ({"distillation_losses": "fitnet"}, ["distillation_losses", "'fitnet'"]),
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


# Logits of models of probabilities.


def dense_pair(activation=None):
    models = []
    for seed in (1, 2):
        init = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        models.append(
            keras.Sequential(
                [
                    keras.Input((4,)),
                    layers.Dense(CLASSES, activation=activation, kernel_initializer=init),
                ]
            )
        )
    return models


LOGITS = {
    "dkd": methods.DKD,
    "dist": methods.DIST,
    "logit_standardization": methods.LogitStandardization,
}


@pytest.mark.parametrize("at", ["data", "region", "both"])
@pytest.mark.parametrize("name", LOGITS)
def test_methods_see_the_logits_of_models_of_probabilities(name, at):
    x, y = table()
    logs, students = [], []
    for activation in (None, "softmax"):
        teacher, student = dense_pair(activation)
        distiller = L2RKDDistiller(
            teacher, student, from_logits=activation is None, distillation_losses=LOGITS[name](),
            distillation_losses_at=at, distillation_loss_weights=1.0, hard_weight=0.0, seed=SEED,
        )  # fmt: skip
        logs.append(fit(compiled(distiller), x, y, epochs=2))
        students.append(student)
    np.testing.assert_allclose(logs[1][f"{name}_loss"], logs[0][f"{name}_loss"], rtol=1e-4)
    assert_equal_weights(*students, atol=1e-5)


# Labels.


def dkd_of(teacher, student, x, labels):
    return methods.DKD().values(teacher(x), student(x), labels).numpy().mean()


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y,
        lambda y: y.astype("float32"),
        lambda y: y[:, None],
        lambda y: np.eye(CLASSES, dtype="float32")[y],
        lambda y: np.eye(CLASSES, dtype="int32")[y],
    ],
    ids=["(b,)", "float (b,)", "(b, 1)", "one-hot", "integer one-hot"],
)
def test_labels_of_any_form_are_the_target_at_data_and_the_teachers_class_elsewhere(labels):
    x, y = table()
    teacher, student = dense_pair()
    assert (teacher(x).numpy().argmax(axis=1) != y).any()
    one_hot = np.ndim(labels(y)) == 2 and labels(y).shape[1] > 1
    distiller = L2RKDDistiller(
        teacher,
        student,
        region=regions.Segment(),
        distillation_losses=[methods.DKD() for _ in range(3)],
        distillation_losses_at=["data", "region", "both"],
        seed=SEED,
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True) if one_hot else cross_entropy()
    distiller.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    logs = fit(distiller, x, labels(y))
    near = draw_points(regions.Segment(), tf.constant(x), seed_of(0)).at_region(x)
    at_data, at_region = (
        dkd_of(teacher, student, x, y), dkd_of(teacher, student, near, None)
    )  # fmt: skip
    np.testing.assert_allclose(logs["dkd_loss"][0], at_data, rtol=1e-5)
    np.testing.assert_allclose(logs["dkd_loss_2"][0], at_region, rtol=1e-5)
    np.testing.assert_allclose(logs["dkd_loss_3"][0], (at_data + at_region) / 2, rtol=1e-5)


def test_without_labels_the_target_is_the_teachers_class():
    x, _ = table()
    teacher, student = dense_pair()
    distiller = L2RKDDistiller(teacher, student, distillation_losses=methods.DKD(), hard_weight=0.0)
    logs = fit(compiled(distiller, rate=0.0), x, None)
    expected = dkd_of(teacher, student, x, None)
    np.testing.assert_allclose(logs["dkd_loss"][0], expected, rtol=1e-5)


# JacobianMatching.


def signs_of(count, num_projections, step=0):
    seed = tf.random.fold_in(seed_of(step), DIRECTIONS, alg="philox")
    return draw_directions(count, num_projections, CLASSES, seed)


def matched(teacher, student, x, signs, normalize=False):
    values = [
        tf.einsum("bpk,bks->bps", signs, jacobian(model, tf.constant(x)))
        for model in (teacher, student)
    ]
    if normalize:
        values = [value / tf.norm(value, axis=-1, keepdims=True) for value in values]
    squares = tf.reduce_sum((values[0] - values[1]) ** 2, axis=-1)
    return float(tf.reduce_mean(squares))


def test_several_numbers_of_projections_in_one_distiller():
    x, y = data()
    teacher, student = pair()
    distiller = L2RKDDistiller(
        teacher,
        student,
        distillation_losses=[
            methods.JacobianMatching(num_projections=1),
            methods.JacobianMatching(num_projections=4),
            methods.JacobianMatching(num_projections=2, normalize=True),
        ],
        seed=SEED,
    )
    logs = fit(compiled(distiller, rate=0.0), x, y, epochs=2)
    for step in range(2):
        signs = signs_of(BATCH, 4, step)
        expected = [
            matched(teacher, student, x, signs[:, :1]),
            matched(teacher, student, x, signs),
            matched(teacher, student, x, signs[:, :2], normalize=True),
        ]
        actual = [logs[f"jacobian_matching_loss{n}"][step] for n in ("", "_2", "_3")]
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    first = logs["jacobian_matching_loss"]
    assert first[0] != first[1]


@pytest.mark.parametrize("at", ["data", "both"])
def test_gradients_at_uint8_images_are_those_of_the_float_images(at):
    x, y = data()
    x = np.clip(128 + 60 * x, 0, 255).astype("uint8")
    logs = []
    for images in (x, x.astype("float32")):
        distiller = distiller_of(["jacobian_matching"], at, region_weight=0.0)
        logs.append(
            distiller_logs(compiled(distiller, rate=0.0), images, y)["jacobian_matching_loss"][0]
        )
    assert logs[0] == logs[1] > 0.0
    if at == "data":
        expected = matched(*pair(), x.astype("float32"), signs_of(BATCH, 2))
        np.testing.assert_allclose(logs[0], expected, rtol=1e-4)


def distiller_logs(distiller, x, y):
    data_set = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    return distiller.fit(data_set, verbose=0).history


def two_inputs(seed, kind):
    image, row = keras.Input((2, 3, 1), name="image"), keras.Input((2,), name="row")
    joined = layers.Concatenate()([layers.Flatten()(image), row])
    init = [keras.initializers.RandomNormal(stddev=0.5, seed=seed + i) for i in range(2)]
    hidden = layers.Dense(4, activation="tanh", kernel_initializer=init[0])(joined)
    outputs = layers.Dense(CLASSES, kernel_initializer=init[1])(hidden)
    return keras.Model(kind(image, row), outputs), keras.Model([image, row], outputs)


@pytest.mark.parametrize(
    "kind",
    [lambda image, row: {"image": image, "row": row},
     lambda image, row: {"row": row, "image": image},
     lambda image, row: [image, row]],
    ids=["dict", "dict in another order", "list"],
)  # fmt: skip
def test_gradients_with_respect_to_several_inputs(kind):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(BATCH, 2, 3, 1)).astype("float32")
    row, y = rng.normal(size=(BATCH, 2)).astype("float32"), rng.integers(0, CLASSES, BATCH)
    (teacher, of_teacher), (student, of_student) = two_inputs(1, kind), two_inputs(2, kind)
    distiller = L2RKDDistiller(
        teacher, student, distillation_losses=methods.JacobianMatching(), seed=SEED,
        distillation_losses_at="data", region=regions.Segment(),
    )  # fmt: skip
    logs = fit(compiled(distiller, rate=0.0), kind(image, row), y)

    def gradients(model):
        with tf.GradientTape(persistent=True) as tape:
            inputs = [tf.constant(image), tf.constant(row)]
            tape.watch(inputs)
            outputs = tf.unstack(model(inputs), axis=1)
        rows = [tape.gradient(output, inputs) for output in outputs]
        return tf.stack([tf.concat([tf.reshape(i, (BATCH, -1)), r], 1) for i, r in rows], 1)

    signs = signs_of(BATCH, 1)[:, 0]
    difference = tf.einsum("bk,bks->bs", signs, gradients(of_teacher) - gradients(of_student))
    expected = tf.reduce_mean(tf.reduce_sum(difference**2, axis=1))
    np.testing.assert_allclose(logs["jacobian_matching_loss"][0], expected, rtol=1e-4)


def of_tokens():
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(5, 2)(tokens))
    return keras.Model(tokens, layers.Dense(CLASSES)(x))


def test_integer_inputs_have_no_gradients():
    distiller = compiled(
        L2RKDDistiller(
            of_tokens(),
            of_tokens(),
            distillation_losses=methods.JacobianMatching(),
            region=regions.Segment(),
            region_weight=0.0,
        )
    )
    x = np.zeros((BATCH, 4), "int32")
    with pytest.raises(ValueError, match="JacobianMatching needs outputs that can be differentia"):
        distiller.train_on_batch(x, np.zeros(BATCH))


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt student"])
def test_gradients_of_subclassed_models_without_features(built):
    x, y = table()
    distiller = L2RKDDistiller(
        *subclassed_pair(built), distillation_losses=methods.JacobianMatching(), seed=SEED,
        region=regions.Segment(),
    )  # fmt: skip
    logs = fit(compiled(distiller, rate=0.0, run_eagerly=False, jit_compile=False), x, y)
    expected = matched(*subclassed_pair(), x, signs_of(BATCH, 1))
    np.testing.assert_allclose(logs["jacobian_matching_loss"][0], expected, rtol=1e-4)


# Which points are drawn.


@pytest.mark.parametrize("at", ["region", "both"])
def test_a_method_at_region_points_draws_them_where_nothing_else_does(at):
    x, y = data()
    distiller = distiller_of(
        ["dkd", "fit_net"],
        [at, "data"],
        hard_weight=0.0,
        kd_weight=0.0,
        region_weight=0.0,
    )
    names = ["dkd", "fit_net"]
    settings = WEIGHTS | {"hard_weight": 0.0, "kd_weight": 0.0, "region_weight": 0.0}
    models = pair()
    twins = [
        {n: twin_of(m, models) for n, m in zip(names, distiller.distillation_losses, strict=True)}
    ]
    points = Points(x, y, None, 0, regions.Segment())
    weights = {name: METHODS[name][1] for name in names}
    places = {"dkd": at, "fit_net": "data"}
    expected = hand_step(models, twins, weights, places, [points], settings)
    logs = fit(compiled(distiller), x, y)
    for name in ("dkd_loss", "fit_net_loss", "loss"):
        np.testing.assert_allclose(logs[name][0], expected[name], rtol=1e-5)
    assert logs["kd_loss"] == logs["region_loss"] == logs["hard_loss"] == [0.0]
    assert_equal_weights(distiller.student, models[1], atol=1e-6)


def test_only_a_method_at_region_points_needs_neither_labels_nor_a_compiled_loss():
    x, _ = data()
    distiller = distiller_of(
        ["logit_standardization"], "region", hard_weight=0.0, kd_weight=0.0, region_weight=0.0
    )
    distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = distiller.train_on_batch(x, return_dict=True)
    teacher, student = pair()
    near = draw_points(regions.Segment(), tf.constant(x), seed_of(0)).at_region(x)
    expected = methods.LogitStandardization().values(teacher(near), student(near)).numpy().mean()
    np.testing.assert_allclose(logs["logit_standardization_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], METHODS["logit_standardization"][1] * expected, rtol=1e-5
    )


def test_methods_at_data_beside_interpolated_targets():
    x, y = data()
    names = ["dkd", "fit_net", "jacobian_matching"]
    logs = []
    for targets in ("teacher", "interpolated"):
        distiller = distiller_of(names, region_targets=targets, replace_fraction=0.4)
        logs.append(fit(compiled(distiller, rate=0.0), x, y))
    for name in names:
        np.testing.assert_allclose(logs[1][f"{name}_loss"], logs[0][f"{name}_loss"], rtol=1e-5)


# Weights of zero, and methods that are used twice.


def test_a_method_of_weight_zero_trains_nothing():
    x, y = data()
    students = [network(20, 4), network(20, 4)]
    fit(compiled(distiller_of([], models=(network(10, 5), students[0]))), x, y)
    distiller = L2RKDDistiller(
        network(10, 5), students[1], region=regions.Segment(), seed=SEED,
        distillation_losses=[methods.FitNet("block3", "block3"), methods.DIST()],
        distillation_loss_weights=[0, 0.0], **WEIGHTS,
    )  # fmt: skip
    kernel = distiller.distillation_losses[0].projector.kernel.numpy()
    fit(compiled(distiller), x, y)
    assert_equal_weights(*students, atol=1e-7)
    np.testing.assert_array_equal(distiller.distillation_losses[0].projector.kernel, kernel)


def test_a_method_of_weight_zero_is_not_computed_and_logs_zero():
    x, y = data()
    distiller = L2RKDDistiller(
        *pair(), distillation_losses=methods.DIST(), distillation_loss_weights=0.0
    )
    assert fit(compiled(distiller), x, y)["dist_loss"] == [0.0]


def test_one_method_in_two_distillers_of_like_models_shares_its_parts():
    x, y = data()
    method = methods.FitNet("block3", "block3")
    distillers = [
        compiled(L2RKDDistiller(*pair(), distillation_losses=method, seed=SEED)) for _ in range(2)
    ]
    kernel = method.projector.kernel.numpy()
    fit(distillers[0], x, y)
    assert np.abs(method.projector.kernel.numpy() - kernel).max() > 1e-3
    models = pair()
    twin, points = twin_of(method, models), Points(x, y, None, 0, regions.Segment())
    expected = tf.reduce_mean(values_of(twin, *models, points, "data"))
    logs = fit(distillers[1], x, y)
    np.testing.assert_allclose(logs["fit_net_loss"][0], expected, rtol=1e-5)


def test_one_method_without_parts_in_two_distillers_of_models_with_other_layers():
    x, y = data()
    method = methods.RelationalKD()
    first = compiled(L2RKDDistiller(*pair(), distillation_losses=method, seed=SEED))
    teacher, student = dense_pair_of_images(5), dense_pair_of_images(4)
    second = compiled(L2RKDDistiller(teacher, student, distillation_losses=method, seed=SEED))
    assert second.distillation_loss_layers == {"relational_kd_loss": (("hidden",), ("hidden",))}
    assert first.distillation_loss_layers == {"relational_kd_loss": (("features",), ("features",))}
    logs = fit(first, x, y)
    features = [layer_by_layer(model, x)["features"] for model in pair()]
    expected = methods.RelationalKD().values(*features).numpy().mean()
    np.testing.assert_allclose(logs["relational_kd_loss"][0], expected, rtol=1e-5)


def dense_pair_of_images(width):
    image = keras.Input((8, 8, 1))
    x = layers.Reshape((64, 1))(image)
    x = layers.Dense(width, name="hidden")(layers.GlobalAveragePooling1D(name="mean")(x))
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x))


def test_parts_that_were_made_for_other_models_are_named():
    method = methods.FitNet("block3", "block3")
    L2RKDDistiller(*pair(), distillation_losses=method)
    other = network(10, 7), network(20, 6)
    with pytest.raises(ValueError, match="FitNet.*block3"):
        fit(compiled(L2RKDDistiller(*other, distillation_losses=method)), *data())


def test_the_summary_of_a_distiller_with_parts():
    lines = []
    distiller_of(METHODS).summary(print_fn=lambda line, **_: lines.append(line))
    assert any("fit_net" in line for line in lines)
