"""Measures during training how closely the student matches the teacher around the data."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf import plots
from l2rkd_tf.callbacks.base import (
    DistillerCallback,
    check_counts,
    check_draws_in_inputs,
    check_one_output,
    prepare_regions,
    take_points,
    try_points,
)
from l2rkd_tf.callbacks.events import write_figure
from l2rkd_tf.features import model_outputs
from l2rkd_tf.geometry import FidelityProfile, fidelity_profile
from l2rkd_tf.plots import style
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import points_of_draw
from l2rkd_tf.utils.outputs import only_output
from l2rkd_tf.utils.types import Data, Logs, PathLike
from l2rkd_tf.utils.validation import checked_seed, is_number

__all__ = ["LocalShapeMonitor"]

_IMAGE_TAG = "fidelity_profile"


class LocalShapeMonitor(DistillerCallback):
    """Logs how closely the student matches the teacher, from the data to the region's boundary.

    At the end of an epoch, for each fraction `a` of the way from an example `x` to the boundary of
    its region, in a direction drawn from the region,

    ```
    x_a = x + a (boundary - x)
    val_fidelity_kl_{a}        = mean KL(p(f_T(x_a)) || p(f_S(x_a)))       (nats, temperature 1)
    val_fidelity_agreement_{a} = mean [argmax f_T(x_a) = argmax f_S(x_a)]  (0 to 1)
    ```

    are added to the epoch's logs: `val_fidelity_kl_0.5`. The divergence is that of the distiller;
    for `"mse"`, which has no classes, only `val_fidelity_mse_{a}` is logged. Examples and
    directions are the same every time, so that epochs can be compared.

    Put it *before* the callbacks that use the values (CSVLogger, TensorBoard, EarlyStopping,
    ModelCheckpoint, ...); History always contains them. In epochs without a measurement the last
    values are repeated, so that table columns have no gaps; a callback's `patience` also counts
    these epochs. Keras cannot infer from the names whether higher is better: pass `mode`, `"min"`
    for divergences and `"max"` for agreement.

    A measurement runs teacher and student on `max_points * len(fractions)` inputs, in batches.

    Args:
        data: Inputs, shape `(samples, ...)`, or a list or dict of such; or a tuple
            `(inputs, labels[, weights])`, with labels for regions that need them; or a batched
            `tf.data.Dataset` of either. Use data that the student is not trained on. (Reading a
            dataset advances its shuffling by one pass: if `fit` gets the same object, it trains on
            other batches than without the monitor.)
        region: A `l2rkd_tf.regions.Region`; `None` for the distiller's current region.
        fractions: Fractions `a` of the way, from 0 (the examples) to 1 (the boundary).
        measure_freq: Epochs between measurements: at epochs `measure_freq`, `2 * measure_freq`,
            ..., counted from 1, and at the first and last epoch of each `fit`.
        max_points: Maximum number of samples: the first ones of a dataset, a random subset of
            arrays. They are read once, when training starts.
        log_dir: Folder in which to write the profile as an image for TensorBoard, under the tag
            `fidelity_profile`; needs Matplotlib. `None` for no image.
        seed: Integer seed for the subset and the region points.

    Attributes:
        profile: The last `l2rkd_tf.geometry.FidelityProfile`; `None` before the first measurement.

    Raises:
        ValueError: If `region` is not a region, `fractions` are not distinct numbers from 0 to 1,
            or a number is out of range; when training starts, if the model is not an
            `L2RKDDistiller` with a teacher, has several outputs, or the region cannot be used with
            the data.
        ImportError: If `log_dir` is given and Matplotlib is not installed.
        NotImplementedError: When training starts, if a custom region has no `at_fraction`.

    Example:
        >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> distiller = l2rkd_tf.L2RKDDistiller(teacher, student, hard_weight=0, seed=0)
        >>> distiller.compile("sgd")
        >>> x = np.random.normal(size=(8, 4)).astype("float32")
        >>> monitor = LocalShapeMonitor(x, fractions=(0.0, 1.0))
        >>> history = distiller.fit(x, callbacks=[monitor], verbose=0)
        >>> [name for name in history.history if name.startswith("val_fidelity_kl")]
        ['val_fidelity_kl_0.0', 'val_fidelity_kl_1.0']

    Reference: Deng and Zhang (arXiv:2010.04812) claim that the student learns the teacher's local
    shape, which this measures; the measure itself is not from the paper.
    """

    needs_teacher = True

    def __init__(
        self,
        data: Data,
        region: Region | None = None,
        fractions: Sequence[float] | np.ndarray = (0.0, 0.5, 1.0),
        measure_freq: int = 1,
        max_points: int = 512,
        log_dir: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if region is not None and not isinstance(region, Region):
            raise ValueError(
                "`region` must be a l2rkd_tf.regions.Region, or None for the distiller's. "
                f"Received: region={region!r}"
            )
        check_counts(measure_freq=measure_freq, max_points=max_points)
        if log_dir is not None:
            style.require_matplotlib()
        self.data = data
        self.region = region
        self.fractions = _checked_fractions(fractions)
        self.measure_freq = measure_freq
        self.max_points = max_points
        self.log_dir = None if log_dir is None else os.fspath(log_dir)
        self.seed = checked_seed(seed)
        self.profile: FidelityProfile | None = None
        self._points: Any = None
        self._values: Any = None
        self._writer = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reads the samples, the first time, and tries the region on a few of them."""
        check_one_output(self.model, type(self).__name__)
        if self.region is None:
            way_out = "Give the callback a region of inputs, or leave it out."
            check_draws_in_inputs(self.model, type(self).__name__, way_out)
        self._values = None
        if self._points is None:
            self._points = take_points(self.data, self.max_points, self.seed)
        if self.region is not None:
            prepare_regions(self.model, [self.region], self._points[0])
        try_points(self._points, self._at_boundary)
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Measures, if a measurement is due, and adds the values to the logs."""
        if self._is_due(epoch):
            self._measure()
            if self._writer is not None:
                write_figure(self._writer, _IMAGE_TAG, plots.fidelity_profiles(self.profile), epoch)
        if logs is not None:
            logs.update(self._values)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _is_due(self, epoch):
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        return self._values is None or (epoch + 1) % self.measure_freq == 0 or is_last

    def _at_boundary(self, inputs, labels):
        """The teacher's outputs at the boundary of the region, if the region is known yet."""
        region = self.region or self.model.region
        if region is not None:
            drawn = region.draw(inputs, [self.seed, 0], labels)
            models = self.model.student, self.model.get_teacher()
            inputs = points_of_draw(region, inputs, region.at_fraction(drawn, 1.0), *models)
        return model_outputs(self.model.get_teacher(), inputs)

    def _measure(self):
        inputs, labels = self._points
        divergence = only_output(self.model.divergence)
        self.profile = fidelity_profile(
            self.model.get_teacher(),
            self.model.student,
            inputs,
            self.region or self.model.region,
            self.fractions,
            divergence=divergence,
            from_logits=self.model.from_logits,
            labels=labels,
            seed=self.seed,
        )
        if divergence == "mse":
            measures = {"mse": self.profile.kl}
        else:
            measures = {"kl": self.profile.kl, "agreement": self.profile.agreement}
        self._values = {
            f"val_fidelity_{measure}_{fraction}": float(value)
            for measure, values in measures.items()
            for fraction, value in zip(self.fractions, values, strict=True)
        }


def _checked_fractions(fractions):
    """Fractions as distinct, rounded floats, for names of logs."""
    values = list(fractions) if isinstance(fractions, (list, tuple, np.ndarray)) else []
    if not values or not all(is_number(value) and 0.0 <= value <= 1.0 for value in values):
        raise ValueError(
            "`fractions` must be a sequence of numbers between 0 and 1, such as (0.0, 0.5, 1.0). "
            f"Received: fractions={fractions!r}"
        )
    values = [round(float(value), 6) for value in values]
    if len(set(values)) < len(values):
        raise ValueError(f"`fractions` must be distinct. Received: fractions={fractions!r}")
    return tuple(values)
