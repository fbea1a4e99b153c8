"""A bank of region points: its points, its answers, training on it, and its files."""

import contextlib
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import CallableTeacher, L2RKDDistiller, callbacks, regions
from l2rkd_tf.teacher_cache import CachedRegions, cache_regions, cache_teacher
from tests.helpers import ROOT, assert_equal_weights, batches, few, two_replicas

X = np.random.RandomState(0).normal(size=(10, 4)).astype("float32")
Y = np.arange(10) % 3


def dense(seed, units=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])


TEACHER = dense(0)


def bank_of(teacher=None, region="swap", k=3, x=X, y=Y, size=4, **options):
    teacher = TEACHER if teacher is None else teacher
    return cache_regions(batches(x, y, size), teacher, region, k, verbose=False, **options)


def passes(bank, number):
    """`[(x, y) of each batch]` of passes."""
    return [list(bank.as_numpy_iterator()) for _ in range(number)]


def counted(teacher, version="1"):
    """A teacher as a function that counts the rows that it gets."""
    calls = []

    def function(x):
        calls.append(len(x))
        return teacher(x, training=False).numpy()

    return CallableTeacher(function, 3, version=version), calls


def compiled(teacher, student, **options):
    options = {"hard_weight": 0.5, "kd_weight": 0.7, "region_weight": 0.3, "seed": 0} | options
    distiller = L2RKDDistiller(teacher, student, region="swap", **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.5), loss)
    return distiller


