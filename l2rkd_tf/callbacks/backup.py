"""Backups from which an interrupted run resumes exactly."""

import contextlib
import json
import os
import re
import shutil
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.callbacks.averages import SwappedAverages
from l2rkd_tf.callbacks.base import check_counts
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.distiller.keras_fixes import set_initial_epoch, swap_averages
from l2rkd_tf.distiller.seeds import load_seeds, optimizer_variables, save_seeds
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.members import kind_of, set_radii
from l2rkd_tf.utils import distribution
from l2rkd_tf.utils.files import atomic_path, check_space
from l2rkd_tf.utils.types import Logs, PathLike

__all__ = ["TrainingBackup"]

# A backup, or what is left of one if the process was killed while writing it.
_NAME = re.compile(r"epoch-(\d{6,})|\.epoch-\d{6,}\..*\.partial")
_WEIGHTS, _SEEDS, _STATE = _FILES = "model.weights.h5", "seeds.npz", "state.json"
# Workers are at most one backup apart.
_KEPT = 2
# Settings of a distiller that callbacks may change and weight files do not contain.
_NUMBERS = ("temperature", "hard_weight", "kd_weight", "region_weight")


class TrainingBackup(keras.callbacks.Callback):
    """Backs up a run after each epoch; the same program, started again, resumes it exactly.

    Weights, optimizer state, epoch number, history, order of the data and random seed states are
    restored. On one device with deterministic kernels, an interrupted run therefore ends with bit
    for bit the same weights as one that was never interrupted. Backups are written atomically, even
    if the process is killed; the newest two are kept, and deleted when training has ended.

    It works with any Keras model that is built before `fit`, also an `L2RKDDistiller`. Put it last
    in the list of callbacks, so that it saves what the others log and set. The state of other
    callbacks (such as the patience of `EarlyStopping`) is not saved. It replaces
    `keras.callbacks.BackupAndRestore`.

    With `tf.distribute.MultiWorkerMirroredStrategy` each worker writes to its own
    `directory/worker-<index>`, and all resume from the newest epoch that every worker has. All
    replicas of a model restart with the batch statistics of the first one.

    Args:
        directory: Folder for the backups of only this run; created if missing.
        data: The shuffled or augmented dataset that `l2rkd_tf.data.load` returned for training, to
            resume its order. `fit` must take its batches in their order, from the dataset itself or
            one made from it by `repeat`, `map` or `prefetch`, and nothing else may iterate it
            during training. `None` for data that are the same in every pass.
        save_freq: Epochs from one backup to the next, at least 1.
        delete_checkpoint: Whether to delete the backups when training has ended. If not, repeating
            the same `fit` ends at once, and one with more `epochs` resumes.

    Raises:
        ValueError: If `directory` is not the path of a folder, `data` has no `cursor`, or
            `save_freq` is below 1; when training starts, if the model is not built or is not the
            one that was backed up; during training, if `data` is not what `fit` iterates.
        OSError: If the folder cannot be written to, or is full. Earlier backups are untouched.

    Example:
        >>> import tempfile
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> model.compile("sgd", "mse")
        >>> folder = tempfile.mkdtemp()
        >>> for epochs in (2, 5):  # as if the first were a run that is interrupted after 2 epochs
        ...     backup = TrainingBackup(folder, delete_checkpoint=epochs == 5)
        ...     history = model.fit(
        ...         np.ones((8, 4)), np.ones((8, 3)), epochs=epochs, callbacks=[backup], verbose=0
        ...     )
        >>> history.epoch
        [0, 1, 2, 3, 4]

    """

    def __init__(
        self,
        directory: PathLike,
        data: tf.data.Dataset | None = None,
        save_freq: int = 1,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        check_counts(save_freq=save_freq)
        self.directory = _checked_directory(directory)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._cursor = _cursor_of(data)
        self._folder = self.directory
        self._state: dict[str, Any] = {}
        self._region: Region | None = None
        self._is_begun = False
        self._batches_of_epoch = 0
        self._averages = SwappedAverages()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Restores the newest backup, if there is one."""
        if not self.model.built:
            raise ValueError(
                "`callbacks` may contain a TrainingBackup only in the fit() of a built model. "
                f"Received: the fit() of the unbuilt model {self.model.name!r}. Call it on a batch "
                "first."
            )
        self._region = self.model.region if isinstance(self.model, L2RKDDistiller) else None
        self._state = {"batches": 0, "epochs": [], "history": {}}
        self._is_begun = False
        self._averages = SwappedAverages()
        set_initial_epoch(self.model, None)
        with self.model.distribute_strategy.scope():
            worker = distribution.worker_name()
            self._folder = os.path.join(self.directory, worker) if worker else self.directory
            with _explained(f"`directory` {self._folder!r} could not be made"):
                os.makedirs(self._folder, exist_ok=True)
            epochs = distribution.common_numbers(_epochs_in(self._folder), _KEPT)
            if epochs:
                self._restore(max(epochs))
        # So that code that reads the data before the first step sees the same in every run.
        self._set_cursor(0)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before the first epoch, restores the history and the position in the data."""
        self._batches_of_epoch = 0
        if self._is_begun:
            return
        self._is_begun = True
        set_initial_epoch(self.model, None)  # a later fit() starts at its own `initial_epoch`
        self._restore_history()
        self._set_cursor(self._state["batches"])

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Counts batches."""
        self._batches_of_epoch = batch + 1
        self._averages.note(self.model)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes a backup, if one is due."""
        self._count_batches()
        self._state["epochs"].append(epoch)
        for name, value in (logs or {}).items():
            self._state["history"].setdefault(name, []).append(_plain(value))
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if (epoch + 1) % self.save_freq == 0 or (is_last and not self.delete_checkpoint):
            with self.model.distribute_strategy.scope():
                self._write(epoch + 1)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Deletes the backups, unless `delete_checkpoint` is False."""
        if not self._is_begun:  # the run was complete when it was restored
            set_initial_epoch(self.model, None)
            self._restore_history()
        if not self.delete_checkpoint:
            return
        for name in _backup_names(self._folder):
            shutil.rmtree(os.path.join(self._folder, name))
        for folder in (self._folder, self.directory):
            with contextlib.suppress(OSError):  # not empty, or gone already
                os.rmdir(folder)

    def _set_cursor(self, batch):
        if self._cursor is not None:
            self._cursor.set_batch(batch)

    def _count_batches(self):
        """Adds the batches of an epoch to those of the run.

        Keras counts whole executions of `steps_per_execution` steps, even if the data had fewer
        batches left: then all of these were taken.
        """
        batches = self._state["batches"] + self._batches_of_epoch
        if self._cursor is not None:
            missing = batches - self._cursor.batch
            if missing >= self.model.steps_per_execution:
                raise ValueError(
                    "`data` must be what fit() takes its batches from. Received: data that "
                    f"yielded {self._cursor.batch} batches, but fit() trained on {batches}. Do not "
                    "`cache` it, and pass TrainingBackup the same object as fit()."
                )
            batches -= max(missing, 0)
        self._state["batches"] = batches

    def _restore_history(self):
        if self._state["epochs"]:
            self.model.history.epoch = list(self._state["epochs"])
            self.model.history.history = {
                name: list(values) for name, values in self._state["history"].items()
            }

    def _restore(self, epoch):
        folder = os.path.join(self._folder, _name_of(epoch))
        optimizer = self.model.optimizer
        if optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        try:
            self.model.load_weights(os.path.join(folder, _WEIGHTS))
            load_seeds(self.model, os.path.join(folder, _SEEDS))
            with open(os.path.join(folder, _STATE), encoding="utf-8") as file:
                state = json.load(file)
            self._set_numbers(state.pop("numbers"), state.pop("regions"))
            if state.pop("averages_are_swapped"):
                swap_averages(self.model)
        except ValueError as error:
            raise ValueError(
                "`directory` must hold backups of the run that is being started. Received: "
                f"{folder!r}, which does not fit model and region. Delete it to start from scratch."
            ) from error
        self._state = state
        set_initial_epoch(self.model, epoch)

    def _numbers(self):
        if not isinstance(self.model, L2RKDDistiller):
            return {"numbers": {}, "regions": [_description_of(None)]}
        numbers = {name: getattr(self.model, name) for name in _NUMBERS}
        # That of the beginning, and what a callback made of it, with which a later fit begins.
        regions = [_description_of(region) for region in (self._region, self.model.region)]
        return {"numbers": numbers, "regions": regions}

    def _set_numbers(self, numbers, regions):
        own, (kind, radius) = _description_of(self._region), regions[0]
        if own[0] not in [one for one, _ in regions]:
            raise ValueError("The region is of another kind.")
        for name, value in numbers.items():
            setattr(self.model, name, value)
        if radius is not None and own[0] == kind and own != regions[-1]:
            set_radii(self._region, radius)

    def _write(self, epoch):
        folder = os.path.join(self._folder, _name_of(epoch))
        with _explained(
            f"The backup of epoch {epoch} could not be written to {self._folder!r}, where earlier "
            "ones are untouched"
        ):
            # Raises if the folder was deleted, which `atomic_path` would create again.
            check_space(self._folder, [*self.model.variables, *optimizer_variables(self.model)])
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                self._write_files(temporary)
            # Newer ones belong to a run that not all workers could resume.
            earlier = [number for number in _epochs_in(self._folder) if number <= epoch]
            kept = {_name_of(number) for number in sorted(earlier)[-_KEPT:]}
            for name in _backup_names(self._folder) - kept:
                _remove(os.path.join(self._folder, name))

    def _write_files(self, folder):
        self.model.save_weights(os.path.join(folder, _WEIGHTS))
        save_seeds(self.model, os.path.join(folder, _SEEDS))
        with open(os.path.join(folder, _STATE), "w", encoding="utf-8") as file:
            swapped = {"averages_are_swapped": self._averages.are_swapped(self.model)}
            json.dump(self._state | self._numbers() | swapped, file)


def _checked_directory(directory):
    if not isinstance(directory, (str, os.PathLike)) or not os.fspath(directory):
        raise ValueError(
            "`directory` must be the path of a folder for the backups of this run. "
            f"Received: directory={directory!r}"
        )
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise ValueError(
            f"`directory` must be a folder. Received: directory={directory!r}, which is a file"
        )
    return os.fspath(directory)


def _cursor_of(data):
    cursor = getattr(data, "cursor", None)
    if data is not None and cursor is None:
        raise ValueError(
            "`data` must be a dataset from l2rkd_tf.data.load that is shuffled or augmented, or "
            f"None. Received: data={data!r}. For datasets made from one, such as `train.repeat()`, "
            "pass `train`."
        )
    return cursor


@contextlib.contextmanager
def _explained(what):
    try:
        yield
    except OSError as error:
        raise OSError(f"{what}: {error}") from error


def _name_of(epoch):
    return f"epoch-{epoch:06d}"


def _backup_names(folder):
    """Names of all complete and incomplete backups in the folder, and of nothing else."""
    listed = os.listdir(folder) if os.path.isdir(folder) else ()  # someone deleted it
    return {name for name in listed if _NAME.fullmatch(name)}


def _epochs_in(folder):
    """Numbers of the epochs with a complete backup."""
    return [
        int(_NAME.fullmatch(name)[1])
        for name in _backup_names(folder)
        if not name.endswith(".partial")
        and all(os.path.isfile(os.path.join(folder, name, file)) for file in _FILES)
    ]


def _remove(folder):
    if os.path.isdir(folder):
        shutil.rmtree(folder)


def _plain(value):
    """A value as plain numbers and lists, for JSON."""
    return np.asarray(value).tolist()


def _description_of(region):
    """Kind and radius of a region."""
    return [kind_of(region), None if region is None else _plain(region.radius)]
