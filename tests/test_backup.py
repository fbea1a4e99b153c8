import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, data, methods, regions
from l2rkd_tf.callbacks import TrainingBackup
from l2rkd_tf.data import digits, offline
from tests.killed_run import network

EPOCHS, BATCH = 4, 8
PASS = 8  # Batches of 60 examples; the last one has 4.


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    offline.prepare_offline(digits.Digits(data_dir=directory))
    return directory


def compiled(model, steps_per_execution=1, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, **options)
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    return model


def distiller(**arguments):
    return L2RKDDistiller(network(8), network(6, 0.2), seed=1, **arguments)


def contrast():
    return methods.CRD(num_negatives=16)  # which has a memory


# What is trained, and the steps of an epoch, or None for a pass through the data.
RUNS = {
    "distiller": (lambda: compiled(distiller()), None),
    "method": (lambda: compiled(distiller(distillation_losses=[contrast()])), None),
    "student": (lambda: compiled(network(6, 0.5)), None),
    "accumulation": (
        lambda: compiled(distiller(), use_ema=True, gradient_accumulation_steps=3),
        None,
    ),
    "executions": (lambda: compiled(network(6, 0.5), steps_per_execution=3), None),
    "repeat": (lambda: compiled(network(6, 0.5)), 5),
    "repeat, executions": (lambda: compiled(network(6, 0.5), steps_per_execution=2), 5),
    "repeat, executions of a pass": (
        lambda: compiled(network(6, 0.5), steps_per_execution=3),
        PASS,
    ),
}
# Where Keras takes more batches in an epoch than it is told to.
TAKEN = {"repeat": 5, "repeat, executions": 6, "repeat, executions of a pass": 9}


def load(data_dir, seed=2):
    return data.load(
        "digits", "train[:60]", batch_size=BATCH, augment="crop", seed=seed, data_dir=data_dir
    )


def noted_in(seen):
    def note(images):
        seen.append(images.tobytes())
        return images

    def noted(images, labels):
        return tf.ensure_shape(tf.numpy_function(note, [images], tf.float32), images.shape), labels

    return noted


def train(name, data_dir, directory=None, others=(), epochs=EPOCHS, seen=None, **arguments):
    """Trains as a program that is started again does; returns the model and its history."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    build, steps_per_epoch = RUNS[name]
    model = build()
    if not model.built:
        model(np.zeros((1, 8, 8, 1)))
    train_data = load(data_dir)
    batches = train_data.map(noted_in([] if seen is None else seen))
    if steps_per_epoch:
        batches = batches.repeat()
    if directory is not None:
        others = [*others, TrainingBackup(directory, train_data, **arguments)]
    history = model.fit(
        batches, epochs=epochs, steps_per_epoch=steps_per_epoch, callbacks=others, verbose=0
    )
    return model, history


def state(model):
    """Everything that changes when a model is trained."""
    variables = [*model.variables, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


def assert_equal_runs(found, expected):
    (model, history), (other, other_history) = found, expected
    assert history.history == other_history.history
    assert history.epoch == other_history.epoch == list(range(EPOCHS))
    for one, another in zip(state(model), state(other), strict=True):
        np.testing.assert_array_equal(one, another)


class Interrupted(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Raises, or does something else, at the end of a batch, counted over the epochs of a fit."""

    def __init__(self, batch, act=None):
        super().__init__()
        self.last, self.act, self.begun = batch, act, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.begun + batch >= self.last:
            if self.act is None:
                raise Interrupted
            self.act()
        self.of_epoch = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.begun += self.of_epoch


def names(directory):
    return sorted(os.listdir(directory))


# Runs that go on.