@pytest.mark.parametrize("shuffle", [True, False])
def test_answers_are_those_of_the_teacher_at_new_points_in_each_pass(shuffle):
    teacher = dense(0)
    bank = bank_of(teacher, shuffle=shuffle)
    first, second, third, fourth = passes(bank, 4)
    seen = []
    for one in (first, second, third):
        assert [len(y) for _, y in one] == [4, 4, 2]
        assert sorted(np.concatenate([y for _, y in one])) == sorted(Y)
        for x, _ in one:
            np.testing.assert_allclose(x.teacher_outputs, teacher(x.inputs), atol=1e-6)
            np.testing.assert_allclose(x.region_outputs, teacher(x.region_points), atol=1e-6)
            seen.extend(map(bytes, x.region_points))
    # Those that have moved are all different: a Gaussian number is never drawn twice.
    moved = [point for point in seen if point not in set(map(bytes, X))]
    assert len(moved) > 15
    assert len(set(moved)) >= 0.8 * len(moved)
    for (x, y), (again, labels) in zip(first, fourth, strict=True):
        np.testing.assert_array_equal(y, labels)
        for one, other in zip(x, again, strict=True):
            np.testing.assert_array_equal(one, other)
    same_order = all(np.array_equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    assert same_order == (not shuffle)


def test_points_are_those_of_the_region_in_their_batch():
    for x, _ in passes(bank_of(), 1)[0]:
        for own, point in zip(x.inputs, x.region_points, strict=True):
            possible = [np.all((point == own) | (point == partner)) for partner in x.inputs]
            assert any(possible)
    same = np.concatenate(
        [
            x.region_points == x.inputs
            for one in passes(bank_of(k=12, x=X[:8], y=Y[:8]), 12)
            for x, _ in one
        ]
    )
    assert 0.3 < 1 - same.mean() < 0.55


def step_of(x, kernel, teacher_kernel, weights, rate):
    """NumPy: one step on mean squared errors at inputs and region points."""
    gradient = np.zeros_like(kernel)
    for points, weight in zip((x.inputs, x.region_points), weights, strict=True):
        difference = points @ kernel - points @ teacher_kernel
        gradient += weight * 2 * points.T @ difference / difference.size
    return kernel - rate * gradient


def test_a_step_equals_numpy_and_asks_no_teacher():
    teacher, calls = counted(dense(0))
    bank = bank_of(teacher, size=5)
    asked = sum(calls)
    ((x, _), _), student = passes(bank, 1)[0], dense(1)
    before = student.get_weights()[0]
    bank.cursor.set_batch(0)
    distiller = compiled(None, student, hard_weight=0.0, divergence="mse")
    distiller.fit(bank.map(lambda x, y: (x,)), steps_per_epoch=1, verbose=0)
    kernel = dense(0).get_weights()[0]
    expected = step_of(x, before, kernel, (0.7, 0.3), 0.5)
    np.testing.assert_allclose(student.get_weights()[0], expected, rtol=1e-5, atol=1e-6)
    assert sum(calls) == asked
    assert distiller.points_per_step(50, cached="regions") == (100, 0)


def test_half_of_a_batch_moves():
    bank, student = bank_of(size=10), dense(1)
    ((x, _),) = passes(bank, 1)[0]
    bank.cursor.set_batch(0)
    options = {"hard_weight": 0.0, "kd_weight": 0.0, "region_weight": 1.0, "divergence": "mse"}
    before, kernel = student.get_weights()[0], dense(0).get_weights()[0]
    distiller = compiled(None, student, replace_fraction=0.5, **options)
    distiller.fit(bank, verbose=0)
    # Five rows that follow each other have moved; from which one on, the seed of the run decides.
    possible = []
    for start in range(10):
        points = x.region_points[(np.arange(5) + start) % 10]
        difference = points @ before - points @ kernel
        possible.append(before - 0.5 * 2 * points.T @ difference / difference.size)
    errors = [np.abs(student.get_weights()[0] - one).max() for one in possible]
    assert sorted(errors)[0] < 1e-6 < sorted(errors)[1]
    assert distiller.points_per_step(50, cached="regions") == (50, 0)


def test_training_is_that_with_a_live_teacher_at_the_same_points():
    """The same points given by hand, with and without the teacher's outputs."""
    teacher, students = dense(0), [dense(1), dense(1)]
    bank = bank_of(teacher, size=5)

    def without(x, y):
        teacher_outputs = teacher(x.inputs, training=False)
        outputs = teacher(x.region_points, training=False)
        return CachedRegions(x.inputs, teacher_outputs, x.region_points, outputs), y

    compiled(teacher, students[0]).fit(bank, epochs=4, verbose=0)
    bank.cursor.set_batch(0)
    compiled(None, students[1]).fit(bank.map(without), epochs=4, verbose=0)
    assert_equal_weights(*students, atol=1e-6)


def test_two_replicas_equal_one_device():
    weights = []
    for strategy in (None, two_replicas()):
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            student = dense(1)
            distiller = compiled(None, student)
        bank = bank_of(size=4)
        distiller.fit(bank, epochs=3, verbose=0)
        weights.append(student.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_run_goes_on_where_it_stopped():
    students = [dense(1), dense(1)]
    whole, halves = bank_of(), bank_of()
    compiled(None, students[0]).fit(whole.repeat(), steps_per_epoch=7, verbose=0)
    distiller = compiled(None, students[1])
    distiller.fit(halves.repeat(), steps_per_epoch=4, verbose=0)
    halves.cursor.set_batch(4)
    distiller.fit(halves.repeat(), steps_per_epoch=3, verbose=0)
    assert_equal_weights(*students, atol=1e-7)


def test_a_backup_resumes_a_run_with_a_bank(tmp_path):
    students = [dense(1), dense(1)]
    compiled(None, students[0]).fit(bank_of(), epochs=5, verbose=0)
    for epochs in (2, 5):  # as if the first were interrupted
        student, bank = dense(1), bank_of()
        backup = callbacks.TrainingBackup(tmp_path, bank, delete_checkpoint=epochs == 5)
        compiled(None, student).fit(bank, epochs=epochs, callbacks=[backup], verbose=0)
    assert_equal_weights(students[0], student, atol=1e-7)


KILLED = """
import sys, time
import numpy as np
from l2rkd_tf import CallableTeacher
from l2rkd_tf.teacher_cache import cache_regions
from tests.helpers import batches

def slow(x):
    time.sleep(0.1)
    return x @ np.eye(4, 3, dtype="float32")

x = np.arange(40, dtype="float32").reshape(10, 4)
teacher = CallableTeacher(slow, 3, version="1")
cache_regions(batches(x, np.zeros(10, int), 4), teacher, "swap", 50, sys.argv[1], verbose=False)
"""


@pytest.mark.stress
def test_a_killed_build_goes_on_and_none_of_it_is_lost(tmp_path):
    def files():
        return sorted(tmp_path.glob("*/regions-*/0*"))

    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    while len(files()) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {path: path.read_bytes() for path in files()}
    calls = []

    def quick(x):
        calls.append(len(x))
        return x @ np.eye(4, 3, dtype="float32")

    x = np.arange(40, dtype="float32").reshape(10, 4)
    teacher = CallableTeacher(quick, 3, version="1")
    data = batches(x, np.zeros(10, int), 4)
    bank = cache_regions(data, teacher, "swap", 50, tmp_path, verbose=False)
    assert 1 <= len(calls) <= 1 + 3 * (50 - len(kept) + 1)
    assert {path: path.read_bytes() for path in kept} == kept
    for one in passes(bank, 3):
        for batch, _ in one:
            np.testing.assert_allclose(batch.region_outputs, batch.region_points[:, :3], atol=1e-6)


@pytest.mark.stress
def test_two_processes_build_one_bank(tmp_path):
    command = [sys.executable, "-c", KILLED.replace("0.1", "0.0"), str(tmp_path)]
    both = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list(tmp_path.glob("*/regions-*/0*"))) == 50


def test_an_interrupted_build_goes_on_with_the_next_pass(tmp_path):
    class Stop(Exception):
        pass

    calls, last = [], None

    def function(x):
        if len(calls) == last:
            raise Stop
        calls.append(len(x))
        return TEACHER(x, training=False).numpy()

    teacher = CallableTeacher(function, 3, version="1")
    cache_teacher(batches(X, Y), teacher, tmp_path, verbose=False)
    first = len(calls)
    last = first + 2 * 3 + 1  # in the third pass of points
    with pytest.raises(Exception, match="Stop"):
        bank_of(teacher, path=tmp_path)
    (folder,) = tmp_path.glob("*/regions-*")
    assert [path.name[:5] for path in sorted(folder.iterdir())] == ["00000", "00001"]
    last = None
    bank_of(teacher, path=tmp_path)
    assert len(calls) == first + 3 * 3 + 1
    bank = bank_of(teacher, path=tmp_path)
    assert len(calls) == first + 3 * 3 + 1
    for one in passes(bank, 3):
        for x, _ in one:
            np.testing.assert_allclose(x.region_outputs, TEACHER(x.region_points), atol=1e-6)


def test_altered_files_are_made_again(tmp_path):
    teacher, calls = counted(dense(0))
    bank_of(teacher, path=tmp_path)
    (path,) = tmp_path.glob("*/regions-*/00001-*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"\0\0\0\0")
    asked = len(calls)
    bank = bank_of(teacher, path=tmp_path)
    assert len(calls) == asked + 3
    for one in passes(bank, 3):
        for x, _ in one:
            np.testing.assert_allclose(x.region_outputs, dense(0)(x.region_points), atol=1e-6)


OTHERS = {
    "teacher": {"teacher": dense(5)},
    "region": {"region": "segment"},
    "radius": {"region": regions.Swap(0.3)},
    "seed": {"seed": 1},
    "batch_size": {"size": 5},
    "shuffle": {"shuffle": False},
    "examples": {"x": X + 1},
    "dtype": {"dtype": "float16"},
}


@pytest.mark.parametrize("name", few(["teacher", "radius", "examples"], OTHERS))
def test_files_of_something_else_are_never_used(tmp_path, name):
    other = OTHERS[name]
    bank_of(path=tmp_path)
    bank = bank_of(path=tmp_path, **other)
    assert len(list(tmp_path.glob("*/regions-*"))) == 2
    teacher = other.get("teacher") or dense(0)
    for x, _ in passes(bank, 1)[0]:
        np.testing.assert_allclose(x.region_outputs, teacher(x.region_points), atol=1e-2)


def test_more_passes_keep_the_earlier_ones(tmp_path):
    teacher, calls = counted(dense(0))
    bank_of(teacher, path=tmp_path, k=2)
    asked = len(calls)
    bank_of(teacher, path=tmp_path, k=3)
    assert len(calls) == asked + 3


def test_outputs_that_do_not_fit_into_memory_are_read_from_files(tmp_path):
    small = {"memory_bytes": X.nbytes + 10 * 20}  # the examples, with labels and outputs
    with pytest.raises(ValueError, match=r"`path` must be given .* 1,200 bytes of outputs"):
        bank_of(k=10, **small)
    on_disk, in_memory = bank_of(k=10, path=tmp_path, **small), bank_of(k=10, path=tmp_path)
    assert len(list(tmp_path.glob("*/regions-*"))) == 1
    for one, other in zip(passes(on_disk, 11), passes(in_memory, 11), strict=True):
        for (x, _), (expected, _) in zip(one, other, strict=True):
            np.testing.assert_array_equal(x.region_outputs, expected.region_outputs)
    compiled(None, dense(1)).fit(on_disk, epochs=2, verbose=0)


def test_several_outputs_and_structures_of_inputs():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((2, 3), name="b")}
    flat = keras.layers.Concatenate()([inputs["a"], keras.layers.Flatten()(inputs["b"])])
    outputs = {
        "kind": keras.layers.Dense(3, name="kind")(flat),
        "map": keras.layers.Dense(2, name="map")(inputs["b"]),
    }
    teacher, student = keras.Model(inputs, outputs), keras.Model(inputs, outputs)
    student = keras.models.clone_model(student)
    x = {"a": X, "b": np.random.normal(size=(10, 2, 3)).astype("float32")}
    data = tf.data.Dataset.from_tensor_slices((x,)).batch(4)
    bank = cache_regions(data, teacher, "segment", 2, verbose=False)
    for (element,) in bank.as_numpy_iterator():
        expected = teacher(element.region_points)
        for name in ("kind", "map"):
            np.testing.assert_allclose(element.region_outputs[name], expected[name], atol=1e-6)
    distiller = L2RKDDistiller(None, student, region="segment", hard_weight=0.0, seed=0)
    distiller.compile("sgd")
    logs = distiller.fit(bank, verbose=0).history
    assert logs["region_loss"][0] > 1e-3


def test_grey_images_move_as_floats():
    images = np.random.RandomState(0).randint(0, 256, (8, 6, 6, 1)).astype("uint8")
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    bank = bank_of(teacher, None, x=images, y=Y[:8])
    assert bank.element_spec[0].inputs.dtype == tf.uint8
    assert bank.element_spec[0].region_points.dtype == tf.float32
    for x, _ in passes(bank, 1)[0]:
        np.testing.assert_allclose(x.region_outputs, teacher(x.region_points), atol=1e-5)


def test_the_same_default_region_as_that_of_a_distiller():
    bank, student = bank_of(region=None), dense(1)
    distiller = L2RKDDistiller(None, student, hard_weight=0.0, seed=0)
    distiller.compile("sgd")
    distiller.fit(bank, verbose=0)


def test_a_radius_that_changes_later_changes_no_points():
    region = regions.Swap(0.5)
    bank = bank_of(region=region)
    before = passes(bank, 1)[0]
    region.radius = 0.1
    bank.cursor.set_batch(0)
    for (x, _), (again, _) in zip(before, passes(bank, 1)[0], strict=True):
        np.testing.assert_array_equal(x.region_points, again.region_points)


def test_size_and_time_are_printed_before_the_teacher_runs(capsys, tmp_path):
    cache_regions(batches(X, Y), TEACHER, "swap", 3, tmp_path)
    assert "3 for each of 10 examples; 0.0 MB of outputs; about" in capsys.readouterr().out
    cache_regions(batches(X, Y), TEACHER, "swap", 3, tmp_path)
    assert "Region points" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`points_per_example` must be a positive integer. Received: .*=0"),
        ({"region": regions.LinearRegion(None)}, "`region` must not run the teacher"),
        (
            {"region": regions.Mixture([regions.Swap(), regions.LinearRegion(None)])},
            "`region` must not run the teacher",
        ),
        ({"region": "nothing"}, "`region`"),
        ({"memory_bytes": 10}, "`memory_bytes` must be enough for the examples"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        bank_of(path=tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_region_points": 2}, "`num_region_points` must be 1 .*=2"),
        (
            {"region_targets": "interpolated", "region": "segment"},
            "`region_targets` must be 'teacher'",
        ),
        ({"region": "segment"}, "`x` must carry points of the distiller's own `region`"),
        ({"region": regions.Swap(0.3)}, "`x` must carry points of the distiller's own `region`"),
    ],
)
def test_distillers_that_cannot_use_a_bank(options, message):
    region = options.pop("region", "swap")
    bank = bank_of(region="segment" if "region_targets" in options else "swap")
    distiller = L2RKDDistiller(None, dense(1), region=region, hard_weight=0.0, **options)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match=message):
        distiller.fit(bank, verbose=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda distiller: callbacks.RegionRadiusScheduler(lambda epoch: 1.0 if epoch else 0.5),
        lambda distiller: callbacks.BlindRegionSearch([regions.Swap(), regions.Ball(9.0)], X),
        lambda distiller: keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: setattr(distiller, "region", regions.Segment())
        ),
    ],
    ids=["radius", "search", "assignment"],
)
def test_a_callback_that_changes_the_region_of_a_bank_is_refused(change):
    """The points are there already: a new region would be logged, and have no effect."""
    distiller = compiled(TEACHER, dense(1))
    bank = bank_of(region="swap")
    with pytest.raises(ValueError, match="points of the distiller's own `region`.*no callback"):
        distiller.fit(bank, epochs=3, verbose=0, callbacks=[change(distiller)])


