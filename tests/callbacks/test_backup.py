"""Interrupted runs resume bit for bit."""

import random
import shutil
import signal
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import callbacks, regions
from l2rkd_tf.callbacks import TrainingBackup
from tests.callbacks.backup_runs import (
    EPOCHS,
    PASS,
    RUNS,
    Interrupt,
    Interrupted,
    assert_equal_runs,
    compiled,
    distiller,
    load,
    names,
    state,
    train,
)
from tests.helpers import ROOT, command_of, few, two_replicas
from tests.programs.killed_run import network

# Where Keras takes more batches in an epoch than it is told to.
TAKEN = {"repeat": 5, "repeat, executions": 6, "repeat, executions of a pass": 9}

KEPT = {"delete_checkpoint": False}


# The others differ from these in one respect each.
FEW = ("method", "repeat, executions of a pass")


@pytest.mark.parametrize("name", few(FEW, RUNS))
def test_an_interrupted_run_equals_an_uninterrupted_one(name, digits_dir, tmp_path):
    whole_seen, seen = [], []
    whole = train(name, digits_dir, seen=whole_seen)
    taken = TAKEN.get(name, PASS)
    batch = random.Random(name).randrange(taken, EPOCHS * taken)
    with pytest.raises(Interrupted):
        train(name, digits_dir, tmp_path / "a", [Interrupt(batch)])
    done = batch // taken
    assert names(tmp_path / "a") == [f"epoch-00000{n}" for n in range(max(1, done - 1), done + 1)]
    assert_equal_runs(train(name, digits_dir, tmp_path / "a", seen=seen), whole)
    # Some batches are read ahead.
    assert len(seen) >= (EPOCHS - done) * taken
    assert seen[: (EPOCHS - done) * taken] == whole_seen[done * taken : EPOCHS * taken]
    assert not (tmp_path / "a").exists()


