"""Checkpoints of only the student."""

from typing import Literal

import keras

from l2rkd_tf.callbacks.base import check_distiller
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.utils.files import atomic_path, check_space
from l2rkd_tf.utils.types import PathLike

__all__ = ["StudentCheckpoint"]


class StudentCheckpoint(keras.callbacks.ModelCheckpoint):
    """Saves the student, as `keras.callbacks.ModelCheckpoint` saves a model.

    Files are written atomically: if the disk is full, the earlier file stays intact. They hold the
    plain student, ready for `keras.models.load_model`: no teacher, no projectors of methods, no
    optimizer. The distiller's logs can be monitored and used in the file name. To resume
    interrupted runs, use `TrainingBackup`.

    Args:
        filepath: File to write, ending in `.keras` (or `.weights.h5` with `save_weights_only`);
            `{epoch}`, counted from 1, and log names are filled in:
            `"{epoch:02d}-{val_loss:.2f}.keras"`.
        monitor: Name of the log that decides which student is best. If another callback logs it,
            put that callback first.
        save_best_only: Whether to save only when the monitored value has improved.
        save_weights_only: Whether to save only the weights.
        mode: `"min"`, `"max"`, or `"auto"`, which recognizes losses and compiled metrics.
        save_freq: `"epoch"`, or the number of batches between saves.
        initial_value_threshold: Value that the first saved student must improve on.
        verbose: 1 for a message when a file is written.

    Raises:
        ValueError: If `filepath` has the wrong ending, or the fitted model is not an
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
    """The model that `ModelCheckpoint` sees: metrics of the distiller, files of the student.

    The student itself is not compiled, so that `mode="auto"` would not find its metrics.
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
                f"The student could not be saved to {filepath!r}: {error}. The earlier file is "
                "untouched."
            ) from error
