"""Every underscore of Keras's that the library uses, each with its reason.

Keras has no public place for these repairs and readings. `tests/distiller/test_keras_fixes.py`
fails when Keras no longer needs one of them. Nothing else in the library uses a private name of
Keras's.
"""

import warnings
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.utils import distribution

__all__ = [
    "DistributedModel",
    "average_of_weight",
    "batch_number",
    "compiled_loss",
    "compiled_loss_object",
    "compiled_metrics",
    "layers_within",
    "loss_tracker",
    "mask_of",
    "set_initial_epoch",
    "swap_averages",
    "variable_index",
    "with_mask",
]


class DistributedModel(keras.Model):
    """A Keras model whose `fit`, `evaluate` and `predict` work under TensorFlow's strategies.

    A `train_step` may add to its logs what the `note` of one of `step_checks` returns, such as
    `NonFiniteGuard`, to end training where numbers are not finite.

    Raises:
        ValueError: If it is made under a strategy, or trained with an option of `compile`, with
            which Keras cannot train.
    """

    train_function: Any  # Keras's own

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        distribution.check_strategy()
        super().__init__(*args, **kwargs)

    def step_checks(self) -> list[Any]:
        """What looks at each step, and after it at what the step has noted."""
        return []

    def finish_checks(self) -> None:
        """Looks at what the last step of an epoch has noted, if nobody has done so."""

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`."""
        logs = super().train_on_batch(*args, **kwargs)
        self.finish_checks()
        return logs

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`; says so when another worker has ended."""
        with self.distribute_strategy.scope(), distribution.explain_worker_failure():
            return super().fit(*args, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """As in Keras; the function raises what `step_checks` have noted in its steps."""
        if self.train_function is not None and not force:
            return
        if self.built and self.trainable_weights and not self.optimizer.built:
            self.optimizer.build(self.trainable_weights)  # A step that does is traced twice.
        super().make_train_function(force)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            _warn_of_separate_statistics(self)
        for check in self.step_checks():
            self.train_function = check.checked(self.train_function)

    def _make_function(self, step_function):
        # Keras fails late, or not at all, where several replicas cannot run what `compile` was
        # asked for; and on several machines it cannot join logs that are numbers.
        with self.distribute_strategy.scope():
            distribution.check_compilation(self.jit_compile, self.steps_per_execution)
            if distribution.is_multi_worker():
                return _with_one_log(step_function, super()._make_function)
        return super()._make_function(step_function)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under a strategy Keras takes a first batch from the data and averages it over replicas:
        # that fails for unequal shares, makes integers floats, and moves the data on.
        # Without one it leaves metrics to the first step, which is then traced twice.
        if self._distribute_strategy is None:
            one = data_batch if iterator is None else iterator._distributed_dataset.element_spec
            return self.build_metrics(one)
        if iterator is not None:
            dataset = iterator.data_adapter.get_tf_dataset()
            if isinstance(dataset, tf.data.Dataset):
                batch = keras.tree.map_structure(_of_any_size, dataset.element_spec)
                return super()._maybe_symbolic_build(data_batch=batch)
        return super()._maybe_symbolic_build(iterator, data_batch)

    def build_metrics(self, batch: Any) -> None:
        """Makes the variables of compiled metrics, from a batch or its `tf.TensorSpec`s."""

    def _get_metrics_result_or_logs(self, logs):
        # Where a step leaves out a metric, Keras takes the last logs, which several replicas
        # have averaged without regard to their shares. `fit` asks at the end of an epoch.
        self.finish_checks()
        results = self.get_metrics_result()
        return {name: results.get(name, log) for name, log in logs.items()}


def _with_one_log(step_function, make_function):
    """The function of a step whose logs workers exchange all at once.

    Keras exchanges the logs one by one, in every step, and joins those of the workers along their
    first axis, which numbers do not have.
    """
    shapes = {}

    def step(data):
        logs = step_function(data)
        shapes.clear()
        shapes.update({name: log.shape for name, log in logs.items()})
        return tf.concat([tf.reshape(log, (1, -1)) for log in logs.values()], axis=1)

    function = make_function(step)

    def unpacked(iterator):
        row = function(iterator)
        logs = tf.split(row, [shape.num_elements() for shape in shapes.values()])
        return {
            name: tf.reshape(log, shape)
            for (name, shape), log in zip(shapes.items(), logs, strict=True)
        }

    return unpacked


def _of_any_size(spec):
    """The spec of a batch of any size; `None` for what isn't a tensor."""
    if not hasattr(spec, "shape"):
        return None
    return tf.TensorSpec([None, *spec.shape[1:]], spec.dtype)


def _warn_of_separate_statistics(model):
    names = sorted(
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not layer.synchronized
    )
    if names:
        warnings.warn(
            f"The batch normalizations {names} take their statistics of each replica's share of "
            "the batch only, and the saved ones are those of the first replica. Make them with "
            "BatchNormalization(synchronized=True) to train as on one device.",
            stacklevel=4,
        )


def compiled_loss(model: keras.Model, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """The loss that was given to `compile`, without regularization.

    The public `compute_loss` adds the regularization losses, which a distiller reduces itself.
    """
    return compiled_loss_object(model)(y, y_pred, sample_weight)


def compiled_loss_object(model: keras.Model) -> Any:
    """The object that Keras makes of the argument `loss` of `compile`, or `None`."""
    return model._compile_loss


def mask_of(outputs: tf.Tensor) -> tf.Tensor | None:
    """The mask that Keras's layers have left at their outputs, or `None`.

    Losses and metrics read it; it has no public name.
    """
    return getattr(outputs, "_keras_mask", None)


def with_mask(outputs: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The outputs, with a mask for losses and metrics: a slice of outputs has none."""
    outputs._keras_mask = mask
    return outputs


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """The metric that logs `loss`; the public list of metrics does not tell which one it is."""
    return model._loss_tracker


def compiled_metrics(model: keras.Model) -> Any:
    """The metrics that were given to `compile`, or `None`.

    One object for all of them. Its public name, `model.metrics`, mixes it with all others; a
    distiller must leave it out of the logs as long as it has seen no labels.
    """
    return model._compile_metrics


def batch_number(optimizer: keras.optimizers.Optimizer) -> Any:
    """Number of batches seen; where gradients are accumulated, `iterations` counts updates."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.gradient_accumulation_steps:
        return optimizer.iterations
    return next(variable for variable in inner.variables if variable.name == "iteration")


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Makes a `fit` that has called `on_train_begin` start at this epoch; `None` undoes it.

    A callback cannot change the argument `initial_epoch` of the `fit` that it is in. Keras's own
    `BackupAndRestore` sets this attribute as well.
    """
    model._initial_epoch = epoch


def average_of_weight(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> Any:
    """The moving average that an optimizer with `use_ema` keeps of a weight, or `None`.

    There is no public name for it.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    averages = getattr(inner, "_model_variables_moving_average", None)
    if not getattr(inner, "use_ema", False) or not averages:
        return None
    return averages[variable_index(inner, variable)]


def swap_averages(model: keras.Model) -> None:
    """Exchanges weights and their moving averages, as `keras.callbacks.SwapEMAWeights` does.

    By its own arithmetic, which rounds: no other one undoes its first exchange bit for bit.
    """
    callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    callback.set_model(model)
    callback._swap_variables()


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Place of a variable among those that an optimizer was built for.

    An optimizer of one's own finds its slot variables by it; there is no public name.
    """
    return optimizer._get_variable_index(variable)


def layers_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers in it, those of attention, say; `layers` of a model lacks these."""
    return list(layer._flatten_layers())
