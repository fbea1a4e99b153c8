"""`L2RKDDistiller` against weights derived by hand, its limits, and what it must never touch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions
from tests import reference_losses as reference
from tests.strategies import two_replicas

BATCH, CLASSES = 6, 3
WEIGHTS = {"hard_weight": 0.3, "kd_weight": 0.7, "region_weight": 1.3}
TEMPERATURE, RATE = 3.0, 0.5


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def linear(shape, weights):
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(len(weights[1]))]
    )
    model.set_weights(weights)
    return model


def random_weights(rng, shape, outputs=CLASSES):
    return [rng.normal(size=(int(np.prod(shape)), outputs)), rng.normal(size=outputs)]


def convnet(seed, width=4, synchronized=False, **dense):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(width, 3),
            keras.layers.BatchNormalization(synchronized=synchronized),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES, **dense),
        ]
    )


def images(count=BATCH):
    rng = np.random.default_rng(2)
    return rng.uniform(size=(count, 8, 8, 1)).astype("float32"), rng.integers(0, CLASSES, count)


def batches(x, y, size=4):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def compiled(distiller, rate=RATE, **kwargs):
    distiller.compile(keras.optimizers.SGD(rate), cross_entropy(), **kwargs)
    return distiller


def assert_equal_weights(actual, expected, atol=0.0):
    for one, other in zip(actual.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=atol)


# One step.


class Injected(regions.Region):
    """A region whose draws are given: a list, one for each region point of an example."""

    def __init__(self, region, draws):
        super().__init__()
        self._inner, self._draws, self._count = region, draws, 0

    def draw(self, inputs, seed, labels=None):
        self._count += 1
        return self._draws[(self._count - 1) % len(self._draws)]

    def apply(self, tensor, coefficients):
        return self._inner.apply(tensor, coefficients)


def partner_draw(rng, num_partners, cells=()):
    partners = rng.integers(0, BATCH, size=(BATCH, num_partners)).astype("int32")
    weights = rng.uniform(size=(BATCH, num_partners, *cells)).astype("float32") / num_partners
    return regions.Coefficients(tf.constant(partners), tf.constant(weights))


def mixture_draw(rng):
    choice = rng.integers(0, 2, BATCH).astype("int32")
    return regions.MixtureCoefficients(
        tf.constant(choice), (partner_draw(rng, 2), partner_draw(rng, 2))
    )


def reference_move(points, draw):
    """`reference.move` for the draws of all regions with a linear map."""
    if isinstance(draw, regions.MixtureCoefficients):
        candidates = np.stack([reference.move(points, *part) for part in draw.coefficients])
        return candidates[draw.choice.numpy(), np.arange(len(points))]
    return reference.move(points, draw.partners.numpy(), draw.lam.numpy())


REGIONS = {
    "segment": (regions.Segment, (5,), lambda rng: partner_draw(rng, 1)),
    "simplex": (lambda: regions.Simplex(3), (5,), lambda rng: partner_draw(rng, 3)),
    "patch": (lambda: regions.Patch((2, 1)), (4, 3, 2), lambda rng: partner_draw(rng, 1, (2, 1))),
    "mixture": (
        lambda: regions.Mixture([regions.Simplex(), regions.Simplex()]),
        (5,),
        mixture_draw,
    ),
}


def hand_step(teacher, student, x, y, example_weights, draws, interpolated):
    """Kernel and bias of a linear student after one SGD step, in float64."""
    teacher_kernel, teacher_bias = teacher
    kernel, bias = student

    def ask_teacher(points):
        return points.reshape(BATCH, -1) @ teacher_kernel + teacher_bias

    def ask_student(points):
        return points.reshape(BATCH, -1) @ kernel + bias

    def add_gradient(points, of_logits, weight):
        of_logits = weight * example_weights[:, None] * of_logits / BATCH
        kernel_gradient.append(points.reshape(BATCH, -1).T @ of_logits)
        bias_gradient.append(of_logits.sum(axis=0))

    kernel_gradient, bias_gradient = [], []
    hard = reference.softmax(ask_student(x)) - np.eye(CLASSES)[y]
    add_gradient(x, hard, WEIGHTS["hard_weight"])
    soft = reference.kl_gradient(ask_teacher(x), ask_student(x), TEMPERATURE)
    add_gradient(x, soft, WEIGHTS["kd_weight"])
    for draw in draws:
        near = reference_move(x, draw)
        targets = reference_move(ask_teacher(x), draw) if interpolated else ask_teacher(near)
        local = reference.kl_gradient(targets, ask_student(near), TEMPERATURE)
        add_gradient(near, local, WEIGHTS["region_weight"] / len(draws))
    return kernel - RATE * sum(kernel_gradient), bias - RATE * sum(bias_gradient)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_points", [1, 3])
@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
@pytest.mark.parametrize("kind", REGIONS)
def test_one_sgd_step_equals_weights_derived_by_hand(kind, targets, num_points, weighted):
    rng = np.random.default_rng(1)
    make_region, shape, draw = REGIONS[kind]
    x, y = rng.normal(size=(BATCH, *shape)), rng.integers(0, CLASSES, BATCH)
    x = x.astype("float32")
    example_weights = rng.uniform(0.5, 2.0, BATCH) if weighted else np.ones(BATCH)
    teacher, student = random_weights(rng, shape), random_weights(rng, shape)
    draws = [draw(rng) for _ in range(num_points)]
    distiller = L2RKDDistiller(
        linear(shape, teacher),
        linear(shape, student),
        region=Injected(make_region(), draws),
        region_targets=targets,
        num_region_points=num_points,
        temperature=TEMPERATURE,
        **WEIGHTS,
    )
    compiled(distiller).fit(
        x, y, sample_weight=example_weights if weighted else None, batch_size=BATCH, verbose=0,
        shuffle=False,
    )  # fmt: skip
    expected = hand_step(teacher, student, x, y, example_weights, draws, targets == "interpolated")
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("divergence", "gradient"),
    [("mse", reference.mse_gradient), ("binary_kl", reference.binary_kl_gradient)],
)
@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
def test_one_sgd_step_of_other_divergences(divergence, gradient, targets):
    rng = np.random.default_rng(3)
    shape = (5,)
    x = rng.normal(size=(BATCH, *shape)).astype("float32")
    teacher, student = random_weights(rng, shape), random_weights(rng, shape)
    draw = partner_draw(rng, 1)
    distiller = L2RKDDistiller(
        linear(shape, teacher),
        linear(shape, student),
        region=Injected(regions.Segment(), [draw]),
        region_targets=targets,
        temperature=TEMPERATURE,
        divergence=divergence,
        hard_weight=0.0,
        kd_weight=0.7,
        region_weight=1.3,
    )
    compiled(distiller).fit(x, batch_size=BATCH, verbose=0, shuffle=False)

    ask = lambda points, weights: points @ weights[0] + weights[1]  # noqa: E731
    near = reference_move(x, draw)
    local = ask(near, teacher) if targets == "teacher" else reference_move(ask(x, teacher), draw)
    at_data = 0.7 * gradient(ask(x, teacher), ask(x, student), TEMPERATURE) / BATCH
    at_region = 1.3 * gradient(local, ask(near, student), TEMPERATURE) / BATCH
    kernel = student[0] - RATE * (x.T @ at_data + near.T @ at_region)
    bias = student[1] - RATE * (at_data + at_region).sum(axis=0)
    np.testing.assert_allclose(distiller.student.get_weights()[0], kernel, atol=1e-6)
    np.testing.assert_allclose(distiller.student.get_weights()[1], bias, atol=1e-6)


def test_replace_fraction_averages_each_term_over_its_own_points():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(BATCH, 5)).astype("float32"), rng.integers(0, CLASSES, BATCH)
    teacher, student = random_weights(rng, (5,)), random_weights(rng, (5,))
    draw = partner_draw(rng, 1)
    distiller = L2RKDDistiller(
        linear((5,), teacher),
        linear((5,), student),
        region=Injected(regions.Segment(), [draw]),
        replace_fraction=1 / 3,
        **WEIGHTS,
    )
    logs = compiled(distiller, rate=0.0).train_on_batch(x, y, return_dict=True)

    ask = lambda points, weights: points @ weights[0] + weights[1]  # noqa: E731
    near = reference_move(x, draw)
    at_data = reference.kl(ask(x, teacher), ask(x, student), 4.0)
    at_region = reference.kl(ask(near, teacher), ask(near, student), 4.0)
    hard = -reference.log_softmax(ask(x, student))[np.arange(BATCH), y]
    starts = range(BATCH)  # the two moved examples follow one another from a random start
    moved = [np.arange(start, start + 2) % BATCH for start in starts]
    kept = [np.setdiff1d(np.arange(BATCH), rows) for rows in moved]
    possible = [
        (hard[stay].mean(), at_data[stay].mean(), at_region[go].mean())
        for stay, go in zip(kept, moved, strict=True)
    ]
    found = (logs["hard_loss"], logs["kd_loss"], logs["region_loss"])
    errors = [np.abs(np.subtract(found, wanted)).max() for wanted in possible]
    assert min(errors) < 1e-5


# Limits.


def test_without_region_it_is_plain_distillation_written_by_hand():
    x, y = images(13)
    distiller = L2RKDDistiller(convnet(0, 8), convnet(1), region_weight=0.0, temperature=2.0)
    compiled(distiller).fit(batches(x, y), epochs=2, verbose=0)

    teacher, student = convnet(0, 8), convnet(1)
    optimizer = keras.optimizers.SGD(RATE)
    for _ in range(2):
        for inputs, labels in batches(x, y):
            with tf.GradientTape() as tape:
                logits = student(inputs, training=True)
                soft = tf.nn.softmax(teacher(inputs, training=False) / 2.0)
                kl = keras.losses.kl_divergence(soft, tf.nn.softmax(logits / 2.0))
                loss = 0.1 * cross_entropy()(labels, logits) + 0.9 * 4.0 * tf.reduce_mean(kl)
            variables = student.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    assert_equal_weights(distiller.student, student, atol=1e-6)


def test_hard_labels_alone_equal_student_fit_bit_for_bit():
    x, y = images(13)
    optimizer = {"learning_rate": 0.1, "momentum": 0.9}

    def metrics():
        return ["accuracy", keras.metrics.SparseCategoricalCrossentropy(from_logits=True)]

    student = convnet(1, kernel_regularizer="l2")
    student.compile(keras.optimizers.SGD(**optimizer), cross_entropy(), metrics=metrics())
    expected = student.fit(batches(x, y), epochs=3, verbose=0)

    distiller = L2RKDDistiller(
        convnet(0, 8), convnet(1, kernel_regularizer="l2"),
        hard_weight=1.0, kd_weight=0.0, region_weight=0.0,
    )  # fmt: skip
    distiller.compile(keras.optimizers.SGD(**optimizer), cross_entropy(), metrics=metrics())
    actual = distiller.fit(batches(x, y), epochs=3, verbose=0)

    assert_equal_weights(distiller.student, student)  # BatchNorm statistics are among them
    for one, other in zip(distiller.optimizer.variables, student.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, values in expected.history.items():
        assert actual.history[name] == values


def test_degenerate_region_equals_distillation_with_both_weights():
    x, y = images(8)
    teacher, student = convnet(0, 8), convnet(1)
    student.layers[1].trainable = False  # joint batches have the same statistics, up to 1e-6
    near = L2RKDDistiller(
        teacher, student, region=regions.Segment(radius=1e-6), hard_weight=0.0, kd_weight=0.4,
        region_weight=0.5,
    )  # fmt: skip
    other_student = convnet(1)
    other_student.layers[1].trainable = False
    plain = L2RKDDistiller(
        teacher, other_student, hard_weight=0.0, kd_weight=0.9, region_weight=0.0
    )
    for distiller in (near, plain):
        compiled(distiller).fit(batches(x, y), epochs=3, verbose=0)
    assert_equal_weights(near.student, plain.student, atol=1e-5)


@pytest.mark.parametrize("targets", ["teacher", "interpolated"])
def test_student_equal_to_a_linear_teacher_has_no_loss_and_no_gradient(targets):
    rng = np.random.default_rng(5)
    x, weights = rng.normal(size=(BATCH, 5)).astype("float32"), random_weights(rng, (5,))
    teacher, student = linear((5,), weights), linear((5,), weights)
    distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, region_targets=targets)
    history = compiled(distiller).fit(x, epochs=2, verbose=0).history
    np.testing.assert_allclose(history["kd_loss"], 0.0, atol=1e-6)
    np.testing.assert_allclose(history["region_loss"], 0.0, atol=1e-5)
    assert_equal_weights(student, teacher, atol=1e-5)


# What is never touched.


def test_teacher_is_bit_identical_after_fit():
    x, y = images(12)
    teacher = convnet(0, 8)
    teacher.layers[0].trainable = False
    teacher.compile("adam", cross_entropy(), metrics=["accuracy"])
    teacher.evaluate(x, y, verbose=0)
    weights = [w.copy() for w in teacher.get_weights()]
    flags = [layer.trainable for layer in teacher.layers]
    metric = [float(m.result()) for m in teacher.metrics if m.name == "loss"]

    distiller = compiled(L2RKDDistiller(teacher, convnet(1)), metrics=["accuracy"])
    distiller.fit(batches(x, y), validation_data=(x, y), epochs=2, verbose=0)

    for before, after in zip(weights, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert teacher.trainable
    assert [float(m.result()) for m in teacher.metrics if m.name == "loss"] == metric


class Counting(keras.Model):
    """Wraps a model and counts its calls."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, []
        self.built = True

    def call(self, inputs, training=None):
        self.calls.append((len(inputs), training))
        return self.model(inputs, training=training)


