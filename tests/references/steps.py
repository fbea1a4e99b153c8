"""What one step of SGD makes of a linear student, in NumPy float64."""

import dataclasses

import numpy as np
import tensorflow as tf

from l2rkd_tf import regions
from l2rkd_tf.regions.draws import random_bits, split
from l2rkd_tf.utils.distribution import step_seed
from tests.distiller.fuzz_configurations import RATE
from tests.references import losses as reference

TERMS = ("hard_loss", "kd_loss", "region_loss")


def moved(points, drawn):
    """Points moved by what a region has drawn, in float64."""
    if isinstance(drawn, regions.MixtureCoefficients):
        candidates = [moved(points, part) for part in drawn.coefficients]
        return np.stack(candidates)[drawn.choice.numpy(), np.arange(len(points))]
    if type(drawn) is tuple:  # of regions one after the other
        for part in drawn:
            points = moved(points, part)
        return points
    if isinstance(drawn, regions.Coefficients):
        return reference.move(points, drawn.partners.numpy(), drawn.lam.numpy())
    if hasattr(drawn, "swapped"):
        (swapped,) = drawn.swapped
        swapped = swapped.numpy().reshape(swapped.shape + (1,) * (points.ndim - swapped.ndim))
        return np.where(swapped, points[drawn.partners.numpy()[:, 0]], points)
    return points + drawn.numpy()  # the noise of a ball


def precision(dtype):
    """Relative error of rounding to the dtype, of integers that of float32."""
    return {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-24)


def region_points(configuration, region, x, drawn):
    """Points in the regions of a batch as the models meet them, found equal to the reference."""
    c = configuration
    points = np.asarray(region.apply(tf.convert_to_tensor(x), drawn)).astype("float64")
    expected = moved(x.astype("float64"), drawn)
    largest = max(np.abs(x).max(), np.abs(expected).max())
    # The draw and the move are in float32 or better, and rounded once.
    error = 8 * precision("float32") + precision(c.dtype)
    np.testing.assert_allclose(points, expected, rtol=0.0, atol=largest * error)
    if c.dtype == "uint8" and c.typed:
        return np.clip(np.round(points), 0, 255)
    return points


@dataclasses.dataclass
class Term:
    """One term of the objective: its weight, its points, and whose points they are."""

    weight: float
    points: np.ndarray
    owners: np.ndarray
    values: np.ndarray
    gradients: np.ndarray


def hard_values(configuration, y, logits):
    """The compiled loss of each example, and its gradient with respect to the logits."""
    c = configuration
    if c.divergence == "mse":
        return reference.mse(y, logits), reference.mse_gradient(y, logits)
    if c.divergence == "binary_kl":
        values = -(y * reference.log_sigmoid(logits) + (1 - y) * reference.log_sigmoid(-logits))
        gradients = np.exp(reference.log_sigmoid(logits)) - y
        return values.mean(axis=-1), gradients / c.outputs
    if c.labels[0] != "one-hot":
        y = np.eye(c.outputs)[y.reshape(-1).astype(int)]
    return -(y * reference.log_softmax(logits)).sum(axis=-1), reference.softmax(logits) - y


def divergence_values(configuration, targets, logits):
    c = configuration
    value = getattr(reference, c.divergence)
    gradient = getattr(reference, f"{c.divergence}_gradient")
    return value(targets, logits, c.temperature), gradient(targets, logits, c.temperature)


