"""Short trainings of one student, each from the same weights, judged without labels."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.distiller import L2RKDDistiller
from l2rkd_tf.features import model_outputs
from l2rkd_tf.geometry import evaluation
from l2rkd_tf.geometry.evaluation import batched, mean_and_stderr, results_of, traced
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.regions import Region
from l2rkd_tf.utils.model_checks import all_layers
from l2rkd_tf.utils.output_checks import check_outputs_agree
from l2rkd_tf.utils.outputs import mean_over_positions, only_output
from l2rkd_tf.utils.types import Data, TeacherLike

__all__ = ["Batches", "RankedRegion", "Trial", "cursors_given_back"]

_PLAIN = "plain distillation, without a region"


class RankedRegion(NamedTuple):
    """A region, and how well a student that was trained with it agrees with the teacher.

    Attributes:
        region: The region, ready for a distiller; `None` for plain distillation.
        divergence: Mean divergence of the student from the teacher at the unlabelled inputs, in
            nats at temperature 1 (mean squared error for `divergence="mse"`): lower is better.
        divergence_stderr: Its standard error over the inputs.
        steps: Steps of the training that it was judged after.
    """

    region: Region | None
    divergence: float
    divergence_stderr: float
    steps: int

    @property
    def name(self) -> str:
        """The region as Python writes it."""
        return _PLAIN if self.region is None else repr(self.region)


class Batches:
    """Training data, which start again for each candidate.

    Args:
        data: A batched dataset, or arrays.
        batch_size: Examples in a batch of arrays.
        seed: Seed of their order.
    """

    def __init__(self, data: Data, batch_size: int, seed: int) -> None:
        self._batches = batched(data, batch_size)  # checks that they are finite
        self._data = data if isinstance(data, tf.data.Dataset) else None
        self._options = batch_size, seed
        self._cursor = getattr(data, "cursor", None)
        self._first = 0 if self._cursor is None else self._cursor.batch
        self.element_spec = self().element_spec

    def __call__(self) -> tf.data.Dataset:
        """An endless dataset."""
        if self._data is not None:
            if self._cursor is not None:
                self._cursor.set_batch(self._first)
            return self._data.repeat()
        (size, seed), structure = self._options, self._batches.structure
        count = len(keras.tree.flatten(structure)[0])

        def packed(*leaves):
            (inputs,) = keras.tree.pack_sequence_as(structure, leaves)
            return (tuple(inputs) if isinstance(inputs, list) else inputs,)

        examples = self._batches.dataset.unbatch().shuffle(count, seed=seed)
        return examples.repeat().batch(size).map(packed)


@contextlib.contextmanager
def cursors_given_back(*datasets: Data) -> Iterator[None]:
    """Within it, datasets may be read; afterwards each is where it was."""
    found: list[Any] = [getattr(dataset, "cursor", None) for dataset in datasets]
    cursors = [cursor for cursor in found if cursor is not None]
    before = [cursor.batch for cursor in cursors]
    try:
        yield
    finally:
        for cursor, batch in zip(cursors, before, strict=True):
            cursor.set_batch(batch)


class Trial:
    """Short trainings of one student, each from the same weights.

    Args:
        teacher: The teacher.
        student: The student.
        batches: Function that gives endless training data from their beginning.
        held_out: `evaluation.Batches` that judge.
        optimizer: Function of the steps.
        options: Arguments of the distiller.

    Attributes:
        initial_divergence: The student's with the weights from which trainings begin.
    """

    def __init__(
        self,
        teacher: TeacherLike,
        student: keras.Model,
        batches: Batches,
        held_out: evaluation.Batches,
        optimizer: Callable[[int], keras.optimizers.Optimizer],
        options: dict[str, Any],
    ) -> None:
        self._teacher = teacher
        self._student = student
        self._batches = batches
        self._held_out = held_out
        self._optimizer = optimizer
        self._options = options
        distiller = self._distiller(None)
        self._divergences = traced(_divergence_of(distiller), held_out)
        # What does not fit is found before any training.
        with self._weights_given_back():
            self.initial_divergence, _ = self._judge()

    def __call__(self, region: Region | None, steps: int) -> RankedRegion:
        """Trains with a region and judges; the student's weights are as before."""
        distiller = self._distiller(region)
        with self._weights_given_back():
            distiller.compile(self._optimizer(steps))
            distiller.fit(self._batches(), steps_per_epoch=steps, verbose=0, shuffle=False)
            divergence, stderr = self._judge()
        return RankedRegion(region, divergence, stderr, steps)

    def _judge(self):
        """Mean divergence at the unlabelled inputs, and its standard error."""
        mean, stderr = mean_and_stderr(results_of(self._divergences, self._held_out))
        return float(mean), float(stderr)

    @contextlib.contextmanager
    def _weights_given_back(self):
        before = [variable.numpy() for variable in self._student.variables]
        try:
            yield
        finally:
            for variable, value in zip(self._student.variables, before, strict=True):
                variable.assign(value)

    def _distiller(self, region):
        plain = {"region_weight": 0.0, "replace_fraction": None} if region is None else {}
        options = self._options | {"region": region} | plain
        return L2RKDDistiller(self._teacher, self._student, **options)


@contextlib.contextmanager
def _statistics_of_batches(model):
    """Within it, batch normalization of a model, and nothing else, is called as in training."""
    every = {id(layer): layer for layer in all_layers(model)}.values()  # also shared ones once
    layers = [layer for layer in every if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.call = functools.partial(_called_in_training, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _called_in_training(call, inputs, training=None, **kwargs):
    del training
    return call(inputs, training=True, **kwargs)


def _divergence_of(distiller):
    """A step that judges: the student's divergence from the teacher at inputs.

    Batch normalization takes the statistics of the inputs themselves. Its moving averages are those
    of examples and region points together, of few steps: they would judge how soon these settle.
    """
    divergence, from_logits = only_output(distiller.divergence), distiller.from_logits
    teacher, student = distiller.get_teacher(), distiller.student

    def step(inputs, labels, number):
        del labels, number
        outputs = [model_outputs(teacher, inputs)]
        with _statistics_of_batches(student):
            outputs.append(model_outputs(student, inputs))
        check_outputs_agree(*(output.shape for output in outputs))
        if not from_logits:
            outputs = [logits_from_probabilities(output, divergence) for output in outputs]
        return mean_over_positions(DIVERGENCES[divergence](*outputs))

    return step
