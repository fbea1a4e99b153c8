"""One SGD step of `L2RKDDistiller` against weights derived by hand."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions
from tests.helpers import (
    BATCH,
    CLASSES,
    RATE,
    TEMPERATURE,
    WEIGHTS,
    GivenDraws,
    compiled,
    linear,
    partner_draw,
    random_weights,
)
from tests.references import losses as reference


def mixture_draw(rng):
    choice = rng.integers(0, 2, BATCH).astype("int32")
    return regions.MixtureCoefficients(
        tf.constant(choice), (partner_draw(rng, 2), partner_draw(rng, 2))
    )


def reference_move(points, draw):
    """`reference.move` for the draws of all regions with a linear map."""
    if isinstance(draw, regions.MixtureCoefficients):
        candidates = np.stack([reference.move(points, *part[:2]) for part in draw.coefficients])
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


@pytest.mark.covering
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
        region=GivenDraws(make_region(), draws),
        region_targets=targets,
        num_region_points=num_points,
        temperature=TEMPERATURE,
        **WEIGHTS,
    )
    # Half of them in eager mode, which takes less time for a single step.
    compiled(distiller, run_eagerly=num_points == 3).fit(
        x, y, sample_weight=example_weights if weighted else None, batch_size=BATCH, verbose=0,
        shuffle=False,
    )  # fmt: skip
    expected = hand_step(teacher, student, x, y, example_weights, draws, targets == "interpolated")
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-6)


@pytest.mark.covering
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
        region=GivenDraws(regions.Segment(), [draw]),
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
        region=GivenDraws(regions.Segment(), [draw]),
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
