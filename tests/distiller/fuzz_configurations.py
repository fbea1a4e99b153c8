"""Random configurations of a distiller, right and wrong ones, and their data and models."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from l2rkd_tf import L2RKDDistiller, regions

RATE = 0.1


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
    """The regions of a mixture, or only the region."""
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
    only_weighted = y is None and sample_weight is not None  # which a dataset cannot hold
    if configuration.by == "train_on_batch" or only_weighted:
        return distiller.train_on_batch(x, y, sample_weight=sample_weight, return_dict=True)
    given_parts = data[:1] if y is None else data[:2] if sample_weight is None else data
    data = tf.data.Dataset.from_tensors(given_parts)
    history = distiller.fit(data, shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}
