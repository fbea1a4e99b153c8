"""Random configurations train one step to what NumPy derives, or are refused before it."""

import collections
import dataclasses
import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from l2rkd_tf import L2RKDDistiller, regions
from l2rkd_tf.regions.draws import random_bits, split
from l2rkd_tf.utils.distribution import step_seed
from tests import reference_losses as reference

# How steps run, and how many configurations do so: 2000 with L2RKD_STRESS, else 60. Compiled ones
# are few, since each takes a second, and TensorFlow keeps megabytes of it.
COUNTS = {"eager": (52, 1900), "graph": (5, 70), "XLA": (3, 30)}
STRESS = "L2RKD_STRESS" in os.environ
RATE = 0.1
TERMS = ("hard_loss", "kd_loss", "region_loss")


# Configurations.


@dataclasses.dataclass(frozen=True, eq=False)
class Configuration:
    """One configuration: arguments of the distiller, its models, its data, and how it trains.

    Attributes:
        wrong: `(argument, value)` of the distiller, or of its outermost region
            (`"region.radius"`), that must be refused; or `None`.
        region: `(name of the class, arguments)`, or `None`.
        typed: Whether the inputs of the models are declared with the dtype of the data.
        scale: Size of the inputs, and of the radius of balls; no matter for integers.
        labels: Form and dtype, or `None`.
        how: `"eager"`, `"graph"` or `"XLA"`.
        by: The method that trains.
        data_seed: Of the data and of the models' weights.
    """

    region: tuple | None
    region_targets: str
    temperature: float
    hard_weight: float
    kd_weight: float
    region_weight: float
    num_region_points: int
    replace_fraction: float | None
    divergence: str
    from_logits: bool
    check_finite: bool
    seed: int
    wrong: tuple | None
    shape: tuple
    dtype: str
    typed: bool
    scale: float
    batch: int
    outputs: int
    labels: tuple | None
    has_loss: bool
    sample_weight: str | None
    how: str
    by: str
    data_seed: int


NAN, INFINITY = float("nan"), float("inf")
NOT_POSITIVE = [
    *("1", True, [1.0], np.array([1.0, 2.0]), 1j, np.complex64(1)),
    *(0, -1, -1e300, -(10**400), NAN, INFINITY, -INFINITY, np.float32("nan"), np.float16("inf")),
]
NOT_POSITIVE_FLOAT = [None, *NOT_POSITIVE, 1e-60, 1e300, 10**400]
NOT_A_WEIGHT = [value for value in NOT_POSITIVE_FLOAT if not isinstance(value, int) or value]
NOT_AN_INTEGER = [None, 1.5, np.float32(2), *NOT_POSITIVE]
NOT_A_CHOICE = ["random noise", None, 3, True, ["kl"], np.array(["kl", "mse"]), NAN]
WRONG = {
    "teacher": [None, "resnet50", 3],
    "student": [None, "resnet50", keras.layers.Dense],
    "region": ["patch", 3, regions.Segment, np.array([1.0, 2.0])],
    "region_targets": NOT_A_CHOICE,
    "temperature": NOT_POSITIVE_FLOAT,
    "hard_weight": NOT_A_WEIGHT,
    "kd_weight": NOT_A_WEIGHT,
    "region_weight": NOT_A_WEIGHT,
    "num_region_points": NOT_AN_INTEGER,
    "replace_fraction": [*NOT_POSITIVE, 1, 1.5],
    "divergence": NOT_A_CHOICE,
    "from_logits": [None, 0, 1, "no", np.array([1.0, 2.0])],
    "distillation_losses": [None, "features", 3, [None], NAN],
    "distillation_loss_weights": [1.0, [1.0], -1, "1"],
    "distillation_losses_at": ["nowhere", None, 3, ["data"], np.array(["data", "both"])],
    "features": ["layer", 3, ["layer"]],
    "check_finite": [None, 0, 1, "no", np.array([1.0, 2.0])],
    "seed": [-1, 1.5, 2**31, 10**400, True, "0", NAN, np.array([1, 2])],
    "name": [3, "a/b", True],
}
WRONG_OF_REGION = {
    "radius": NOT_POSITIVE_FLOAT,
    "partner": NOT_A_CHOICE,
    "alpha": [value for value in NOT_POSITIVE_FLOAT if value is not None],
    "num_partners": NOT_AN_INTEGER,
    "grid": [*NOT_AN_INTEGER, (2,), (2, 2, 2), (2, 1.5), (0, 2)],
    "norm": NOT_A_CHOICE,
    "regions": [(), None, 3, "ab", [regions.Segment], [None]],
    "weights": [3, "ab", [], [1.0] * 9, [-1.0], [NAN], [10**400], [[1.0]], [0.0]],
}

