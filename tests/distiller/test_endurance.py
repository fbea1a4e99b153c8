"""Long runs; at full length in `make stress`."""

import os

import keras
import pytest
import tensorflow as tf

from tests.helpers import TraceCountingDistiller, compiled, convnet, images, two_replicas

FULL_LENGTH = "L2RKD_STRESS" in os.environ


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Memory(keras.callbacks.Callback):
    """Resident memory at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.bytes = []

    def on_epoch_end(self, epoch, logs=None):
        self.bytes.append(resident_bytes())


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc of Linux")
@pytest.mark.parametrize("strategy", [tf.distribute.get_strategy, two_replicas])
def test_a_long_run_is_traced_once_and_its_memory_does_not_grow(strategy):
    x, y = images(20)
    memory = Memory()
    with strategy().scope():
        distiller = compiled(
            TraceCountingDistiller(convnet(0, 8), convnet(1, synchronized=True), seed=0)
        )
    # Ten epochs; the first three warm up.
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    steps = 300 if FULL_LENGTH else 20
    distiller.fit(data, epochs=10, steps_per_epoch=steps, callbacks=[memory], verbose=0)
    assert distiller.optimizer.iterations == 10 * steps
    assert distiller.traces == distiller.distribute_strategy.num_replicas_in_sync
    assert max(memory.bytes[3:]) <= 1.02 * memory.bytes[2]
