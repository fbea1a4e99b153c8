"""TensorBoard: curves, figures and settings of a run, also of one that is resumed."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2rkd_tf.callbacks.base import check_counts
from l2rkd_tf.callbacks.events import drop_epochs, write_figure
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.utils.tables import markdown_table
from l2rkd_tf.utils.types import Logs, PathLike

__all__ = ["DistillationTensorBoard"]

_NUMBERS = ("temperature", "hard_weight", "kd_weight", "region_weight")


class DistillationTensorBoard(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, extended for distillation.

    Like Keras's callback, it writes every log of an epoch as `epoch_<name>`, in the run `train` or,
    for logs that start with `val_`, in `validation`; and the learning rate. It adds

    - the settings of an `L2RKDDistiller` in each epoch, scheduled or not: `epoch_temperature`
      (`epoch_box_temperature`, ... of outputs with their own), `epoch_hard_weight`,
      `epoch_kd_weight`, `epoch_region_weight` and `epoch_region_radius` (`epoch_region_radius_0`,
      ... of a `Mixture`), in the run `train`;
    - figures as images, hyperparameters for the HPARAMS tab and the configuration as text, all in
      the folder itself.

    All steps are epochs, counted from 0, whatever `steps_per_execution` is; Keras's curves over
    iterations, which show the same validation values, are left out. Everything is on disk when an
    epoch ends. A run that is resumed, by `TrainingBackup` or `initial_epoch`, first removes from
    the folder what it will write again; one that starts at epoch 0 therefore replaces an earlier
    run in the folder. With several workers, give each its own folder.

    Put it after callbacks that add logs (schedulers, `LocalShapeMonitor`) and before
    `TrainingBackup`. It works in the `fit` of any Keras model.

    Args:
        log_dir: Folder for only this run; created if missing.
        config: Dict that describes the run, shown as a table in the text `configuration`.
        hparams: Dict of numbers, booleans and strings, to compare runs by.
        figures: Dict of figure names and functions. Each takes the fitted model and returns a
            `matplotlib.figure.Figure`.
        figure_freq: Epochs between drawings of the figures: at epochs `figure_freq`,
            `2 * figure_freq`, ..., counted from 1, and at the first and last epoch of each `fit`.
        **kwargs: Arguments of `keras.callbacks.TensorBoard`, such as `histogram_freq`, except
            `update_freq`, since batch counts restart when a run is resumed. `write_graph` defaults
            to `False`.

    Raises:
        ValueError: If `log_dir` is not a path, `hparams` holds something else than plain values, an
            entry of `figures` is not callable, or `update_freq` is given.
        ImportError: If TensorBoard is not installed.

    Example:
        >>> import tempfile
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0)
        >>> distiller.compile("sgd")
        >>> folder = tempfile.mkdtemp()
        >>> board = DistillationTensorBoard(folder, hparams={"temperature": 4.0})
        >>> _ = distiller.fit(np.ones((8, 4)), callbacks=[board], verbose=0)
        >>> sorted(name.partition(".")[0] for name in os.listdir(folder))
        ['events', 'train']

    """

    def __init__(
        self,
        log_dir: PathLike,
        *,
        config: Mapping[str, Any] | None = None,
        hparams: Mapping[str, Any] | None = None,
        figures: Mapping[str, Callable[[keras.Model], Any]] | None = None,
        figure_freq: int = 1,
        **kwargs: Any,
    ) -> None:
        _require_tensorboard()
        check_counts(figure_freq=figure_freq)
        if kwargs.get("update_freq", "epoch") != "epoch":
            raise ValueError(
                "`update_freq` must be 'epoch' for a DistillationTensorBoard, whose steps are "
                f"epochs. Received: update_freq={kwargs['update_freq']!r}. For curves over batches "
                "use keras.callbacks.TensorBoard in another folder."
            )
        super().__init__(_checked_folder(log_dir), **({"write_graph": False} | kwargs))
        self.config = dict(config or {})
        self.hparams = _checked_hparams(hparams)
        self.figures = _checked_figures(figures)
        self.figure_freq = figure_freq
        self._own_writer = None
        self._is_first = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Resets the state of an earlier `fit`."""
        super().on_train_begin(logs)
        self._own_writer = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before the first epoch, writes the settings of the run."""
        if self._own_writer is None:
            self._begin(epoch)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes curves and, if they are due, figures."""
        super().on_epoch_end(epoch, _numbers_of(self.model) | (logs or {}))
        if self._is_due(epoch):
            for name, draw in self.figures.items():
                write_figure(self._own_writer, name, draw(self.model), epoch)
        self._is_first = False

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Leaves out curves over iterations: `on_epoch_end` writes the same values."""
        super().on_test_end({})

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the files."""
        super().on_train_end(logs)
        if self._own_writer is not None:
            self._own_writer.close()
            self._own_writer = None

    def _begin(self, epoch):
        for name in ("train", "validation"):
            drop_epochs(os.path.join(self.log_dir, name), epoch)
        goes_on = drop_epochs(self.log_dir, epoch) > 0
        self._is_first = True
        self._own_writer = tf.summary.create_file_writer(self.log_dir)
        with self._own_writer.as_default():
            if self.config:
                rows = [(name, str(value)) for name, value in self.config.items()]
                table = markdown_table(["setting", "value"], rows)
                tf.summary.text("configuration", table, step=epoch)
            if self.hparams and not goes_on:
                from tensorboard.plugins.hparams import api

                api.hparams(self.hparams)

    def _is_due(self, epoch):
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        return self._is_first or (epoch + 1) % self.figure_freq == 0 or is_last


def _numbers_of(model):
    """Settings of a distiller's objective, by name."""
    if not isinstance(model, L2RKDDistiller):
        return {}
    numbers = {name: getattr(model, name) for name in _NUMBERS}
    if isinstance(numbers["temperature"], dict):
        by_output = numbers.pop("temperature")
        numbers |= {f"{name}_temperature": value for name, value in by_output.items()}
    if model.region is None:
        return numbers
    radii = keras.tree.flatten(model.region.radius)
    if len(radii) == 1:
        return numbers | {"region_radius": radii[0]}
    return numbers | {f"region_radius_{index}": radius for index, radius in enumerate(radii)}


def _require_tensorboard():
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "DistillationTensorBoard needs TensorBoard. Install it with "
            "`pip install l2rkd-tf[tensorboard]`."
        ) from error


def _checked_folder(log_dir):
    if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
        raise ValueError(
            "`log_dir` must be the path of a folder for only this run. Received: "
            f"log_dir={log_dir!r}"
        )
    return os.fspath(log_dir)


def _checked_hparams(hparams):
    hparams = dict(hparams or {})
    for name, value in hparams.items():
        if not isinstance(value, (bool, int, float, str, np.generic)):
            raise ValueError(
                "`hparams` must be numbers, booleans and strings by name. "
                f"Received: {name}={value!r}"
            )
    return hparams


def _checked_figures(figures):
    figures = dict(figures or {})
    for name, draw in figures.items():
        if not callable(draw):
            raise ValueError(
                "`figures` must be a dict of names and functions of the model that return a "
                f"Matplotlib figure. Received: {name}={draw!r}"
            )
    return figures