RADII = st.floats(1e-6, 1.0) | st.just(1.0)
OF_SEGMENT = {
    "radius": RADII,
    "partner": st.sampled_from(["random", "nearest", "same_class"]),
    "alpha": st.sampled_from([None, None, None, 1e-3, 0.2, 1.0, 1e4]),
}
GRIDS = st.sampled_from([1, 2, (2, 1), (1, 2), (4, 3), (2, 5), 9])
SIMPLE_REGIONS = st.one_of(
    st.tuples(st.just("Segment"), st.fixed_dictionaries(OF_SEGMENT)),
    st.tuples(st.just("Patch"), st.fixed_dictionaries(OF_SEGMENT | {"grid": GRIDS})),
    st.tuples(
        st.just("Simplex"),
        st.fixed_dictionaries({"num_partners": st.integers(1, 12), "radius": RADII}),
    ),
    st.tuples(
        st.just("Ball"),
        st.fixed_dictionaries(
            {"radius": RADII | st.just(3.0), "norm": st.sampled_from(["l2", "linf", "gaussian"])}
        ),
    ),
)


@st.composite
def mixtures(draw):
    members = draw(st.lists(SIMPLE_REGIONS, min_size=1, max_size=3))
    weights = draw(st.lists(st.sampled_from([0, 0.5, 3.0]), min_size=3, max_size=3))
    weights = weights[: len(members)] if any(weights[: len(members)]) else None
    return "Mixture", {"regions": members, "weights": weights}


WEIGHTS = st.sampled_from([0.9, 0, 1e-3, 0.3, 1, np.float16(2.5), 10.0, 0.0])
SHAPES = st.sampled_from(
    [(4,), (1,), (3, 2), (1, 1), (4, 3, 1), (1, 1, 1), (5, 2, 2), (9, 10, 1), (2, 2, 2, 1)]
)
DTYPES = st.sampled_from(["float32", "float16", "bfloat16", "float64", "uint8", "uint8", "int32"])
# What labels are, for the compiled loss that goes with a divergence.
LABELS = {"kl": ["numbers", "column", "one-hot"], "binary_kl": ["yes/no"], "mse": ["quantities"]}
LABEL_DTYPES = st.sampled_from(["int32", "int64", "uint8", "float32"])
SAMPLE_WEIGHTS = st.sampled_from([None, None, "random", "column", "zeros"])


