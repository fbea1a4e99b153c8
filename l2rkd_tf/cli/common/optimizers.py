"""Optimizers of the programs, among them the SGD of published distillation results."""

import keras

from l2rkd_tf.distiller.keras_fixes import variable_index


@keras.saving.register_keras_serializable(package="l2rkd_tf")
class TorchSGD(keras.optimizers.Optimizer):
    """Gradient descent with momentum and weight decay as in PyTorch, with which results compare.

    For a weight `w` with gradient `g`:

        buffer = momentum * buffer + g + l2 * w
        w      = w - learning_rate * buffer

    Keras's own SGD differs in two ways. Its `weight_decay` shrinks the weights next to the
    momentum, so that a step decays them about `1 - momentum` times as much. And its velocity
    contains the learning rates of earlier steps, so that a change takes several steps to be felt.
    Here, as in PyTorch, all trainable weights decay: also biases and batch normalization. The
    logged loss and the model have no part in it.

    Args:
        learning_rate: Number, or a schedule of Keras.
        momentum: Part of the buffer that stays, in `[0, 1)`.
        l2: Weight decay, 0 or more: that of PyTorch's `torch.optim.SGD`. (Keras's argument
            `weight_decay` means something else.)
        name: Name of the optimizer.
        **kwargs: Other arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If `momentum` or `l2` is out of range.

    Source: `torch.optim.SGD`, with `dampening=0` and `nesterov=False`.
    """

    def __init__(self, learning_rate=0.05, momentum=0.9, l2=5e-4, name="torch_sgd", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"`momentum` must be from 0 to below 1, such as 0.9. Received: momentum={momentum}"
            )
        if not 0 <= l2 < float("inf"):
            raise ValueError(f"`l2` must be a number from 0, such as 5e-4. Received: l2={l2}")
        self.momentum = momentum
        self.l2 = l2

    def build(self, variables):
        """Makes a buffer for each weight."""
        if self.built:
            return
        super().build(variables)
        self._buffers = self.add_optimizer_variables(variables, "buffer")

    def update_step(self, gradient, variable, learning_rate):
        """Moves one weight."""
        buffer = self._buffers[variable_index(self, variable)]
        gradient = keras.ops.cast(gradient, variable.dtype)
        learning_rate = keras.ops.cast(learning_rate, variable.dtype)
        self.assign(buffer, self.momentum * buffer + (gradient + self.l2 * variable))
        self.assign_sub(variable, learning_rate * buffer)

    def get_config(self):
        """Arguments of the constructor."""
        return super().get_config() | {"momentum": self.momentum, "l2": self.l2}


def step_schedule(learning_rate, steps_per_epoch, decay_epochs, decay_factor=0.1):
    """A learning rate that is multiplied by a factor after each of some numbers of epochs.

    Args:
        learning_rate: Learning rate at the start.
        steps_per_epoch: Steps of an epoch.
        decay_epochs: Increasing numbers of epochs: 150 says that epoch 150, counted from 0, is the
            first one with the next learning rate.
        decay_factor: What the learning rate is multiplied by.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`; the number, without `decay_epochs`.
    """
    if not decay_epochs:
        return learning_rate
    # Keras's schedule still has the earlier value at a boundary.
    last_steps = [epoch * steps_per_epoch - 1 for epoch in decay_epochs]
    values = [learning_rate * decay_factor**count for count in range(len(last_steps) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(last_steps, values)


def adam_on_cosine(learning_rate, epochs, steps_per_epoch):
    """Adam whose learning rate falls to 0 on a cosine over all epochs."""
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(learning_rate, epochs * steps_per_epoch)
    )


def sgd_in_steps(
    learning_rate, epochs, steps_per_epoch, *, momentum, weight_decay, decay_epochs, decay_factor
):
    """PyTorch's SGD whose learning rate falls in steps, however many epochs there are."""
    del epochs
    schedule = step_schedule(learning_rate, steps_per_epoch, decay_epochs, decay_factor)
    return TorchSGD(schedule, momentum, weight_decay)