@pytest.mark.stress
def test_a_killed_run_equals_an_uninterrupted_one(digits_dir, tmp_path):
    """Killed while it writes; `test_backup_kills.py` kills at any moment."""
    whole = train("distiller", digits_dir)
    finished = subprocess.run(
        command_of("dying_run", digits_dir, tmp_path),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr[-2000:]
    partial, *complete = names(tmp_path)
    assert partial.startswith(".epoch-000003.") and partial.endswith(".partial")
    assert complete == ["epoch-000001", "epoch-000002"]
    assert_equal_runs(train("distiller", digits_dir, tmp_path, **KEPT), whole)
    assert names(tmp_path) == ["epoch-000003", "epoch-000004"]


class Epochs(keras.callbacks.Callback):
    """Notes the epochs of a fit."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def test_incomplete_backups_are_ignored(digits_dir, interrupted, uninterrupted_run):
    newest = interrupted / "epoch-000002"
    for epoch, missing in enumerate(["model.weights.h5", "seeds.npz", "state.json"], start=3):
        damaged = shutil.copytree(newest, interrupted / f"epoch-00000{epoch}")
        (damaged / missing).unlink()
    newest.rename(interrupted / ".epoch-000002.abc.partial")
    epochs = Epochs()
    assert_equal_runs(
        train("student", digits_dir, interrupted, [epochs], **KEPT), uninterrupted_run
    )
    assert epochs.epochs == [1, 2, 3]
    assert names(interrupted) == ["epoch-000003", "epoch-000004"]


def test_other_files_stay_and_other_fits_start_from_scratch(
    digits_dir, interrupted, uninterrupted_run
):
    (interrupted / "epoch-000009.txt").write_text("mine")
    (interrupted / "epoch-best").mkdir()
    model, history = train("student", digits_dir, interrupted)
    assert_equal_runs((model, history), uninterrupted_run)
    assert names(interrupted) == ["epoch-000009.txt", "epoch-best"]
    assert model.fit(load(digits_dir), epochs=1, verbose=0).epoch == [0]


@pytest.mark.stress
def test_backups_that_are_kept(digits_dir, tmp_path, uninterrupted_run):
    # 3 isn't a multiple of 2, but the last epoch.
    train("student", digits_dir, tmp_path, epochs=3, save_freq=2, **KEPT)
    assert names(tmp_path) == ["epoch-000002", "epoch-000003"]
    more, complete = Epochs(), Epochs()
    assert_equal_runs(train("student", digits_dir, tmp_path, [more], **KEPT), uninterrupted_run)
    assert more.epochs == [3]
    assert_equal_runs(train("student", digits_dir, tmp_path, [complete], **KEPT), uninterrupted_run)
    shorter = train("student", digits_dir, tmp_path, [complete], epochs=EPOCHS - 2)
    assert_equal_runs(shorter, uninterrupted_run)
    assert complete.epochs == []
    assert not tmp_path.exists()


def test_the_order_does_not_depend_on_who_iterated_the_data_before(
    digits_dir, tmp_path, uninterrupted_run
):
    class Reader(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.first = next(iter(train_data))[0].numpy()

    keras.utils.set_random_seed(3)
    train_data, readers = load(digits_dir), [Reader(), Reader()]
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
    assert_equal_runs((model, history), uninterrupted_run)
    np.testing.assert_array_equal(readers[0].first, readers[1].first)


def test_what_callbacks_change_of_a_distiller_is_kept(digits_dir, tmp_path):
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
        train_data = load(digits_dir)
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


@pytest.mark.stress
def test_a_search_for_a_region_is_not_overruled(tmp_path):
    x, y = np.random.RandomState(0).rand(8, 8, 8, 1), np.arange(8)
    candidates = [regions.Ball(0.001), regions.Ball(5.0)]
    for epochs in (1, 2):
        model = compiled(distiller(region=candidates[0]))
        search = callbacks.BlindRegionSearch(candidates, x)
        keeping = TrainingBackup(tmp_path, **KEPT)
        model.fit(x, y, epochs=epochs, callbacks=[search, keeping], verbose=0)
        assert model.region is candidates[1]
    assert [region.radius for region in candidates] == [0.001, 5.0]


@pytest.mark.parametrize("first", [regions.Patch(grid=2), regions.Ball(0.5)])
def test_a_longer_fit_of_the_same_distiller_resumes_after_a_search(tmp_path, first):
    x, y = np.random.RandomState(0).rand(8, 8, 8, 1), np.arange(8)
    model = compiled(distiller(region=first))
    candidates = [regions.Ball(0.001), regions.Segment(0.9)]
    for epochs in (1, 3):
        search = callbacks.BlindRegionSearch(candidates, x)
        keeping = TrainingBackup(tmp_path, **KEPT)
        history = model.fit(x, y, epochs=epochs, callbacks=[search, keeping], verbose=0)
        assert history.epoch == list(range(epochs))
    radii = [region.radius for region in (first, *candidates)]
    assert radii == [1.0 if isinstance(first, regions.Patch) else 0.5, 0.001, 0.9]


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
        keeping = TrainingBackup(tmp_path, **KEPT)
        history = model.fit(
            np.zeros(4), batch_size=2, epochs=epochs, callbacks=[keeping], verbose=0
        )
    assert history.history["count"] == [2.0, 4.0, 6.0]
    assert np.asarray(history.history["where"]).tolist() == [[2.0, 0.5], [4.0, 0.5], [6.0, 0.5]]


@pytest.mark.parametrize(
    ("is_first", "atol"), [pytest.param(True, 0.0, marks=pytest.mark.stress), (False, 1e-5)]
)
def test_runs_that_exchange_weights_and_averages_resume(is_first, atol, digits_dir, tmp_path):
    def fit(*others):
        keras.utils.set_random_seed(3)
        train_data = load(digits_dir)
        model = compiled(network(6, 0.5), use_ema=True, ema_momentum=0.9)
        saving = TrainingBackup(tmp_path, train_data, **KEPT)
        exchange = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        pair = [exchange, saving] if is_first else [saving, exchange]
        model.fit(train_data, epochs=EPOCHS, callbacks=[*pair, *others], verbose=0)
        return model

    model = fit()
    shutil.rmtree(tmp_path)
    with pytest.raises(Interrupted):
        fit(Interrupt(PASS + 5))
    for one, other in zip(state(fit()), state(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.mark.stress
def test_replicas_resume_together(digits_dir, tmp_path):
    strategy = two_replicas()

    def fit(*others):
        keras.utils.set_random_seed(3)
        train_data = load(digits_dir)
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