class Expected:
    """What one step of SGD makes of a linear student, in float64."""

    def __init__(self, configuration, region, x, y, sample_weight, teacher, student):
        self.configuration, self.teacher, self.student = configuration, teacher, student
        self.example_weights = (
            np.ones(len(x)) if sample_weight is None else sample_weight.reshape(-1).astype(float)
        )
        self.terms = self._terms(region, x, y)
        self.logs = {"loss": 0.0, **dict.fromkeys(TERMS, 0.0)}
        self.weights = [weight.astype("float64") for weight in student]
        for name, term in self.terms.items():
            self._add(name, term)

    def _ask(self, weights, points):
        return self._features(points) @ weights[0].astype("float64") + weights[1]

    def _features(self, points):
        scale = 1 / 255 if self.configuration.dtype == "uint8" else 1.0
        return points.reshape(len(points), int(np.prod(points.shape[1:]))) * scale

    def _terms(self, region, x, y):
        c = self.configuration
        points, stay = x.astype("float64"), np.arange(len(x))
        terms = {}
        if c.region_weight > 0:
            stay, terms["region_loss"] = self._region_term(region, x, y)
        logits = self._ask(self.student, points[stay])
        if c.hard_weight > 0:
            values = hard_values(c, y[stay], logits)
            terms["hard_loss"] = Term(c.hard_weight, points[stay], stay, *values)
        if c.kd_weight > 0:
            values = divergence_values(c, self._ask(self.teacher, points[stay]), logits)
            terms["kd_loss"] = Term(c.kd_weight, points[stay], stay, *values)
        return terms

    def _region_term(self, region, x, y):
        """Rows that stay training points, and the term of the region points."""
        c = self.configuration
        rows_seed, *seeds = split(step_seed(c.seed, 0), 1 + int(c.num_region_points))
        draws = [region.draw(tf.convert_to_tensor(x), seed, y) for seed in seeds]
        near = np.concatenate([region_points(c, region, x, drawn) for drawn in draws])
        at_data = self._ask(self.teacher, x.astype("float64"))
        targets = self._ask(self.teacher, near)
        if c.region_targets == "interpolated":
            targets = np.concatenate([moved(at_data, drawn) for drawn in draws])
        stay, go = np.arange(len(x)), np.tile(np.arange(len(x)), len(draws))
        if c.replace_fraction is not None:
            stay, go = self._shares(len(x), int(random_bits([], rows_seed)))
            near, targets = near[go], targets[go]
        values = divergence_values(c, targets, self._ask(self.student, near))
        return stay, Term(c.region_weight, near, go, *values)

    def _shares(self, batch, start):
        """Rows that stay training points, and rows that move, which follow one another."""
        rounded = int(np.floor(batch * float(self.configuration.replace_fraction) + 0.5))
        num_moved = min(max(rounded, 1), batch - 1)
        rows = (start + np.arange(batch)) % batch
        return rows[num_moved:], rows[:num_moved]

    def _add(self, name, term):
        example_weights = self.example_weights[term.owners] / max(len(term.points), 1)
        self.logs[name] = (example_weights * term.values).sum()
        self.logs["loss"] += term.weight * self.logs[name]
        of_logits = RATE * term.weight * example_weights[:, None] * term.gradients
        self.weights[0] -= self._features(term.points).T @ of_logits
        self.weights[1] -= of_logits.sum(axis=0)

    def tolerances(self):
        """Of the logged values and of the weights, by the sizes of what is rounded."""
        c = self.configuration
        features = [np.abs(self._features(term.points)) for term in self.terms.values()]
        largest = max((feature.max(initial=0.0) for feature in features), default=0.0)
        models = [[np.abs(weight) for weight in model] for model in (self.teacher, self.student)]
        logits = [f @ kernel + bias for f in features for kernel, bias in models]
        size = 1.0 + max(logit.max(initial=0.0) for logit in logits)
        size += 0.0 if c.divergence == "mse" else c.temperature
        unit = 16 * self._unit() * max(1.0, self.example_weights.max())
        weight = 1.0 + sum(term.weight for term in self.terms.values())
        step = RATE * weight * size + 1.0
        return unit * weight * size**2, unit * step * (1.0 + largest)

    def _unit(self):
        """Relative error of one number."""
        c = self.configuration
        unit = precision("float32")
        if c.how != "eager":  # region points may be rounded otherwise than one by one
            unit = 1 / 255 if c.dtype == "uint8" and c.typed else precision(c.dtype)
        if c.divergence == "binary_kl" and not c.from_logits:  # 1 - p for a p of almost 1
            logits = [np.abs(self._ask(self.student, term.points)) for term in self.terms.values()]
            logits += [np.abs(self._ask(self.teacher, term.points)) for term in self.terms.values()]
            unit *= np.exp(max(logit.max(initial=0.0) for logit in logits))
        return unit
