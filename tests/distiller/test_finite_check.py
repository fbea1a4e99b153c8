"""When the counts of the finite check are read: at once, and on a GPU one step later."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller
from l2rkd_tf.distiller import finite_check


class Noted:
    """What a step has noted, which tells when it is read."""

    def __init__(self, number, reads):
        self.number, self.reads = number, reads
        self.device = "/job:localhost/replica:0/task:0/device:GPU:0"

    def numpy(self):
        self.reads.append(self.number)
        return np.zeros(3, "float32")


def test_a_step_on_a_gpu_is_not_waited_for():
    guard, reads, started = finite_check.NonFiniteGuard({"x": "x", "loss": "loss"}), [], []

    def step(iterator):
        started.append(len(started))
        return {"loss": 0.0, "not_finite": Noted(started[-1], reads)}

    run = guard.checked(step)
    for number in range(4):
        assert run(None) == {"loss": 0.0}
        assert reads == list(range(number))  # only steps before the one that has been started
    guard.finish()
    assert reads == [0, 1, 2, 3]
    guard.finish()
    assert reads == [0, 1, 2, 3]


def distiller():
    keras.utils.set_random_seed(0)
    models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2)]
    made = L2RKDDistiller(*models, hard_weight=0.0, seed=0)
    made.compile("sgd")
    return made


def bad_inputs(bad):
    x = np.ones((6, 4), "float32")
    x[bad] = np.nan
    return x


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("bad", [0, 2, 5])
@pytest.mark.filterwarnings("ignore:`batch_size` is 1")
def test_the_step_is_named_wherever_it_is_noticed(monkeypatch, bad, on_gpu):
    """Also that of the last step of an epoch, which no step follows."""
    monkeypatch.setattr(finite_check, "_is_on_gpu", lambda tensor: on_gpu)
    made = distiller()
    x = tf.data.Dataset.from_tensor_slices((bad_inputs(bad),)).batch(1)
    with pytest.raises(FloatingPointError, match=rf"the inputs `x`.* at step {bad}, "):
        made.fit(x, epochs=2, verbose=0)
    assert made.optimizer.iterations.numpy() == min(bad + 1 + on_gpu, 6)


def test_a_single_batch_is_looked_at_at_once(monkeypatch):
    monkeypatch.setattr(finite_check, "_is_on_gpu", lambda tensor: True)
    made = distiller()
    made.train_on_batch(np.ones((6, 4), "float32"))
    with pytest.raises(FloatingPointError, match="at step 1, "):
        made.train_on_batch(bad_inputs(0))
