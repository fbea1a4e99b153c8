"""The objective with methods by hand: models, data, and a step that NumPy-like code derives."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, losses, methods, regions
from l2rkd_tf.methods.jacobian import draw_directions
from l2rkd_tf.regions.points import draw_points
from tests.helpers import assert_equal_weights, cross_entropy, two_replicas

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


def on_two(make):
    with two_replicas().scope():
        return make()


# How a step runs.


def all_methods(**options):
    at = [("region", "data", "both")[index % 3] for index in range(len(METHODS))]
    return compiled(distiller_of(METHODS, at), **options)


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


def table(count=BATCH):
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, 4)).astype("float32"), rng.integers(0, CLASSES, count)


def subclassed_pair(built=True):
    models = Subclassed(6, 1), Subclassed(4, 2)
    for model in models if built else models[:1]:
        model(table()[0])
    return models