def test_evaluate_never_asks_the_teacher_and_moves_no_state():
    x, y = images(9)
    teacher = Counting(convnet(0, 8))
    distiller = compiled(L2RKDDistiller(teacher, convnet(1)), metrics=["accuracy"])
    before = [w.copy() for w in distiller.student.get_weights()]
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert teacher.calls == []
    for one, other in zip(before, distiller.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    student = convnet(1)
    student.compile("sgd", cross_entropy(), metrics=["accuracy"])
    expected = student.evaluate(x, y, verbose=0, return_dict=True)
    assert logs == {**expected, "hard_loss": expected["loss"]}


@pytest.mark.parametrize(
    ("arguments", "teacher_rows", "student_rows"),
    [
        ({}, [8], [8]),
        ({"num_region_points": 3}, [16], [16]),
        ({"replace_fraction": 0.5}, [4], [4]),
        ({"region_targets": "interpolated"}, [4], [8]),
        ({"region_weight": 0.0}, [4], [4]),
        ({"kd_weight": 0.0}, [4], [8]),
        ({"kd_weight": 0.0, "region_weight": 0.0}, [], [4]),
    ],
)
def test_passes_of_one_step(arguments, teacher_rows, student_rows):
    x, y = images(4)
    teacher, student = Counting(convnet(0, 8)), Counting(convnet(1))
    distiller = compiled(L2RKDDistiller(teacher, student, **arguments), run_eagerly=True)
    distiller.train_on_batch(x, y)
    assert teacher.calls == [(rows, False) for rows in teacher_rows]
    assert student.calls == [(rows, True) for rows in student_rows]


def test_batchnorm_statistics_move_exactly_once_a_step_over_the_joint_batch():
    x, y = images(8)
    student = convnet(1)
    normalization = student.layers[1]
    convolved = student.layers[0](x).numpy()
    distiller = compiled(
        L2RKDDistiller(convnet(0, 8), student, region=regions.Segment(radius=1e-6)), rate=0.0
    )
    distiller.train_on_batch(x, y)
    momentum = normalization.momentum
    mean = (1 - momentum) * convolved.mean(axis=(0, 1, 2))
    variance = momentum + (1 - momentum) * convolved.var(axis=(0, 1, 2))
    np.testing.assert_allclose(normalization.moving_mean, mean, atol=1e-6)
    np.testing.assert_allclose(normalization.moving_variance, variance, atol=1e-6)


# Randomness.


def test_a_run_repeats_with_its_seed_and_differs_with_another():
    x, y = images(8)
    students = []
    for seed in (7, 7, 8):
        distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), seed=seed))
        distiller.fit(batches(x, y), epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(students[0], students[1])
    difference = students[0].get_weights()[0] - students[2].get_weights()[0]
    assert np.abs(difference).max() > 1e-4


def test_seed_none_follows_set_random_seed():
    seeds = []
    for seed in (1, 1, 2):
        teacher, student = convnet(0), convnet(1)
        keras.utils.set_random_seed(seed)
        seeds.append(L2RKDDistiller(teacher, student).seed)
    assert seeds[0] == seeds[1] != seeds[2]


def test_region_points_differ_between_steps():
    x, y = images(8)
    distiller = compiled(L2RKDDistiller(convnet(0, 8), convnet(1), seed=0), rate=0.0)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(3)]
    # `train_on_batch` starts its metrics anew: three draws, the same weights.
    assert len({round(float(loss), 7) for loss in losses}) == 3