@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_equals_one_that_is_not(name, data_dir, tmp_path):
    whole_seen, seen = [], []
    whole = train(name, data_dir, seen=whole_seen)
    taken = TAKEN.get(name, PASS)
    batch = random.Random(name).randrange(taken, EPOCHS * taken)
    with pytest.raises(Interrupted):
        train(name, data_dir, tmp_path / "a", [Interrupt(batch)])
    done = batch // taken
    assert names(tmp_path / "a") == [f"epoch-00000{n}" for n in range(max(1, done - 1), done + 1)]
    assert_equal_runs(train(name, data_dir, tmp_path / "a", seen=seen), whole)
    # Some batches are read ahead.
    assert len(seen) >= (EPOCHS - done) * taken
    assert seen[: (EPOCHS - done) * taken] == whole_seen[done * taken : EPOCHS * taken]
    assert not (tmp_path / "a").exists()


DIES = """
import os, signal, sys
import numpy as np
from tests.test_backup import Interrupt, train

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

moment, data_dir, directory = sys.argv[1:]
others = [Interrupt(12, die)] if moment == "training" else []
if moment == "writing":
    def savez(path, *states):  # what was written before it is on the disk by now
        if "epoch-000003" in path:
            die()
        real(path, *states)
    real, np.savez = np.savez, savez
train("distiller", data_dir, directory, others)
"""


def run_that_dies(moment, data_dir, directory):
    finished = subprocess.run(
        [sys.executable, "-c", DIES, moment, str(data_dir), str(directory)],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr[-2000:]


def test_a_run_that_is_killed_equals_one_that_is_not(data_dir, tmp_path):
    whole = train("distiller", data_dir)
    run_that_dies("training", data_dir, tmp_path)
    assert names(tmp_path) == ["epoch-000001"]
    run_that_dies("writing", data_dir, tmp_path)
    partial, *complete = names(tmp_path)
    assert partial.startswith(".epoch-000003.") and partial.endswith(".partial")
    assert complete == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("distiller", data_dir, tmp_path, keep=True), whole)
    assert names(tmp_path) == ["epoch-000003", "epoch-000004"]