@st.composite
def unchecked_configurations(draw, how):
    """Configurations that fit together, or not."""
    divergence = draw(st.sampled_from(["kl", "binary_kl", "mse"]))
    labels = st.tuples(st.sampled_from(LABELS[divergence]), LABEL_DTYPES)
    return Configuration(
        region=draw(st.none() | SIMPLE_REGIONS | SIMPLE_REGIONS | mixtures()),
        region_targets=draw(st.sampled_from(["teacher", "teacher", "interpolated"])),
        temperature=10 ** draw(st.floats(-3.0, 3.0)),
        hard_weight=draw(WEIGHTS),
        kd_weight=draw(WEIGHTS),
        region_weight=draw(WEIGHTS),
        num_region_points=draw(st.sampled_from([1, np.int64(2), 3])),
        replace_fraction=draw(st.sampled_from([None, None, 1e-9, 0.2, np.float32(0.5), 0.999])),
        divergence=divergence,
        from_logits=divergence == "mse" or draw(st.booleans()),
        check_finite=draw(st.sampled_from([True, True, True, False])),
        seed=draw(st.integers(0, 2**31 - 1)),
        wrong=None,
        shape=draw(SHAPES),
        dtype=draw(DTYPES),
        typed=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 1.0, 1e-3, 1e3])),
        batch=draw(st.integers(1, 9)),
        outputs=draw(st.integers(1, 5)),
        labels=draw(st.none() | labels | labels),
        has_loss=draw(st.sampled_from([True, True, False])),
        sample_weight=draw(SAMPLE_WEIGHTS),
        how=how,
        by=draw(st.sampled_from(["train_on_batch", "fit"])),
        data_seed=draw(st.integers(0, 2**16)),
    )


@st.composite
def configurations(draw, how):
    """Configurations of which most train, and with a wrong argument now and then."""
    configuration = draw(unchecked_configurations(how))
    if draw(st.sampled_from([True, True, True, False])):
        configuration = mended(configuration)
    if draw(st.sampled_from([False, False, False, True])):
        wrong = draw(wrong_arguments(configuration.region))
        configuration = dataclasses.replace(configuration, wrong=wrong)
    return configuration


@st.composite
def wrong_arguments(draw, region):
    """An argument of the distiller or the region, and a value that must be refused."""
    of_region = [] if region is None else [*region[1]]
    names = [*WRONG, *(f"region.{name}" for name in of_region)]
    name = draw(st.sampled_from(names))
    owner, _, argument = name.rpartition(".")
    return name, draw(st.sampled_from((WRONG_OF_REGION if owner else WRONG)[argument]))


def members(region):
    """The regions of a mixture, or the region alone."""
    if region is None:
        return []
    name, arguments = region
    return arguments["regions"] if name == "Mixture" else [region]


def reasons_to_refuse(configuration):
    """What an error must name, one of it; empty for a configuration that must train."""
    c = configuration
    reasons = set()
    if c.wrong is not None:
        reasons.add(c.wrong[0].removeprefix("region."))
    if c.divergence == "kl" and c.outputs == 1:
        reasons.add("teacher")
    if c.replace_fraction is not None and c.num_region_points > 1:
        reasons.add("num_region_points")
    names = {name for name, _ in members(c.region)}
    if c.region_targets == "interpolated" and "Ball" in names:
        reasons.add("region_targets='interpolated'")
    if c.hard_weight == c.kd_weight == c.region_weight == 0:
        reasons.add("hard_weight")
    if c.hard_weight > 0 and c.labels is None:
        reasons.add("y")
    if c.hard_weight > 0 and not c.has_loss:
        reasons.add("loss")
    return reasons | (reasons_of_region(c) if c.region_weight > 0 else set())


def reasons_of_region(configuration):
    """What the region of a configuration cannot do with the data."""
    c = configuration
    reasons = {"inputs"} if c.dtype == "int32" else set()
    for name, arguments in members(c.region):
        if name == "Patch" and len(c.shape) != 3:
            reasons.add("region=Patch(...)")
        elif name == "Patch" and np.any(np.greater(arguments["grid"], c.shape[:2])):
            reasons.add("grid")
        if arguments.get("partner") == "same_class" and c.labels is None:
            reasons.add("partner='same_class'")
    return reasons


