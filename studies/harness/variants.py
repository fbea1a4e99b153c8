"""Ways to choose and to weight region points that the library does not have, and a schedule.

They are for the bench.
"""

import functools

import keras
import tensorflow as tf

from l2rkd_tf import regions
from l2rkd_tf.data.augmentation import AUGMENTATIONS
from l2rkd_tf.regions.draws import split


class Hardest(regions.Region):
    """Of several points of a region, that at which the student departs most from its teacher.

    By the KL divergence of their answers in inference mode. A step evaluates both networks at
    `num_candidates` more points for each example, which `points.points_per_step` does not count.

    Args:
        region: The region.
        teacher: Teacher with logits.
        student: Student with logits.
        num_candidates: Points to choose from.
    """

    def __init__(self, region, teacher, student, num_candidates=4):
        super().__init__()
        self._region, self._teacher, self._student = region, teacher, student
        self._num_candidates = num_candidates

    def draw(self, inputs, seed, labels=None):
        """See `Region.draw`; draws of the region, and the chosen one of each example."""
        draws = [
            self._region.draw(inputs, one, labels) for one in split(seed, self._num_candidates)
        ]
        divergences = [self._divergence(self._region.apply(inputs, drawn)) for drawn in draws]
        return draws, tf.argmax(tf.stack(divergences, axis=1), axis=1)

    def apply(self, tensor, coefficients):
        """See `Region.apply`."""
        draws, chosen = coefficients
        moved = tf.stack([self._region.apply(tensor, drawn) for drawn in draws], axis=1)
        return tf.gather(moved, chosen, axis=1, batch_dims=1)

    def _divergence(self, points):
        logits = [model(points, training=False) for model in (self._teacher, self._student)]
        teacher, student = (tf.nn.log_softmax(one) for one in logits)
        return tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


class Augmented(regions.Region):
    """An augmented view of each image: KD with augmentation as a region."""

    def __init__(self, augment):
        super().__init__()
        self._augment = AUGMENTATIONS[augment]

    def draw(self, inputs, seed, labels=None):
        """See `Region.draw`; a seed for each image."""
        del labels
        return tf.random.stateless_uniform(
            [tf.shape(inputs)[0], 2], seed, minval=None, maxval=None, dtype=tf.int32
        )

    def apply(self, tensor, coefficients):
        """See `Region.apply`, of images."""
        return tf.vectorized_map(lambda one: self._augment(*one), (tensor, coefficients))


class _EachStep(keras.callbacks.Callback):
    """Sets something of the distiller from the share of its steps that are done."""

    def __init__(self, change, steps):
        super().__init__()
        self._change, self._steps = change, steps

    def on_train_batch_begin(self, batch, logs=None):
        self._change(self.model, batch / self._steps)


class _WarmUp(keras.callbacks.Callback):
    """The learning rate rises from 0 in the first tenth of the steps, and falls on a cosine."""

    def __init__(self, steps):
        super().__init__()
        self._steps = steps

    def on_train_begin(self, logs=None):
        optimizer = self.model.optimizer
        rising = max(1, self._steps // 10)
        optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=self._steps - rising,
            warmup_target=optimizer.get_config()["learning_rate"]["config"][
                "initial_learning_rate"
            ],
            warmup_steps=rising,
        )


def _falling_weight(distiller, done):
    """The weight of regions falls from twice its value to 0."""
    distiller.region_weight = 2 * 0.9 * (1 - done)


def _data_last(distiller, done):
    """Plain distillation in the last quarter."""
    distiller.region_weight = 0.9 if done < 0.75 else 0.0


def _growing_radius(distiller, done):
    """The region grows from a quarter to all of its size, in the first half."""
    distiller.region.radius = min(1.0, 0.25 + 1.5 * done)


def own_temperature(temperature, options, teacher, student):
    """Arguments of the distiller with a temperature of its own for regions."""
    del teacher, student
    loss = keras.distillation.LogitsDistillation(temperature, keras.losses.KLDivergence())
    return options | {
        "region_weight": 0.0,
        "distillation_losses": loss,
        "distillation_loss_weights": 0.9,
        "distillation_losses_at": "region",
    }


def _hardest(options, teacher, student):
    return options | {"region": Hardest(options["region"], teacher, student)}


def _augmented(options, teacher, student):
    """Region points are augmented views, training points are not augmented."""
    del teacher, student
    return options | {"region": Augmented("crop_flip")}


def _augmented_first(options, teacher, student):
    """Region points are those of augmented views, training points are not augmented."""
    del teacher, student
    return options | {"region": regions.Compose([Augmented("crop_flip"), options["region"]])}


_OPTIONS = {
    "hardest of 4": _hardest,
    "temperature 2": functools.partial(own_temperature, 2.0),
    "temperature 8": functools.partial(own_temperature, 8.0),
    "augmented views": _augmented,
    "augmented views first": _augmented_first,
}
_CALLBACKS = {
    "data last": functools.partial(_EachStep, _data_last),
    "falling weight": functools.partial(_EachStep, _falling_weight),
    "growing radius": functools.partial(_EachStep, _growing_radius),
    "warm-up": _WarmUp,
}


def changed(options, variant, teacher, student):
    """Arguments of the distiller with what a variant changes in them."""
    change = _OPTIONS.get(variant)
    return change(options, teacher, student) if change else options


def callbacks(variant, steps):
    """Callbacks of a variant, for a run of this many steps."""
    callback = _CALLBACKS.get(variant)
    return [callback(steps)] if callback else []