@pytest.fixture(scope="module")
def interrupted_once(data_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("interrupted") / "backup"
    with pytest.raises(Interrupted):
        train("student", data_dir, directory, [Interrupt(2 * PASS + 3)])
    assert names(directory) == ["epoch-000001", "epoch-000002"]
    return directory


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """The folder of a run that was interrupted in its third epoch."""
    return shutil.copytree(interrupted_once, tmp_path / "backup")


@pytest.fixture(scope="module")
def whole(data_dir):
    return train("student", data_dir)


class Epochs(keras.callbacks.Callback):
    """Notes the epochs of a fit."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def test_backups_that_are_not_whole_are_ignored(data_dir, interrupted, whole):
    newest = interrupted / "epoch-000002"
    for epoch, missing in enumerate(["model.weights.h5", "seeds.npz", "state.json"], start=3):
        damaged = shutil.copytree(newest, interrupted / f"epoch-00000{epoch}")
        (damaged / missing).unlink()
    newest.rename(interrupted / ".epoch-000002.abc.partial")
    epochs = Epochs()
    assert_equal_runs(train("student", data_dir, interrupted, [epochs], keep=True), whole)
    assert epochs.epochs == [1, 2, 3]
    assert names(interrupted) == ["epoch-000003", "epoch-000004"]


def test_other_files_stay_and_other_fits_begin_anew(data_dir, interrupted, whole):
    (interrupted / "epoch-000009.txt").write_text("mine")
    (interrupted / "epoch-best").mkdir()
    model, history = train("student", data_dir, interrupted)
    assert_equal_runs((model, history), whole)
    assert names(interrupted) == ["epoch-000009.txt", "epoch-best"]
    assert model.fit(load(data_dir), epochs=1, verbose=0).epoch == [0]


def test_backups_that_are_kept(data_dir, tmp_path, whole):
    # 3 is no multiple of 2, but the last epoch.
    train("student", data_dir, tmp_path, epochs=3, save_freq=2, delete_checkpoint=False)
    assert names(tmp_path) == ["epoch-000002", "epoch-000003"]
    more, complete = Epochs(), Epochs()
    assert_equal_runs(train("student", data_dir, tmp_path, [more], keep=True), whole)
    assert more.epochs == [3]
    assert_equal_runs(train("student", data_dir, tmp_path, [complete], keep=True), whole)
    shorter = train("student", data_dir, tmp_path, [complete], epochs=EPOCHS - 2)
    assert_equal_runs(shorter, whole)
    assert complete.epochs == []
    assert not tmp_path.exists()


def test_the_order_does_not_depend_on_who_iterated_the_data_before(data_dir, tmp_path, whole):
    class Reader(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.first = next(iter(train_data))[0].numpy()

    keras.utils.set_random_seed(3)
    train_data, readers = load(data_dir), [Reader(), Reader()]
    next(iter(train_data))
    for reader, number in zip(readers, (13, None), strict=True):
        keras.utils.set_random_seed(3)
        model = RUNS["student"][0]()
        others = [TrainingBackup(tmp_path, train_data), reader]
        try:
            interrupt = [] if number is None else [Interrupt(number)]
            history = model.fit(
                train_data, epochs=EPOCHS, callbacks=[*interrupt, *others], verbose=0
            )
        except Interrupted:
            assert number
    assert_equal_runs((model, history), whole)
    np.testing.assert_array_equal(readers[0].first, readers[1].first)


def test_what_callbacks_change_of_a_distiller_is_kept(data_dir, tmp_path):
    def build():
        keras.utils.set_random_seed(3)
        region = regions.Mixture([regions.Segment(), regions.Patch(grid=2)])
        return compiled(distiller(region=region))

    def change(epoch, logs):
        if epoch == 0:
            model.temperature, model.hard_weight, model.region_weight = 2.0, 0.0, 0.5
            model.region.regions[1].radius = 0.25

    def fit(*others, epochs=EPOCHS):
        changing = keras.callbacks.LambdaCallback(on_epoch_begin=change)
        train_data = load(data_dir)
        keeping = TrainingBackup(tmp_path, train_data)
        return model.fit(
            train_data, epochs=epochs, callbacks=[changing, *others, keeping], verbose=0
        )

    model = build()
    expected = model, fit()
    model = build()
    with pytest.raises(Interrupted):
        fit(Interrupt(PASS + 2))
    model = build()
    assert_equal_runs((model, fit()), expected)
    assert (model.temperature, model.hard_weight, model.region_weight) == (2.0, 0.0, 0.5)
    assert model.region.radius == (1.0, 0.25)


def test_a_search_for_a_region_is_not_overruled(tmp_path):
    x, y = np.random.RandomState(0).rand(8, 8, 8, 1), np.arange(8)
    candidates = [regions.Ball(0.001), regions.Ball(5.0)]
    for epochs in (1, 2):
        model = compiled(distiller(region=candidates[0]))
        search = callbacks.BlindRegionSearch(candidates, x)
        keeping = TrainingBackup(tmp_path, keep=True)
        model.fit(x, y, epochs=epochs, callbacks=[search, keeping], verbose=0)
        assert model.region is candidates[1]
    assert [region.radius for region in candidates] == [0.001, 5.0]


def test_arrays_and_models_without_an_optimizer_can_be_backed_up(tmp_path):
    class Counter(keras.Model):
        def __init__(self):
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
            self.built = True

        def train_step(self, batch):
            self.count.assign_add(1.0)
            return {"count": self.count.value, "where": tf.stack([self.count.value, 0.5])}

    for epochs in (2, 3):
        model = Counter()
        model.compile()
        model.optimizer = None
        keeping = TrainingBackup(tmp_path, keep=True)
        history = model.fit(
            np.zeros(4), batch_size=2, epochs=epochs, callbacks=[keeping], verbose=0
        )
    assert history.history["count"] == [2.0, 4.0, 6.0]
    assert np.asarray(history.history["where"]).tolist() == [[2.0, 0.5], [4.0, 0.5], [6.0, 0.5]]


def test_replicas_go_on_together(data_dir, tmp_path):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def fit(*others):
        keras.utils.set_random_seed(3)
        train_data = load(data_dir)
        with strategy.scope():
            model = compiled(network(6, 0.5))
        others = [*others, TrainingBackup(tmp_path, train_data)]
        return model, model.fit(train_data, epochs=EPOCHS, callbacks=others, verbose=0)

    model, history = fit()
    with pytest.raises(Interrupted):
        fit(Interrupt(PASS + 5))
    resumed, resumed_history = fit()
    for one, other in zip(state(resumed), state(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
    np.testing.assert_allclose(resumed_history.history["loss"], history.history["loss"], rtol=1e-5)
    assert resumed_history.epoch == list(range(EPOCHS))


# Folders that cannot be written to.


def test_a_folder_that_somebody_deletes(data_dir, tmp_path, whole):
    deleting = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch < EPOCHS - 1 or shutil.rmtree(tmp_path)
    )
    with pytest.raises(OSError, match=f"epoch {EPOCHS} could not be written"):
        train("student", data_dir, tmp_path, [deleting])
    assert_equal_runs(train("student", data_dir, tmp_path, [deleting], save_freq=EPOCHS + 1), whole)


def test_a_folder_that_cannot_be_made(data_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file.*could not be made"):
        train("student", data_dir, tmp_path / "file" / "backup")


def test_a_full_disk_leaves_earlier_backups(data_dir, interrupted, whole, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage(9000, 8000, 1000))
        with pytest.raises(OSError, match="(?s)epoch 3 .*backup'.*untouched.*1,000 bytes free"):
            train("student", data_dir, interrupted)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("student", data_dir, interrupted), whole)


def test_a_file_that_cannot_be_written_leaves_earlier_backups(
    data_dir, interrupted, whole, monkeypatch
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    dump = json.dump

    def limited(value, file):
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
        try:
            dump(value, file)
            file.flush()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", limited)
        with pytest.raises(OSError, match="epoch 3 .*backup'.*File too large"):
            train("student", data_dir, interrupted)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("student", data_dir, interrupted), whole)


# Wrong use.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directory": ""}, "`directory` must be .* Received: directory=''"),
        ({"directory": None}, "`directory` must be .* Received: directory=None"),
        ({"directory": __file__}, "`directory` must be a folder. .*which is a file"),
        ({"save_freq": 0}, "`save_freq` .* Received: save_freq=0"),
        ({"every": 1.5}, "`every`"),
        ({"data": tf.data.Dataset.range(3)}, "`data` must be .* Received: data=<"),
        ({"data": np.zeros(3)}, "`data`"),
    ],
)
def test_arguments_out_of_range(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        TrainingBackup(**{"directory": tmp_path / "a", **arguments})
    assert not (tmp_path / "a").exists()


def test_data_whose_passes_are_alike(data_dir, tmp_path):
    validation = data.load("digits", "validation", batch_size=100, data_dir=data_dir)
    with pytest.raises(ValueError, match="`data` must be .* shuffled or augmented"):
        TrainingBackup(tmp_path, validation)


@pytest.mark.parametrize("derive", [lambda train, other: other, lambda train, other: train.cache()])
def test_data_that_are_not_what_is_trained_on(derive, data_dir, tmp_path):
    train_data = load(data_dir)
    model = RUNS["student"][0]()
    with pytest.raises(ValueError, match="`data` must be what fit"):
        model.fit(
            derive(train_data, load(data_dir)),
            epochs=2,
            callbacks=[TrainingBackup(tmp_path, train_data)],
            verbose=0,
        )


def test_a_model_that_is_not_built(tmp_path):
    model = compiled(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="TrainingBackup in the fit.* of a built model only"):
        model.fit(np.zeros((4, 3)), np.zeros(4), callbacks=[TrainingBackup(tmp_path)], verbose=0)


@pytest.mark.parametrize("build", [lambda: network(7), lambda: distiller()])
def test_a_backup_of_another_model(build, data_dir, interrupted):
    with pytest.raises(ValueError, match="`directory` must hold backups of the run.*epoch-000002"):
        compiled(build()).fit(load(data_dir), callbacks=[TrainingBackup(interrupted)], verbose=0)
    assert names(interrupted) == ["epoch-000001", "epoch-000002"]