@pytest.mark.parametrize("arguments", [{}, {"replace_fraction": 0.4}, {"num_region_points": 2}])
@pytest.mark.parametrize("how", [{"jit_compile": True}, {"run_eagerly": True}])
def test_graph_xla_and_eager_train_alike(how, arguments):
    x, y = images(11)
    students = []
    for options in ({"jit_compile": False}, how):
        distiller = L2RKDDistiller(convnet(0, 8), convnet(1), seed=0, **arguments)
        compiled(distiller, **options).fit(batches(x, y), epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(*students, atol=1e-5)


def test_steps_per_execution_changes_nothing():
    x, y = images(11)
    students = []
    for steps in (1, 3, 5):
        distiller = L2RKDDistiller(convnet(0, 8), convnet(1), seed=0)
        compiled(distiller, steps_per_execution=steps).fit(batches(x, y), epochs=2, verbose=0)
        students.append(distiller.student)
    assert_equal_weights(students[1], students[0], atol=1e-6)
    assert_equal_weights(students[2], students[0], atol=1e-6)


def penalized(rng, activity):
    """A linear student with penalties of its own."""
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(
        CLASSES, name="logits", kernel_regularizer="l2", activity_regularizer=activity
    )(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.set_weights(random_weights(rng, (8, 8, 1)))
    return model


METHODS = {
    "none": lambda: (),
    "of objects": lambda: keras.distillation.LogitsDistillation(
        loss=keras.losses.KLDivergence(name="kl")
    ),
    "of functions": lambda: keras.distillation.FeatureDistillation("mse", None, "logits"),
}


# The sum over a replica's share of the batch has no part in a mean over the batch.
SUMS_ACTIVITIES = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 14)
ACTIVITY = pytest.param(
    "l2",
    marks=pytest.mark.skipif(SUMS_ACTIVITIES, reason="Keras before 3.14 sums activity penalties"),
)


@pytest.mark.parametrize("activity", [None, ACTIVITY])
@pytest.mark.parametrize("methods", METHODS)
def test_two_replicas_equal_one_device(methods, activity):
    x, y = images(15)  # batches of 8 and 7: the last is shared unequally

    def build():
        teacher = linear((8, 8, 1), random_weights(np.random.default_rng(7), (8, 8, 1)))
        return compiled(
            L2RKDDistiller(
                teacher,
                penalized(np.random.default_rng(6), activity),
                region=regions.Ball(1e-6),  # draws differ between replicas
                distillation_losses=METHODS[methods](),
                seed=0,
            ),
            rate=0.02,
        )

    one = build()
    expected = one.fit(batches(x, y, 8), epochs=2, verbose=0).history
    with two_replicas().scope():
        two = build()
    actual = two.fit(batches(x, y, 8), epochs=2, verbose=0).history
    assert_equal_weights(two.student, one.student, atol=1e-5)
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name], values, rtol=1e-4)