def test_a_schedule_that_leaves_the_region_of_a_bank_is_accepted():
    distiller = compiled(TEACHER, dense(1))
    scheduler = callbacks.RegionRadiusScheduler(lambda epoch: 0.5)
    listed = keras.callbacks.CallbackList([scheduler], model=distiller)
    for given in ([scheduler], listed, listed):
        distiller.fit(bank_of(region="swap"), epochs=2, verbose=0, callbacks=given)
    distiller.region = "segment"
    distiller.fit(batches(X, Y), verbose=0, callbacks=[scheduler])


@pytest.mark.parametrize("make", [cache_teacher, cache_regions])
def test_monitors_take_the_inputs_of_cached_data(make):
    cached = make(batches(X, Y), TEACHER, shuffle=False, verbose=False)
    logs = []
    for points in (cached, batches(X, Y)):
        distiller = compiled(TEACHER, dense(1))
        search = callbacks.BlindRegionSearch([regions.Segment(0.5), regions.Swap()], points)
        monitor = callbacks.LocalShapeMonitor(points, region=regions.Segment())
        history = distiller.fit(X, Y, verbose=0, shuffle=False, callbacks=[search, monitor]).history
        logs.append(history)
    assert logs[0] == logs[1]
    assert any(name.startswith("val_fidelity") for name in logs[0])