def mended(configuration):
    """The configuration with what would be refused put right."""
    c = configuration
    reasons = reasons_to_refuse(c)
    changes = {}
    if "num_region_points" in reasons:
        changes["num_region_points"] = 1
    if "region_targets='interpolated'" in reasons:
        changes["region_targets"] = "teacher"
    if "hard_weight" in reasons:
        changes["kd_weight"] = 0.9
    if "teacher" in reasons:
        changes["outputs"] = 2
    if reasons & {"y", "partner='same_class'"}:
        changes["labels"] = (LABELS[c.divergence][0], "int32")
    if "loss" in reasons:
        changes["has_loss"] = True
    if "inputs" in reasons:
        changes["dtype"] = "float32"
    if reasons & {"region=Patch(...)", "grid"}:
        changes["shape"] = (9, 10, 1)
    return dataclasses.replace(c, **changes)


# Data and models.

ARGUMENTS = (
    *("region_targets", "temperature", "hard_weight", "kd_weight", "region_weight", "seed"),
    *("num_region_points", "replace_fraction", "divergence", "from_logits", "check_finite"),
)


def make_inputs(configuration, rng):
    c = configuration
    shape = (c.batch, *c.shape)
    if c.dtype == "uint8":
        return rng.choice([0, 1, 77, 128, 255], shape).astype("uint8")
    if c.dtype == "int32":
        return rng.integers(-2, 3, shape).astype("int32")
    return (c.scale * rng.uniform(-1.0, 1.0, shape)).astype(tf.as_dtype(c.dtype).as_numpy_dtype)


def make_labels(configuration, rng):
    c = configuration
    if c.labels is None:
        return None
    form, dtype = c.labels
    if form == "quantities":
        return rng.normal(size=(c.batch, c.outputs)).astype("float32")
    if form == "yes/no":
        return rng.integers(0, 2, (c.batch, c.outputs)).astype(dtype)
    numbers = rng.integers(0, c.outputs, c.batch)
    if form == "one-hot":
        return np.eye(c.outputs)[numbers].astype(dtype)
    return (numbers if form == "numbers" else numbers[:, None]).astype(dtype)


def make_sample_weight(configuration, rng):
    c = configuration
    if c.sample_weight is None:
        return None
    if c.sample_weight == "zeros":
        return np.zeros(c.batch, "float32")
    shape = (c.batch, 1) if c.sample_weight == "column" else c.batch
    return rng.uniform(0.0, 2.0, shape).astype("float32")


def input_scale(configuration):
    return configuration.scale if "float" in configuration.dtype else 1.0


def make_weights(configuration, rng):
    """Kernel and bias of a linear model with logits of a few units."""
    c = configuration
    size = int(np.prod(c.shape))
    kernel = rng.uniform(-3.0, 3.0, (size, c.outputs)) / np.sqrt(size) / input_scale(c)
    return [kernel.astype("float32"), rng.uniform(-1.0, 1.0, c.outputs).astype("float32")]


def linear(configuration, weights):
    c = configuration
    activation = {"kl": "softmax", "binary_kl": "sigmoid", "mse": None}[c.divergence]
    model = keras.Sequential([keras.Input(c.shape, dtype=c.dtype if c.typed else None)])
    if c.dtype == "uint8":
        model.add(keras.layers.Rescaling(1 / 255))
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(c.outputs, None if c.from_logits else activation))
    model.set_weights(weights)
    return model


def make_loss(configuration):
    c = configuration
    if not c.has_loss:
        return None
    if c.divergence == "mse":
        return keras.losses.MeanSquaredError()
    if c.divergence == "binary_kl":
        return keras.losses.BinaryCrossentropy(from_logits=c.from_logits)
    if c.labels is not None and c.labels[0] == "one-hot":
        return keras.losses.CategoricalCrossentropy(from_logits=c.from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=c.from_logits)


def make_region(region, scale, wrong=()):
    if region is None:
        return None
    name, arguments = region
    if name == "Mixture":
        members = [make_region(one, scale) for one in arguments["regions"]]
        arguments = arguments | {"regions": members}
    if name == "Ball":
        arguments = arguments | {"radius": scale * arguments["radius"]}
    return getattr(regions, name)(**arguments | dict(wrong))


