"""The teacher's cache: what it holds, when it is used, what happens to it, and training from it."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, methods
from l2rkd_tf.data import epoch_order, load
from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher, caching, shards
from tests.test_distiller import (
    Counting,
    assert_equal_weights,
    batches,
    compiled,
    convnet,
    images,
)

EXAMPLES = 10
QUIET = {"verbose": False}


@pytest.fixture(scope="module")
def teacher():
    return convnet(0, 8)


@pytest.fixture
def small_shards(monkeypatch):
    """A shard for each batch."""
    monkeypatch.setattr(caching, "_SHARD_BYTES", 1)


def never_asked(*args, **kwargs):
    raise AssertionError("the teacher was asked")


def asked(monkeypatch, call):
    """Number of examples that the teacher is asked for in a call."""
    counts = []
    rows = caching.TeacherRunner.rows

    def counting(self, chunk):
        counts.append(chunk.num_examples)
        return rows(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(caching.TeacherRunner, "rows", counting)
        call()
    return sum(counts)


def read(dataset):
    """Inputs, teacher outputs and labels of one pass."""
    elements = [(x.inputs, x.teacher_outputs, y) for x, y in dataset.as_numpy_iterator()]
    return [np.concatenate(parts) for parts in zip(*elements, strict=True)]


def files(folder, pattern="*.tfrecord"):
    return sorted(folder.rglob(pattern))


# What it holds.


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "options",
    [
        {"path": None},
        {"path": "cache"},
        {"path": "cache", "memory_bytes": 1},
        {"path": "cache", "memory_bytes": 1, "shuffle": False, "compression": "GZIP"},
    ],
)
def test_each_example_carries_what_the_teacher_says_of_it(
    teacher, options, dtype, tmp_path, small_shards
):
    x, y = images(EXAMPLES)
    if options["path"]:
        options = options | {"path": tmp_path / options["path"]}
    data = cache_teacher(batches(x, y), teacher, dtype=dtype, **options, **QUIET)
    assert (data.num_examples, len(data)) == (EXAMPLES, 3)
    expected = teacher.predict(x, verbose=0).astype(dtype)
    for _ in range(2):
        inputs, outputs, labels = read(data)
        rows = [int(np.flatnonzero((x == one).all((1, 2, 3))).item()) for one in inputs]
        assert sorted(rows) == list(range(EXAMPLES))
        np.testing.assert_array_equal(labels, y[rows])
        assert outputs.dtype == dtype
        np.testing.assert_allclose(outputs, expected[rows], rtol=1e-6 if dtype == "float32" else 0)
        assert (rows == list(range(EXAMPLES))) == (options.get("shuffle") is False)


@pytest.mark.parametrize("memory_bytes", [1, 2**30])
def test_the_order_depends_on_seed_and_pass_alone(teacher, memory_bytes, tmp_path, small_shards):
    def labels(seed, path=tmp_path, skip=0):
        data = cache_teacher(
            batches(*images(EXAMPLES), size=1),
            teacher,
            path,
            seed=seed,
            memory_bytes=memory_bytes,
            **QUIET,
        )
        data.cursor.set_batch(skip)
        return [x.inputs[0, 0, 0, 0] for x, _ in data.repeat(3).as_numpy_iterator()]

    first = labels(0)
    assert first == labels(0)
    assert first != labels(1)
    passes = np.reshape(first, (3, EXAMPLES))
    assert len({tuple(one) for one in passes}) == 3
    np.testing.assert_array_equal(np.sort(passes), [sorted(passes[0])] * 3)
    assert labels(0, skip=7)[: 2 * EXAMPLES] == first[7:][: 2 * EXAMPLES]


def test_structures_weights_and_dtypes_stay_as_they_are(tmp_path):
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    both = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    teacher = keras.Model(inputs, keras.layers.Dense(4)(both))
    rng = np.random.default_rng(0)
    x = {
        "a": rng.normal(size=(5, 3)).astype("float16"),
        "b": rng.integers(0, 255, size=(5, 2)).astype("uint8"),
    }
    y, weight = rng.integers(0, 4, (5, 1)), rng.uniform(size=5)
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(2)
    for path in (None, tmp_path):
        cached = cache_teacher(data, teacher, path, shuffle=False, batch_size=5, **QUIET)
        ((found, labels, weights),) = cached.as_numpy_iterator()
        assert isinstance(found, CachedInputs)
        for name in x:
            assert found.inputs[name].dtype == x[name].dtype
            np.testing.assert_array_equal(found.inputs[name], x[name])
        np.testing.assert_array_equal(labels, y)
        np.testing.assert_array_equal(weights, weight)
        np.testing.assert_allclose(
            found.teacher_outputs, teacher.predict(x, verbose=0), rtol=1e-5, atol=1e-5
        )


def test_inputs_alone_will_do(teacher):
    x, _ = images(3)
    cached = cache_teacher(tf.data.Dataset.from_tensor_slices(x).batch(2), teacher, **QUIET)
    assert [x.inputs.shape[0] for (x,) in cached] == [2, 1]


# When it is used.


def test_the_same_teacher_and_examples_are_not_asked_again(teacher, tmp_path, monkeypatch):
    x, y = images(EXAMPLES)
    first = cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)
    monkeypatch.setattr(caching.TeacherRunner, "rows", never_asked)
    again = cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)
    for one, other in zip(read(first), read(again), strict=True):
        np.testing.assert_array_equal(one, other)
    mixed = batches(x, y).shuffle(3, reshuffle_each_iteration=True)
    cache_teacher(mixed, teacher, tmp_path, batch_size=4, **QUIET)


def changed_weight(x, y, teacher):
    teacher = keras.models.clone_model(teacher)
    weights = convnet(0, 8).get_weights()
    weights[0].flat[7] += 1e-3
    teacher.set_weights(weights)
    return {"teacher": teacher}


CHANGES = {
    "a weight": changed_weight,
    "a pixel": lambda x, y, teacher: {"dataset": batches(np.where(x == x.max(), 0, x), y)},
    "a label": lambda x, y, teacher: {"dataset": batches(x, np.r_[(y[0] + 1) % 3, y[1:]])},
    "an example less": lambda x, y, teacher: {"dataset": batches(x[1:], y[1:])},
    "an example twice": lambda x, y, teacher: {"dataset": batches(x[[0, *range(9)]], y)},
    "the shape of labels": lambda x, y, teacher: {"dataset": batches(x, y[:, None])},
    "the dtype of labels": lambda x, y, teacher: {"dataset": batches(x, y.astype("int32"))},
    "labels changed over": lambda x, y, teacher: {"dataset": batches(x, y[::-1])},
    "the dtype": lambda x, y, teacher: {"dtype": "float16"},
    "the compression": lambda x, y, teacher: {"compression": "GZIP"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_teacher_or_other_examples_are_asked_anew(change, tmp_path, monkeypatch):
    x, y = images(EXAMPLES)
    teacher = convnet(0, 8)
    arguments = {"dataset": batches(x, y), "teacher": teacher, "path": tmp_path}
    cache_teacher(**arguments, **QUIET)
    arguments |= CHANGES[change](x, y, teacher)
    number = asked(monkeypatch, lambda: cache_teacher(**arguments, **QUIET))
    assert number >= EXAMPLES - 1
    assert len(list(tmp_path.iterdir())) == 2


def test_a_fingerprint_of_ones_own_spares_the_pass_that_makes_one(teacher, tmp_path):
    passes = []
    x, y = images(EXAMPLES)

    def one_pass():
        passes.append(1)
        yield from zip(x, y, strict=True)

    spec = (tf.TensorSpec(x.shape[1:]), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(one_pass, output_signature=spec).batch(4)
    options = {"fingerprint": "version 1", "batch_size": 4, **QUIET}
    cache_teacher(data, teacher, tmp_path, **options)
    assert len(passes) <= 2  # one to know shapes
    passes.clear()
    cached = cache_teacher(data, teacher, tmp_path, **options)
    assert passes == [] and len(read(cached)[0]) == EXAMPLES


@pytest.mark.parametrize("on_disk", [False, True])
def test_data_that_are_augmented_anew_are_refused(teacher, on_disk, tmp_path):
    rng = np.random.default_rng(0)
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float64)
    noisy = tf.data.Dataset.from_generator(
        lambda: iter([rng.uniform(size=(4, 8, 8, 1))]), output_signature=spec
    )
    with pytest.raises(ValueError, match="same examples in every pass"):
        cache_teacher(noisy, teacher, tmp_path if on_disk else None, **QUIET)


# What happens to it.


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_text(path.read_text()[:40])


def garble(path):
    path.write_bytes(b"\xff\xfe\x00")


def count_differently(path):
    path.write_text(path.read_text().replace(": 10", ": 11"))


@pytest.mark.parametrize("damage", [halve, garble, count_differently])
def test_a_damaged_manifest_is_named_and_made_again(damage, teacher, tmp_path):
    x, y = images(EXAMPLES)
    cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    (path,) = files(tmp_path, "complete.json")
    content = path.read_bytes()
    damage(path)
    assert path.read_bytes() != content
    with pytest.warns(UserWarning, match=path.name):
        cached = cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    assert len(read(cached)[0]) == EXAMPLES and path.read_bytes() == content


@pytest.mark.parametrize("damage", [cut, alter, lambda path: path.unlink()])
def test_a_damaged_shard_is_named_and_made_again(
    damage, teacher, tmp_path, small_shards, monkeypatch
):
    x, y = images(EXAMPLES)

    def cached():
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    expected = read(cached())
    path = files(tmp_path)[1]
    damage(path)
    with pytest.warns(UserWarning, match=path.name):
        number = asked(monkeypatch, cached)
    assert number == 4 + 4  # the shard, and a batch to know shapes
    for one, other in zip(read(cached()), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_build_that_was_interrupted_goes_on(teacher, tmp_path, small_shards, monkeypatch):
    x, y = images(EXAMPLES)
    write = shards.write_shard

    def interrupted(folder, number, *arguments):
        if number == 2:
            raise KeyboardInterrupt
        return write(folder, number, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "write_shard", interrupted)
        cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    assert len(files(tmp_path)) == 2 and not files(tmp_path, "complete.json")
    number = asked(monkeypatch, lambda: cache_teacher(batches(x, y), teacher, tmp_path, **QUIET))
    assert number == 2 + 4  # the last shard, and a batch to know shapes
    assert len(files(tmp_path)) == 3


def test_two_builds_at_once_do_not_disturb_each_other(teacher, tmp_path, small_shards, monkeypatch):
    x, y = images(EXAMPLES)
    write, results = shards.write_shard, []

    def cached():
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    def with_another(folder, number, *arguments):
        if number == 1 and not results:
            results.append(None)
            results[0] = read(cached())  # from beginning to end, while the first one goes on
        return write(folder, number, *arguments)

    monkeypatch.setattr(shards, "write_shard", with_another)
    results.append(read(cached()))
    results.append(read(cached()))
    for parts in zip(*results, strict=True):
        for other in parts[1:]:
            np.testing.assert_array_equal(parts[0], other)
    assert not files(tmp_path, "*.partial")


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("is_complete", [False, True])
def test_partial_files_of_killed_builds_are_deleted_and_those_of_others_are_not(
    is_complete, teacher, tmp_path, monkeypatch
):
    def cached():
        return cache_teacher(batches(*images(EXAMPLES)), teacher, tmp_path, **QUIET)

    def leave_partial(folder, name):
        partial = folder / f".shard.{name}.partial"
        partial.mkdir()
        (partial / "shard").write_bytes(b"the beginning")  # without the end, as SIGKILL
        return partial

    def killed(folder, *arguments):
        leave_partial(folder, "1")
        raise KeyboardInterrupt

    if is_complete:
        cached()
        leave_partial(files(tmp_path)[0].parent, "1")
    else:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shards, "write_shard", killed)
            cached()
    (abandoned,) = files(tmp_path, "*.partial")
    of_another_process = leave_partial(abandoned.parent, "2")
    age(abandoned, 25 * 3600)
    age(of_another_process, 23 * 3600)
    assert len(read(cached())[0]) == EXAMPLES
    assert files(tmp_path, "*.partial") == [of_another_process]


def test_a_build_ends_although_another_one_makes_the_manifest_again(teacher, tmp_path, monkeypatch):
    x, y = images(EXAMPLES)
    link = os.link

    def without_trace(temporary, path):
        link(temporary, path)
        path.unlink()  # by a process that has found damage before

    monkeypatch.setattr(os, "link", without_trace)
    assert len(read(cache_teacher(batches(x, y), teacher, tmp_path, **QUIET))[0]) == EXAMPLES


def test_of_two_builds_with_another_order_each_the_first_one_holds(
    teacher, tmp_path, small_shards, monkeypatch
):
    x, y = images(EXAMPLES)
    publish, results = caching._publish, []

    def cached(x, y):
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    def after_another(*arguments):
        monkeypatch.setattr(caching, "_publish", publish)
        results.append(read(cached(x[::-1], y[::-1])))
        return publish(*arguments)

    monkeypatch.setattr(caching, "_publish", after_another)
    results.append(read(cached(x, y)))
    results.append(read(cached(x, y)))
    np.testing.assert_array_equal(results[0][0], x[::-1])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_manifest_is_readable(teacher, tmp_path):
    cache_teacher(batches(*images(EXAMPLES)), teacher, tmp_path, **QUIET)
    (path,) = files(tmp_path, "complete.json")
    manifest = json.loads(path.read_text())
    assert len(manifest.pop("digest")) == 32
    assert manifest == {
        "num_examples": EXAMPLES,
        "components": [[[8, 8, 1], "float32"], [[], "int64"], [[3], "float32"]],
        "shards": [path.name for path in files(tmp_path)],
    }


def program(request, name, folder):
    """A program of this folder, started in a process of its own."""
    return subprocess.Popen(
        [sys.executable, request.path.parent / name, folder], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.stress
def test_killed_builds_and_builds_at_once_end_in_the_same_cache(tmp_path, request):
    for count in (3, 9, 15):
        process = program(request, "cache_building.py", tmp_path)
        while len(files(tmp_path)) < count and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    both = [program(request, "cache_building.py", tmp_path) for _ in range(2)]
    assert [process.communicate()[0].split() for process in both] == [["20000"]] * 2
    (path,) = files(tmp_path, "complete.json")
    names = json.loads(path.read_text())["shards"]
    assert len(names) > 15 and all(shards.is_intact(path.parent / name) for name in names)


@pytest.mark.stress
def test_data_ten_times_larger_than_the_budget_are_streamed(tmp_path, request):
    process = program(request, "cache_streaming.py", tmp_path)
    growth = float(process.communicate()[0].split()[-1])
    # Megabytes: a shard that is written has 32, the buffer 16, and the data 170.
    assert process.returncode == 0 and growth < 100


# Wrong arguments.

CACHED = CachedInputs(*images(4))


class Rows(keras.layers.Layer):
    """Makes two rows of each."""

    def call(self, inputs):
        return tf.reshape(inputs, (-1, 32))


WRONG = {
    "cached inputs": (
        {"dataset": tf.data.Dataset.from_tensor_slices((CACHED,)).batch(2)},
        "CachedInputs already",
    ),
    "cached inputs alone": (
        {"dataset": tf.data.Dataset.from_tensor_slices(CACHED).batch(2)},
        "CachedInputs already",
    ),
    "large integers": (
        {"dataset": batches(images(4)[0], np.ones(4, "uint32"))},
        "of a dtype among",
    ),
    "an array": ({"dataset": np.zeros((4, 8, 8, 1))}, "`dataset` must be a tf.data.Dataset"),
    "single examples": (
        {"dataset": tf.data.Dataset.from_tensor_slices(images(4))},
        "`dataset` must give batches",
    ),
    "single images": (
        {"dataset": tf.data.Dataset.from_tensor_slices(images(4)[0])},
        "`dataset` must give batches",
    ),
    "no end": ({"dataset": batches(*images(4)).repeat()}, "`dataset` must end"),
    "no examples": ({"dataset": batches(*images(4)).take(0)}, "`dataset` must hold examples"),
    "strings": (
        {"dataset": tf.data.Dataset.from_tensor_slices((np.zeros((4, 2)), ["a"] * 4)).batch(2)},
        "dense tensors of numbers",
    ),
    "no teacher": ({"teacher": None}, "`teacher` must be a keras.Model"),
    "unbuilt": ({"teacher": keras.Sequential([keras.layers.Dense(3)])}, "`teacher` must be"),
    "maps": (
        {"teacher": keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)])},
        "`teacher` must have one output",
    ),
    "rows": (
        {"teacher": keras.Sequential([keras.Input((8, 8, 1)), Rows()])},
        "shape \\(8, 32\\) for a batch of 4",
    ),
    "path": ({"path": 3}, "`path` must be a folder"),
    "batch size": ({"batch_size": 0}, "`batch_size` must be a positive integer"),
    "dtype": ({"dtype": "int8"}, "`dtype` must be one of"),
    "compression": ({"compression": "zip"}, "`compression` must be one of"),
    "memory": ({"memory_bytes": 0}, "`memory_bytes` must be a positive number"),
    "fingerprint": ({"fingerprint": 3}, "`fingerprint` must be a string"),
    "seed": ({"seed": -1}, "`seed` must be an integer"),
    "shuffle": ({"shuffle": 7}, "`shuffle` must be True or False"),
    "verbose": ({"verbose": "yes"}, "`verbose` must be True or False"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_named(wrong, teacher):
    arguments, message = WRONG[wrong]
    arguments = {"dataset": batches(*images(4)), "teacher": teacher, **QUIET} | arguments
    with pytest.raises(ValueError, match=message):
        cache_teacher(**arguments)


class WithoutConfig(keras.Model):
    """A model that Keras cannot serialize."""

    def __init__(self):
        super().__init__()
        self.inner = convnet(0, 8)
        self.built = True

    def call(self, inputs):
        return self.inner(inputs)

    def get_config(self):
        raise NotImplementedError("no config")


def test_a_model_that_cannot_be_serialized_is_warned_of(tmp_path):
    teacher = WithoutConfig()
    with pytest.warns(UserWarning, match="cannot be serialized"):
        cache_teacher(batches(*images(4)), teacher, tmp_path, **QUIET)


def test_empty_and_small_batches_do_not_count():
    data = batches(*images(EXAMPLES)).map(lambda x, y: (x[y > 0], y[y > 0]))
    sizes = [len(y) for _, y in data]
    data = data.take(0).concatenate(data.map(lambda x, y: (x[:0], y[:0]))).concatenate(data)
    cached = cache_teacher(data, convnet(0, 8), **QUIET)
    assert [len(y) for _, y in cached][0] == max(sizes)


def test_the_order_does_not_depend_on_that_of_the_data():
    x, y = images(EXAMPLES)
    streams = [
        read(cache_teacher(data, convnet(0, 8), seed=5, **QUIET))
        for data in (batches(x, y), batches(x[::-1], y[::-1]))
    ]
    for one, other in zip(*streams, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_data_of_the_library_stay_where_they_are(tmp_path):
    train = load("digits", "train", batch_size=50, fraction=0.1, data_dir=tmp_path)
    train.cursor.set_batch(3)
    cached = cache_teacher(train, convnet(0, 8), **QUIET)
    assert train.cursor.batch == 3
    assert cached.num_examples == train.num_examples == 100
    augmented = load(
        "digits", "train", batch_size=50, fraction=0.1, data_dir=tmp_path, augment="crop"
    )
    with pytest.raises(ValueError, match="same examples in every pass"):
        cache_teacher(augmented, convnet(0, 8), **QUIET)


def test_outputs_that_half_precision_cannot_hold_are_refused(teacher):
    x, y = images(4)
    with pytest.raises(FloatingPointError, match="float16"):
        cache_teacher(batches(x * 1e7, y), teacher, dtype="float16", **QUIET)


def test_examples_of_different_shapes_are_refused():
    teacher = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D()]
    )
    data = tf.data.Dataset.from_generator(
        lambda: (np.zeros((2, size, size, 1), "float32") for size in (4, 5)),
        output_signature=tf.TensorSpec((None, None, None, 1)),
    )
    with pytest.raises(ValueError, match="one shape"):
        cache_teacher(data, teacher, **QUIET)


# Whose outputs it holds.


def trained_from(data, teacher=None, model=convnet, **arguments):
    student = model(1)
    before = student.get_weights()
    settings = {"region_targets": "interpolated"} | arguments
    distiller = compiled(L2RKDDistiller(teacher, student, **settings), run_eagerly=True)
    try:
        distiller.fit(data, steps_per_epoch=2, verbose=0)
    except ValueError:
        for one, other in zip(student.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)
        raise


DERIVED = {
    "the cache": lambda data: data,
    "repeated": lambda data: data.repeat(),
    "mapped": lambda data: data.map(lambda x, y: (x._replace(inputs=x.inputs * 2), y)),
    "under a strategy": lambda data: tf.distribute.MirroredStrategy(
        ["CPU:0"]
    ).experimental_distribute_dataset(data),
}


@pytest.mark.parametrize("derived", DERIVED)
def test_outputs_of_another_teacher_are_refused(derived, teacher):
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, **QUIET)
    with pytest.raises(ValueError, match="outputs of the distiller's own `teacher`"):
        trained_from(DERIVED[derived](cached), convnet(5, 8))


def test_the_same_teacher_made_again_and_two_on_purpose_are_not_refused(teacher):
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, **QUIET)
    again = convnet(5, 8)  # with other names of layers
    again.set_weights(teacher.get_weights())
    trained_from(cached, again)
    trained_from(cached.map(lambda x, y: (CachedInputs(*x), y)), convnet(5, 8))


def softmax_convnet(seed, width=4):
    return convnet(seed, width, activation="softmax")


def test_probabilities_in_the_place_of_logits_are_refused_and_the_other_way_round(teacher):
    data = batches(*images(EXAMPLES))
    probabilities = cache_teacher(data, softmax_convnet(0), **QUIET).repeat()
    with pytest.raises(ValueError, match="cached inputs `x` must give logits.*ends in a softmax"):
        trained_from(probabilities)
    trained_from(probabilities, model=softmax_convnet, from_logits=False)
    with pytest.raises(ValueError, match="cached inputs `x` must give probabilities"):
        trained_from(
            cache_teacher(data, teacher, **QUIET), None, softmax_convnet, from_logits=False
        )
    trained_from(probabilities, divergence="mse")


# Training from it.

SETTINGS = {
    "KD": {"region_weight": 0.0},
    "interpolated": {"region_targets": "interpolated"},
    "interpolated, no KD": {"region_targets": "interpolated", "kd_weight": 0.0},
    "interpolated, half": {"region_targets": "interpolated", "replace_fraction": 0.5},
    "interpolated, two": {"region_targets": "interpolated", "num_region_points": 2},
    "teacher": {},
    "teacher, half": {"replace_fraction": 0.5},
    "teacher, no KD": {"kd_weight": 0.0},
    "methods": {"region_weight": 0.0, "distillation_losses": [methods.DKD()]},
    "inner features": {
        "distillation_losses": [methods.SimilarityPreserving()],
        "distillation_losses_at": "both",
    },
}


@pytest.mark.parametrize("settings", SETTINGS)
def test_training_is_that_with_a_live_teacher(settings):
    settings = SETTINGS[settings]
    teacher = convnet(0, 8)
    x, y = images(EXAMPLES)
    plain = batches(x, y)
    cached = cache_teacher(plain, teacher, shuffle=False, **QUIET)
    students = [convnet(1), convnet(1)]
    logs = []
    for student, data in zip(students, (plain, cached), strict=True):
        distiller = L2RKDDistiller(teacher, student, seed=3, **settings)
        logs.append(compiled(distiller).fit(data, epochs=2, verbose=0).history)
    assert_equal_weights(*students, atol=1e-6)
    for name in logs[0]:
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"region_weight": 0.0}, []),
        ({"region_targets": "interpolated"}, []),
        ({}, [4]),
        ({"replace_fraction": 0.5}, [2]),
    ],
)
def test_the_teacher_is_asked_for_what_is_not_known_alone(settings, rows):
    x, y = images(4)
    teacher = Counting(convnet(0, 8))
    distiller = L2RKDDistiller(teacher, convnet(1), **settings)
    known = CachedInputs(x, teacher.model(x))
    compiled(distiller, run_eagerly=True).train_on_batch(known, y)
    assert [number for number, _ in teacher.calls] == rows


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_without_a_teacher_it_is_the_same_training(options, tmp_path):
    teacher = convnet(0, 8)
    cached = cache_teacher(batches(*images(EXAMPLES)), teacher, shuffle=False, **QUIET)
    students = [convnet(1), convnet(1)]
    for one, student in zip((teacher, None), students, strict=True):
        distiller = L2RKDDistiller(one, student, region_targets="interpolated", seed=3)
        compiled(distiller, **({} if one else options)).fit(cached, epochs=2, verbose=0)
    assert_equal_weights(*students, atol=1e-6)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    for one in (loaded, distiller):
        one.fit(cached, verbose=0)
    assert loaded.get_teacher() is None
    assert_equal_weights(loaded.student, students[1], atol=1e-6)


def test_arrays_may_carry_outputs(teacher):
    x, y = images(EXAMPLES)
    outputs = teacher.predict(x, verbose=0)
    students = [convnet(1), convnet(1)]
    for one, inputs in zip((teacher, None), (x, CachedInputs(x, outputs)), strict=True):
        distiller = compiled(L2RKDDistiller(one, students[0 if one else 1], region_weight=0.0))
        distiller.fit(inputs, y, batch_size=4, shuffle=False, verbose=0)
    assert_equal_weights(*students, atol=1e-6)


def test_cached_inputs_alone_are_refused(teacher):
    x, _ = images(4)
    alone = tf.data.Dataset.from_tensors(CachedInputs(x, teacher(x)))
    distiller = compiled(L2RKDDistiller(teacher, convnet(1), hard_weight=0.0))
    with pytest.raises(ValueError, match="within a tuple"):
        distiller.fit(alone, verbose=0)
    with pytest.raises(ValueError, match="within a tuple"):
        distiller.evaluate(alone, verbose=0)


NO_TEACHER = {
    "teacher asked in regions": ({}, True, "`teacher` must be given for region_targets='teacher'"),
    "plain data": ({"region_targets": "interpolated"}, False, "data must carry its outputs"),
    "plain data, KD": ({"region_weight": 0.0}, False, "data must carry its outputs"),
}


@pytest.mark.parametrize("case", NO_TEACHER)
def test_what_needs_a_teacher_says_so_before_training(case, teacher):
    settings, is_cached, message = NO_TEACHER[case]
    data = batches(*images(4))
    student = convnet(1)
    before = student.get_weights()
    distiller = compiled(L2RKDDistiller(None, student, **settings))
    with pytest.raises(ValueError, match=message):
        distiller.fit(cache_teacher(data, teacher, **QUIET) if is_cached else data, verbose=0)
    for one, other in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_student_alone_needs_neither_teacher_nor_cache():
    x, y = images(EXAMPLES)
    students = [convnet(1), convnet(1)]
    distiller = L2RKDDistiller(None, students[0], hard_weight=1.0, kd_weight=0.0, region_weight=0.0)
    compiled(distiller).fit(batches(x, y), verbose=0)
    compiled(students[1]).fit(batches(x, y), verbose=0)
    assert_equal_weights(*students)


@pytest.mark.parametrize("method", [methods.FitNet("a", "b"), methods.SimilarityPreserving()])
def test_methods_of_inner_features_need_a_teacher(method):
    with pytest.raises(ValueError, match="`distillation_losses` must compare the models' outputs"):
        L2RKDDistiller(None, convnet(1), distillation_losses=[method])


def test_callbacks_that_ask_the_teacher_say_so(teacher):
    x, y = images(4)
    cached = cache_teacher(batches(x, y), teacher, **QUIET)
    distiller = compiled(L2RKDDistiller(None, convnet(1), region_targets="interpolated"))
    with pytest.raises(ValueError, match="with a teacher"):
        distiller.fit(cached, callbacks=[callbacks.LocalShapeMonitor(x)], verbose=0)


def test_ordered_indices_are_permutations_of_all_examples():
    data, cursor = epoch_order.ordered_indices(7, 3, seed=4, shuffle=True)
    stream = [batch.tolist() for batch in data.repeat(2).as_numpy_iterator()]
    assert [len(batch) for batch in stream] == [3, 3, 1] * 2
    passes = [sum(stream[:3], []), sum(stream[3:], [])]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(7)) and passes[0] != passes[1]
    cursor.set_batch(4)
    assert [batch.tolist() for batch in data.as_numpy_iterator()][:2] == stream[4:]
