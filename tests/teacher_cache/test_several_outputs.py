"""Teachers with several outputs: the cache carries all by name, and trains as they do."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher, runner
from tests.teacher_cache.helpers import QUIET, asked

EXAMPLES, SIZE = 10, 4
HEADS = {"place": (2, None), "kind": (3, None), "mood": (1, "sigmoid")}
DIVERGENCE = {"kind": "kl", "place": "mse"}


def heads_model(seed, as_dict=True, names=tuple(HEADS), kind_activation=None):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE,))
    hidden = layers.Dense(5, activation="tanh")(inputs)
    outputs = {}
    for name in names:
        units, activation = HEADS[name]
        activation = kind_activation if name == "kind" else activation
        outputs[name] = layers.Dense(units, activation=activation, name=name)(hidden)
    return keras.Model(inputs, outputs if as_dict else list(outputs.values()))


def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, SIZE)).astype("float32")
    labels = {"kind": rng.integers(0, 3, EXAMPLES), "place": rng.normal(size=(EXAMPLES, 2))}
    return x, labels


def batches(size=4):
    return tf.data.Dataset.from_tensor_slices(table()).batch(size)


def predicted(teacher, x):
    outputs = teacher(x)
    return outputs if isinstance(outputs, dict) else dict(zip(HEADS, outputs, strict=True))


def read(dataset):
    """Inputs and teacher outputs of one pass."""
    elements = [(x.inputs, x.teacher_outputs) for x, _ in dataset.as_numpy_iterator()]
    outputs = {name: np.concatenate([o[name] for _, o in elements]) for name in elements[0][1]}
    return np.concatenate([x for x, _ in elements]), outputs


# What it holds.


@pytest.mark.covering
@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "cache", "shuffle": False},
        {"path": "cache", "memory_bytes": 1, "compression": "GZIP", "dtype": "float16"},
    ],
)
def test_each_example_carries_all_outputs_by_name(options, as_dict, tmp_path, small_shards):
    teacher, (x, _) = heads_model(0, as_dict), table()
    if "path" in options:
        options = options | {"path": tmp_path / options["path"]}
    data = cache_teacher(batches(), teacher, **options, **QUIET)
    dtype = options.get("dtype", "float32")
    widths = {name: units for name, (units, _) in HEADS.items()}
    spec = data.element_spec[0].teacher_outputs
    assert {name: one.shape[-1] for name, one in spec.items()} == widths
    expected = predicted(teacher, x)
    inputs, outputs = read(data)
    rows = [int(np.flatnonzero((x == one).all(1)).item()) for one in inputs]
    assert sorted(rows) == list(range(EXAMPLES))
    assert (rows == list(range(EXAMPLES))) == (options.get("shuffle") is False)
    assert set(outputs) == set(HEADS)
    for name, output in outputs.items():
        assert output.dtype == dtype
        tolerance = {"float32": 1e-6, "float16": 1e-3}[dtype]
        np.testing.assert_allclose(
            output, expected[name].numpy()[rows], rtol=tolerance, atol=tolerance
        )


def test_an_interrupted_build_resumes_with_the_names(tmp_path, small_shards, monkeypatch):
    teacher = heads_model(0)
    first = read(cache_teacher(batches(), teacher, tmp_path, **QUIET))
    (folder,) = tmp_path.iterdir()
    manifest = json.loads((folder / "complete.json").read_text())
    assert manifest["outputs"] == sorted(HEADS)
    # A complete cache is read without the teacher.
    assert asked(monkeypatch, lambda: cache_teacher(batches(), teacher, tmp_path, **QUIET)) == 0
    (folder / "complete.json").unlink()
    (folder / manifest["shards"][1]).unlink()
    number = asked(monkeypatch, lambda: cache_teacher(batches(), teacher, tmp_path, **QUIET))
    assert number == 4 + 4  # that shard, and the first batch to know shapes
    again = read(cache_teacher(batches(), teacher, tmp_path, **QUIET))
    np.testing.assert_array_equal(again[0], first[0])
    for name, output in first[1].items():
        np.testing.assert_array_equal(again[1][name], output)


def test_other_names_make_a_new_cache(tmp_path):
    teacher = heads_model(0, names=("place", "kind"))
    renamed = dict(zip(("a", "b"), teacher.outputs, strict=True))
    for model in (teacher, keras.Model(teacher.inputs, renamed)):
        cache_teacher(batches(), model, tmp_path, **QUIET)
    assert len(list(tmp_path.iterdir())) == 2


def test_files_and_values_of_one_output_are_as_ever(tmp_path):
    """An output in a dict of one is the only output; the manifest names none."""
    teacher, (x, _) = heads_model(0, names=("kind",)), table()
    cached = cache_teacher(batches(), teacher, tmp_path, shuffle=False, **QUIET)
    outputs = [x.teacher_outputs for x, _ in cached]
    np.testing.assert_allclose(np.concatenate(outputs), teacher(x)["kind"], rtol=1e-6, atol=1e-6)
    (folder,) = tmp_path.iterdir()
    manifest = json.loads((folder / "complete.json").read_text())
    assert set(manifest) == {"num_examples", "components", "shards", "digest"}


def test_an_output_that_half_precision_cannot_hold_is_named():
    teacher = heads_model(0)
    teacher.get_layer("kind").bias.assign([1e6, 0.0, 0.0])
    with pytest.raises(FloatingPointError, match="Values of the output 'kind' .* in float16"):
        cache_teacher(batches(), teacher, dtype="float16", **QUIET)


# Training.


def trained(teacher, data, run_eagerly=True, **arguments):
    """Logs and weights of a student; step by step, which is faster."""
    student = heads_model(1, names=("kind", "place"))
    losses = {"kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "place": "mse"}
    distiller = L2RKDDistiller(teacher, student, seed=3, **arguments)
    distiller.compile(keras.optimizers.SGD(0.1), losses, run_eagerly=run_eagerly)
    logs = distiller.fit(data, verbose=0).history
    return logs, student.get_weights()


@pytest.mark.parametrize(
    ("arguments", "as_dict"),
    [
        ({"region_targets": "interpolated"}, True),
        ({"region_targets": "interpolated", "replace_fraction": 0.5}, False),
        ({"region_weight": 0.0, "divergence": DIVERGENCE}, False),
        ({"region_targets": "interpolated", "divergence": DIVERGENCE}, True),
    ],
)
def test_training_is_that_with_a_live_teacher(arguments, as_dict):
    teacher = heads_model(0, as_dict)
    # Of one size: in a graph, Keras does not weigh the batches in the mean of an output's loss.
    plain = batches(5)
    cached = cache_teacher(plain, teacher, shuffle=False, **QUIET)
    arguments = {"divergence": "mse"} | arguments
    logs, weights = trained(teacher, plain, **arguments)
    before = heads_model(1, names=("kind", "place")).get_weights()
    assert max(np.abs(w - b).max() for w, b in zip(weights, before, strict=True)) > 1e-3
    for one in (teacher, None):
        in_graph = one is None and as_dict and arguments["divergence"] == DIVERGENCE
        logs_of_cache, weights_of_cache = trained(one, cached, not in_graph, **arguments)
        for actual, wanted in zip(weights_of_cache, weights, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=1e-6)
        for name, value in logs.items():
            np.testing.assert_allclose(logs_of_cache[name], value, rtol=1e-5, err_msg=name)


def test_an_ordinary_region_runs_a_live_teacher_only_there():
    teacher = heads_model(0)
    cached = cache_teacher(batches(), teacher, shuffle=False, **QUIET)
    runs = [trained(teacher, data, divergence=DIVERGENCE) for data in (batches(), cached)]
    for one, other in zip(*(weights for _, weights in runs), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-6)


def test_arrays_may_carry_a_dict():
    teacher, (x, y) = heads_model(0), table()
    carried = CachedInputs(x, {name: np.asarray(one) for name, one in teacher(x).items()})
    student = heads_model(1, names=("kind", "place"))
    distiller = L2RKDDistiller(None, student, divergence=DIVERGENCE, region_weight=0.0)
    distiller.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    outputs = {"kind": np.eye(3)[y["kind"]], "place": y["place"]}
    logs = distiller.fit(carried, outputs, batch_size=5, verbose=0, shuffle=False).history
    assert logs["kind_kd_loss"][0] > 0


@pytest.mark.parametrize("divergence", [DIVERGENCE, {"kind": None, "place": "mse"}])
def test_only_compared_outputs_must_be_logits(divergence):
    cached = cache_teacher(batches(), heads_model(0, kind_activation="softmax"), **QUIET)
    arguments = {"divergence": divergence, "region_weight": 0.0}
    if divergence["kind"] is None:
        trained(None, cached, **arguments)
        return
    with pytest.raises(ValueError, match="output 'kind' of the teacher of .* must output logits"):
        trained(None, cached, **arguments)


def test_a_cache_without_a_compared_output_is_refused():
    cached = cache_teacher(batches(), heads_model(0, names=("kind", "mood")), **QUIET)
    with pytest.raises(ValueError, match=r"\['place'\], which `teacher` does not return"):
        trained(None, cached, divergence=DIVERGENCE, region_weight=0.0)


def test_outputs_of_another_teacher_are_refused():
    cached = cache_teacher(batches(), heads_model(0), **QUIET)
    with pytest.raises(ValueError, match="outputs of the distiller's own `teacher`"):
        trained(heads_model(5), cached, divergence=DIVERGENCE, region_weight=0.0)


class Subclassed(keras.Model):
    """Names its outputs only when it runs, in an order of its own."""

    def __init__(self):
        super().__init__()
        self.inner = heads_model(0)

    def call(self, inputs):
        outputs = self.inner(inputs)
        return {name: outputs[name] for name in ("place", "mood", "kind")}

    def get_config(self):
        return {}


def test_a_subclassed_teacher(tmp_path, monkeypatch):
    teacher, (x, _) = Subclassed(), table()
    teacher(x)
    built = cache_teacher(batches(), teacher, tmp_path, shuffle=False, **QUIET)
    monkeypatch.setattr(runner.TeacherRunner, "rows", None)
    loaded = cache_teacher(batches(), teacher, tmp_path, shuffle=False, **QUIET)
    for data in (built, loaded):
        for name, output in read(data)[1].items():
            np.testing.assert_allclose(output, teacher(x)[name], rtol=1e-5, atol=1e-6)
