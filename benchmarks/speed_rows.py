"""What `speed.py` times: distillers, loops written by hand, and the passes that they consist of.

A row has a name and `time(steps)`, seconds of so many steps. `points` are the inputs of a step on
which the student is trained and the teacher is run, in batches.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

import l2rkd_tf

TEMPERATURE, HARD_WEIGHT, KD_WEIGHT, REGION_WEIGHT, GRID = 4.0, 0.1, 0.9, 0.9, 4


class Points(NamedTuple):
    """Points of a step, in batches, at which each model is evaluated.

    Attributes:
        student: Forward and backward.
        teacher: Forward.
    """

    student: int
    teacher: int


@dataclasses.dataclass(frozen=True)
class Setting:
    """A pair of models and the batches they are given.

    Attributes:
        make_teacher: Function that makes the teacher.
        make_student: Function that makes a student.
        plain: Function that gives an endless `tf.data.Dataset` of `(x, y)`.
        cached: The same with `CachedInputs`.
        steps_per_execution: For `compile`.
        jit_compile: For `compile`.
    """

    make_teacher: Callable
    make_student: Callable
    plain: tf.data.Dataset
    cached: tf.data.Dataset
    steps_per_execution: int
    jit_compile: bool

    def optimizer(self):
        """The optimizer of every row."""
        return keras.optimizers.SGD(0.01, momentum=0.9)

    def compiled(self, model):
        """A model compiled as every other."""
        model.compile(
            self.optimizer(),
            cross_entropy(),
            steps_per_execution=self.steps_per_execution,
            jit_compile=self.jit_compile,
        )
        return model


def cross_entropy():
    """The loss of the labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class _Clock(keras.callbacks.Callback):
    """Times an epoch from its first batch on: making an iterator does not belong to a step."""

    start = None

    def on_train_batch_begin(self, batch, logs=None):
        """Called by Keras."""
        if self.start is None:
            self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Called by Keras."""
        self.end = time.perf_counter()

    @property
    def seconds(self):
        """From the first batch to the end of the last."""
        return self.end - self.start


class Fit:
    """`fit` of a compiled Keras model."""

    def __init__(self, model, data):
        self._model, self._data = model, data

    def time(self, steps):
        """Seconds of a number of steps."""
        clock = _Clock()
        self._model.fit(self._data, steps_per_epoch=steps, verbose=0, callbacks=[clock])
        return clock.seconds


class Loop:
    """A `tf.function` of a batch, called in a Python loop."""

    def __init__(self, function, data, jit_compile):
        self._function = tf.function(function, jit_compile=jit_compile)
        self._iterator = iter(data)

    def time(self, steps):
        """Seconds of a number of steps."""
        start = time.perf_counter()
        for _ in range(steps):
            result = self._function(*next(self._iterator))
        result.numpy()
        return time.perf_counter() - start


# Distillers.


def student_only(setting):
    """Plain `fit` of the student."""
    return Fit(setting.compiled(setting.make_student()), setting.plain)


def keras_kd(setting):
    """`keras.distillation.Distiller`; with the loss object, since its default isn't KD."""
    distiller = keras.distillation.Distiller(
        teacher=setting.make_teacher(),
        student=setting.make_student(),
        distillation_losses=keras.distillation.LogitsDistillation(
            temperature=TEMPERATURE, loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=HARD_WEIGHT,
    )
    return Fit(setting.compiled(distiller), setting.plain)


def distiller(cached=False, **arguments):
    """A row of `L2RKDDistiller`."""

    def make(setting):
        teacher = None if cached else setting.make_teacher()
        model = l2rkd_tf.L2RKDDistiller(teacher, setting.make_student(), seed=0, **arguments)
        return Fit(setting.compiled(model), setting.cached if cached else setting.plain)

    return make


# Loops written by hand.


def divergence(targets, logits):
    """`tau^2 KL` of softmaxes, a mean over the batch."""
    targets = tf.nn.log_softmax(targets / TEMPERATURE)
    logits = tf.nn.log_softmax(logits / TEMPERATURE)
    values = tf.reduce_sum(tf.exp(targets) * (targets - logits), axis=-1)
    return TEMPERATURE**2 * tf.reduce_mean(values)


def patches(x):
    """A point of the patch region of each image of a batch."""
    partners = tf.gather(x, tf.random.shuffle(tf.range(tf.shape(x)[0])))
    cells = tf.random.uniform((tf.shape(x)[0], GRID, GRID, 1))
    size = x.shape[1] // GRID
    return x + tf.repeat(tf.repeat(cells, size, axis=1), size, axis=2) * (partners - x)


def hand_written(with_region):
    """A row of KD, or of L2RKD with one region point for each example."""

    def make(setting):
        teacher, student = setting.make_teacher(), setting.make_student()
        optimizer, loss_of = setting.optimizer(), cross_entropy()
        optimizer.build(student.trainable_variables)
        mean = keras.metrics.Mean()

        def step(x, y):
            count = tf.shape(x)[0]
            points = tf.concat([x, patches(x)], 0) if with_region else x
            targets = teacher(points, training=False)
            with tf.GradientTape() as tape:
                logits = student(points, training=True)
                loss = HARD_WEIGHT * loss_of(y, logits[:count])
                loss += KD_WEIGHT * divergence(targets[:count], logits[:count])
                if with_region:
                    loss += REGION_WEIGHT * divergence(targets[count:], logits[count:])
            gradients = tape.gradient(loss, student.trainable_variables)
            optimizer.apply(gradients, student.trainable_variables)
            mean.update_state(loss)
            return loss

        return Loop(step, setting.plain, setting.jit_compile)

    return make


# Passes.


def student_passes(batches):
    """A training step of the student only, of so many batches together."""

    def make(setting):
        student, optimizer, loss_of = setting.make_student(), setting.optimizer(), cross_entropy()
        optimizer.build(student.trainable_variables)

        def step(x, y):
            with tf.GradientTape() as tape:
                loss = loss_of(_times(y, batches), student(_times(x, batches), training=True))
            gradients = tape.gradient(loss, student.trainable_variables)
            optimizer.apply(gradients, student.trainable_variables)
            return loss

        return Loop(step, setting.plain, setting.jit_compile)

    return make


def teacher_passes(batches):
    """The teacher's outputs for so many batches together."""

    def make(setting):
        teacher = setting.make_teacher()

        def ask(x, y):
            return teacher(_times(x, batches), training=False)

        return Loop(ask, setting.plain, setting.jit_compile)

    return make


def _times(tensor, batches):
    return tf.concat([tensor] * batches, 0)


HALF = {"replace_fraction": 0.5}
NO_PASS = {"region_targets": "interpolated"}

STUDENT, KERAS = "student only, `fit`", "KD, `keras.distillation`"
BARE_KD, BARE_L2RKD = "KD, loop by hand", "L2RKD k=1, loop by hand"

#: `{name: (function of a setting that makes the row, points of a step)}`
ROWS = {
    STUDENT: (student_only, Points(1, 0)),
    KERAS: (keras_kd, Points(1, 1)),
    BARE_KD: (hand_written(False), Points(1, 1)),
    "KD": (distiller(region_weight=0.0), Points(1, 1)),
    BARE_L2RKD: (hand_written(True), Points(2, 2)),
    "L2RKD k=1": (distiller(), Points(2, 2)),
    "L2RKD k=2": (distiller(num_region_points=2), Points(3, 3)),
    "L2RKD k=4": (distiller(num_region_points=4), Points(5, 5)),
    "L2RKD half": (distiller(**HALF), Points(1, 1)),
    "L2RKD k=1, interpolated": (distiller(**NO_PASS), Points(2, 1)),
    "KD, cached": (distiller(cached=True, region_weight=0.0), Points(1, 0)),
    "L2RKD k=1, cached, interpolated": (distiller(cached=True, **NO_PASS), Points(2, 0)),
    "L2RKD half, cached, interpolated": (distiller(cached=True, **NO_PASS, **HALF), Points(1, 0)),
}
_NUMBERS = sorted({n for _, points in ROWS.values() for n in points} - {0})
#: The same for passes of only one model, which make up the floor of the others.
PASSES = {f"student, {n} batches": (student_passes(n), Points(n, 0)) for n in _NUMBERS} | {
    f"teacher, {n} batches": (teacher_passes(n), Points(0, n)) for n in _NUMBERS
}
#: Loop that a row is compared with.
LOOPS = {"KD": BARE_KD, "L2RKD k=1": BARE_L2RKD}
