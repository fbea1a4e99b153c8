"""What the teacher's cache holds, and when it is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.teacher_cache import CachedInputs, cache_teacher, runner
from tests.helpers import batches, convnet, images
from tests.teacher_cache.helpers import EXAMPLES, QUIET, asked, read


def never_asked(*args, **kwargs):
    raise AssertionError("the teacher was asked")


# What it holds.


@pytest.mark.covering
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
def test_each_example_carries_its_teacher_outputs(teacher, options, dtype, tmp_path, small_shards):
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
def test_the_order_depends_only_on_seed_and_pass(teacher, memory_bytes, tmp_path, small_shards):
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


def test_inputs_without_labels_can_be_cached(teacher):
    x, _ = images(3)
    cached = cache_teacher(tf.data.Dataset.from_tensor_slices(x).batch(2), teacher, **QUIET)
    assert [x.inputs.shape[0] for (x,) in cached] == [2, 1]


# When it is used.


def test_the_teacher_does_not_run_twice_on_the_same_examples(teacher, tmp_path, monkeypatch):
    x, y = images(EXAMPLES)
    first = cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)
    monkeypatch.setattr(runner.TeacherRunner, "rows", never_asked)
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
def test_another_teacher_or_other_examples_make_a_new_cache(change, tmp_path, monkeypatch):
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
def test_data_with_random_augmentation_are_refused(teacher, on_disk, tmp_path):
    rng = np.random.default_rng(0)
    spec = tf.TensorSpec((None, 8, 8, 1), tf.float64)
    noisy = tf.data.Dataset.from_generator(
        lambda: iter([rng.uniform(size=(4, 8, 8, 1))]), output_signature=spec
    )
    with pytest.raises(ValueError, match="same examples in every pass"):
        cache_teacher(noisy, teacher, tmp_path if on_disk else None, **QUIET)
