"""Training in the region where student and teacher differ most."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2rkd_tf.callbacks.base import (
    DistillerCallback,
    check_counts,
    check_draws_in_inputs,
    check_epoch,
    check_one_output,
    prepare_regions,
    take_points,
    try_points,
)
from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.features import model_outputs
from l2rkd_tf.geometry.evaluation import batched, per_example
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.regions import Region
from l2rkd_tf.regions.padding import points_of_draw
from l2rkd_tf.utils.outputs import mean_over_positions, only_output
from l2rkd_tf.utils.types import Data, Logs
from l2rkd_tf.utils.validation import checked_seed

__all__ = ["BlindRegionSearch"]

_BATCH_SIZE = 256


class BlindRegionSearch(DistillerCallback):
    """Sets the region, every few epochs, to the candidate where student and teacher differ most.

    ```
    region = argmax_r  mean KL(p(f_T(x')) || p(f_S(x'))),   x' drawn from r of x, temperature 1
    ```

    or the distiller's own divergence. The index of the current region is logged as `blind_region`,
    -1 before the first search. A new region takes effect at once and retraces the training step;
    keeping the region costs nothing. For each candidate, a search runs both models on `max_points`
    region points, in batches.

    It searches at the start of an epoch: put a `RegionRadiusScheduler` after it.

    Args:
        regions: Candidates: a sequence of `l2rkd_tf.regions.Region`. A larger region has points
            further from the data, where models differ more; the search is meant for candidates of
            different shape, such as `Patch(grid=1)` and `Patch(grid=2)`.
        data: As in `LocalShapeMonitor`; the training data, as in the paper, or other data. Load a
            shuffled `tf.data.Dataset` a second time for the callback.
        search_freq: Epochs between searches, at least 1. Every `fit` starts with a search, so that
            a resumed run does not train in the wrong region until the next one.
        max_points: Maximum number of samples, as in `LocalShapeMonitor`.
        start_epoch: Epoch of the first search, counted from 0.
        verbose: 1 for a message with the divergences at each search.
        seed: Integer seed for the subset and the region points.

    Attributes:
        divergences: Mean divergence in each candidate at the last search, in nats (squared units of
            the outputs for `"mse"`), shape `(len(regions),)`; `None` before the first search.

    Raises:
        ValueError: If `regions` is empty or holds something else than regions, or a number is out
            of range; when training starts, if the model is not an `L2RKDDistiller` with a teacher,
            has several outputs, or a candidate cannot be used with the model or the data.

    Example:
        >>> Patch = l2rkd_tf.regions.Patch
        >>> candidates = [Patch(grid=g, alpha=c) for g in (1, 2) for c in (0.1, 0.5, 1.0)]
        >>> search = BlindRegionSearch(candidates, np.zeros((32, 8, 8, 1)), search_freq=50)
        >>> len(search.regions)
        6

    Reference: Deng, Zheng and Zhang, Personalized Education: Blind Knowledge Distillation (ECCV
    2022), who search every 50 epochs; `l2rkd_tf.methods.pe_bkd` has their other settings.
    """

    needs_teacher = True

    def __init__(
        self,
        regions: Sequence[Region],
        data: Data,
        search_freq: int = 1,
        max_points: int = 512,
        start_epoch: int = 0,
        verbose: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.regions = _checked_regions(regions)
        check_counts(search_freq=search_freq, max_points=max_points)
        check_epoch("start_epoch", start_epoch)
        self.data = data
        self.search_freq = search_freq
        self.max_points = max_points
        self.start_epoch = start_epoch
        self.verbose = verbose
        self.seed = checked_seed(seed)
        self.divergences: np.ndarray | None = None
        self._points: Any = None
        self._index = -1

    def set_model(self, model: L2RKDDistiller) -> None:
        """Called by Keras when training starts."""
        super().set_model(model)
        check_draws_in_inputs(model, type(self).__name__, "Leave out one of them.")
        check_one_output(model, type(self).__name__)
        if model.region_targets == "interpolated":
            unfit = [region for region in self.regions if not region.interpolates_targets]
            if unfit:
                raise ValueError(
                    "`regions` must support interpolated targets for a distiller with "
                    f"region_targets='interpolated'. Received: {unfit!r}"
                )

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reads the samples, the first time, and tries the candidates on a few of them."""
        self._index = -1
        if self._points is None:
            self._points = take_points(self.data, self.max_points, self.seed)
        prepare_regions(self.model, self.regions, self._points[0])
        try_points(self._points, self._try_regions)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Searches, if a search is due."""
        since_start = epoch - self.start_epoch
        if since_start < 0 or (self._index >= 0 and since_start % self.search_freq):
            return
        self.divergences = self._mean_divergences()
        self._index = int(np.argmax(self.divergences))
        if self.model.region is not self.regions[self._index]:
            self.model.region = self.regions[self._index]
        if self.verbose:
            divergences = ", ".join(f"{value:.4g}" for value in self.divergences)
            print(f"\nEpoch {epoch + 1}: blind region {self._index} of divergences {divergences}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Logs the region that the epoch was trained in."""
        if logs is not None:
            logs["blind_region"] = self._index

    def _try_regions(self, inputs, labels):
        seed = tf.constant([self.seed, 0])
        points = [self._points_in(region, inputs, labels, seed) for region in self.regions]
        return model_outputs(self.model.get_teacher(), inputs), points

    def _points_in(self, region, inputs, labels, seed):
        models = self.model.student, self.model.get_teacher()
        return points_of_draw(region, inputs, region.draw(inputs, seed, labels), *models)

    def _mean_divergences(self):
        """Mean divergence at points of each region, shape `(regions,)`; one trace for all."""
        models = self.model.get_teacher(), self.model.student
        divergence, from_logits = only_output(self.model.divergence), self.model.from_logits

        def step(inputs, labels, number):
            def in_region(region):
                points = self._points_in(region, inputs, labels, tf.stack([self.seed, number]))
                outputs = [model_outputs(model, points) for model in models]
                if not from_logits:
                    outputs = [logits_from_probabilities(output, divergence) for output in outputs]
                return mean_over_positions(DIVERGENCES[divergence](*outputs))

            return tf.stack([in_region(region) for region in self.regions], axis=1)

        inputs, labels = self._points
        values = per_example(step, batched(inputs, _BATCH_SIZE, labels))
        return values.mean(axis=0, dtype="float64")


def _checked_regions(regions):
    if (
        not isinstance(regions, (list, tuple))
        or not regions
        or not all(isinstance(region, Region) for region in regions)
    ):
        raise ValueError(
            "`regions` must be a sequence of at least one l2rkd_tf.regions.Region. "
            f"Received: regions={regions!r}"
        )
    return tuple(regions)