def make_distiller(configuration, teacher, student):
    c = configuration
    name, value = c.wrong or ("", None)
    owner, _, argument = name.rpartition(".")
    of_region = {argument: value} if owner else {}
    of_distiller = {argument: value} if argument and not owner else {}
    arguments = {
        "teacher": teacher,
        "student": student,
        "region": make_region(c.region, input_scale(c), of_region),
        **{name: getattr(c, name) for name in ARGUMENTS},
    }
    return L2RKDDistiller(**arguments | of_distiller)


def train(configuration, distiller, optimizer, data):
    """Trains one step and returns what is logged."""
    how = configuration.how
    options = {"run_eagerly": True} if how == "eager" else {"jit_compile": how == "XLA"}
    distiller.compile(optimizer, make_loss(configuration), **options)
    x, y, sample_weight = data
    only_weighted = y is None and sample_weight is not None  # which a data set cannot hold
    if configuration.by == "train_on_batch" or only_weighted:
        return distiller.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)
    given_parts = data[:1] if y is None else data[:2] if sample_weight is None else data
    data = tf.data.Dataset.from_tensors(given_parts)
    history = distiller.fit(data, shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}


# The reference.


def moved(points, drawn):
    """Points moved by what a region has drawn, in float64."""
    if isinstance(drawn, regions.MixtureCoefficients):
        candidates = [moved(points, part) for part in drawn.coefficients]
        return np.stack(candidates)[drawn.choice.numpy(), np.arange(len(points))]
    if isinstance(drawn, regions.Coefficients):
        return reference.move(points, drawn.partners.numpy(), drawn.lam.numpy())
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


# The test.


def assert_refused_before_training(configuration, error, optimizer, student, weights):
    message = str(error)
    reasons = reasons_to_refuse(configuration)
    assert any(f"`{reason}`" in message for reason in reasons), (message, reasons)
    assert "Received: " in message
    assert int(optimizer.iterations) == 0
    for actual, given_ in zip(student.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(actual, given_)


def outcome_of(configuration):
    """Runs a configuration and checks what comes of it: `"trained"` or `"refused"`."""
    rng = np.random.default_rng(configuration.data_seed)
    x, y = make_inputs(configuration, rng), make_labels(configuration, rng)
    sample_weight = make_sample_weight(configuration, rng)
    weights = [make_weights(configuration, rng) for _ in range(2)]
    teacher, student = (linear(configuration, weight) for weight in weights)
    optimizer = keras.optimizers.SGD(RATE)
    try:
        distiller = make_distiller(configuration, teacher, student)
        logs = train(configuration, distiller, optimizer, (x, y, sample_weight))
    except ValueError as error:
        assert_refused_before_training(configuration, error, optimizer, student, weights[1])
        return "refused"
    assert not reasons_to_refuse(configuration)
    expected = Expected(configuration, distiller.region, x, y, sample_weight, *weights)
    of_logs, of_weights = expected.tolerances()
    assert set(logs) == set(expected.logs)
    for name, value in expected.logs.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-5, atol=of_logs, err_msg=name)
    for actual, value in zip(student.get_weights(), expected.weights, strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-6, atol=of_weights)
    for actual, value in zip(teacher.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(actual, value)
    assert int(optimizer.iterations) == 1
    return "trained"


@pytest.mark.parametrize("how", COUNTS)
def test_random_configurations_train_as_derived_or_are_refused_before_training(how):
    count = COUNTS[how][STRESS]
    outcomes = collections.Counter()

    @seed(count)  # another one for each, since all are the same function
    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(configurations(how))
    def train_or_refuse(configuration):
        if outcomes.total() % 50 == 0:
            keras.backend.clear_session()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            outcomes[outcome_of(configuration)] += 1

    train_or_refuse()
    print(f"{how}: of {outcomes.total()} configurations {dict(outcomes)}")
    assert outcomes.total() >= count
    assert outcomes["trained"] >= count / 3
