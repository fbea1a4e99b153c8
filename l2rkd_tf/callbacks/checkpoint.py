"""Checkpoints of the student alone."""

from typing import Literal

import keras

from l2rkd_tf.callbacks.base import check_distiller
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.utils.files import atomic_path, check_space
from l2rkd_tf.utils.types import PathLike

__all__ = ["StudentCheckpoint"]


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """Saves the student, as `keras.callbacks.ModelCheckpoint` saves a model.

    A file is written whole or not at all: when the disk is full, an earlier one stays as it was.
    The files hold the plain student, ready for `keras.models.load_model`: no teacher, no
    projectors of methods, no optimizer of the distiller. What is monitored, and what may stand in
    the file name, are the logs of the distiller. To interrupt and resume a run there is
    `TrainingBackup`.

    Args:
        filepath: File to write, ending in `.keras` (or `.weights.h5` with `save_weights_only`);
            `{epoch}`, counted from 1, and names of logs are filled in:
            `"{epoch:02d}-{val_loss:.2f}.keras"`.
        monitor: Name in the logs that decides which student is best. Of this library's
            callbacks, those that log it must come before.
        save_best_only: Whether to save only when the monitored value has improved.
        save_weights_only: Whether to save the weights alone.
        mode: `"min"`, `"max"`, or `"auto"`, which knows losses and compiled metrics.
        save_freq: `"epoch"`, or a number of batches after which to save.
        initial_value_threshold: Value that the first best one must improve on.
        verbose: 1 for a message when a file is written.

    Raises:
        ValueError: If an argument is wrong, or if the model that is fitted is no
            `L2RKDDistiller`.

    Example:
        >>> import tempfile
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0)
        >>> distiller.compile("sgd")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = StudentCheckpoint(f"{folder}/{{epoch:02d}}.keras", monitor="loss")
        ...     _ = distiller.fit(np.ones((8, 4)), callbacks=[checkpoint], verbose=0)
        ...     loaded = keras.models.load_model(f"{folder}/01.keras")
        >>> bool(np.all(loaded(np.ones((1, 4))) == student(np.ones((1, 4)))))
        True

    Source: `keras.callbacks.ModelCheckpoint`.
    """

    def __init__(
        self,
        filepath: PathLike,
        monitor: str = "val_loss",
        *,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: Literal["epoch"] | int = "epoch",
        initial_value_threshold: float | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            filepath,
            monitor,
            save_best_only=save_best_only,
            save_weights_only=save_weights_only,
            mode=mode,
            save_freq=save_freq,
            initial_value_threshold=initial_value_threshold,
            verbose=verbose,
        )

    def set_model(self, model: L2RKDDistiller) -> None:
        """Called by Keras when training starts."""
        check_distiller(model, type(self).__name__)
        super().set_model(_SavedStudent(model))


class _SavedStudent:
    """The model that `ModelCheckpoint` works on: metrics of the distiller, files of the student.

    With the student alone, which is not compiled, `mode="auto"` would know no metric.
    """

    def __init__(self, distiller):
        self._distiller = distiller

    @property
    def metrics(self):
        return self._distiller.metrics

    def save(self, filepath, overwrite):
        self._write(self._distiller.student.save, filepath)

    def save_weights(self, filepath, overwrite):
        self._write(self._distiller.student.save_weights, filepath)

    def _write(self, save, filepath):
        try:
            with atomic_path(filepath) as temporary:
                check_space(temporary.parent, self._distiller.student.variables)
                save(temporary)
        except OSError as error:
            raise OSError(
                f"The student could not be saved to {filepath!r}: {error}. What was there before "
                "is untouched."
            ) from error