def test_other_refusals():
    bank = bank_of()
    distiller = L2RKDDistiller(dense(9), dense(1), region="swap", hard_weight=0.0)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="own `teacher`"):
        distiller.fit(bank, verbose=0)
    with pytest.raises(ValueError, match="bare CachedRegions"):
        distiller.train_step(next(iter(bank))[0])
    with pytest.raises(ValueError, match="already CachedRegions"):
        cache_teacher(bank, dense(0), verbose=False)
    masked = keras.Sequential([keras.Input((5, 2)), keras.layers.Masking(), keras.layers.LSTM(3)])
    x = np.random.normal(size=(8, 5, 2)).astype("float32")
    bank = bank_of(masked, "segment", x=x, y=Y[:8])
    distiller = L2RKDDistiller(
        None, keras.models.clone_model(masked), region="segment", hard_weight=0.0
    )
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="`x` must not carry region points where a model masks"):
        distiller.fit(bank, verbose=0)


def test_a_region_that_asks_the_teacher_is_refused_inside_mixtures_of_mixtures():
    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    inner = regions.Mixture([regions.LinearRegion(teacher), regions.Swap()])
    data = tf.data.Dataset.from_tensor_slices((np.eye(4), np.arange(4))).batch(2)
    with pytest.raises(ValueError, match="`region` must not run the teacher"):
        cache_regions(data, teacher, regions.Mixture([inner, regions.Swap()]), 2, verbose=False)
