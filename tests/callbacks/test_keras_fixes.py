"""What callbacks rely on in Keras, and what it does not offer publicly: fails when it does."""

import keras
import numpy as np
import pytest

from l2rkd_tf.distiller import keras_fixes


class StartAt(keras.callbacks.Callback):
    """Changes the first epoch by one of several ways, and notes the epochs."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.epochs = []

    def on_train_begin(self, logs=None):
        self.change(self)

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def fitted(callback):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((2, 1)), np.ones((2, 1)), epochs=3, callbacks=[callback], verbose=0)
    return model


def test_a_callback_sets_the_initial_epoch():
    callback = StartAt(lambda self: keras_fixes.set_initial_epoch(self.model, 2))
    fitted(callback)
    assert callback.epochs == [2]


@pytest.mark.parametrize(
    "change",
    [
        lambda self: setattr(self.model, "initial_epoch", 2),
        lambda self: self.params.update(initial_epoch=2),
        lambda self: keras_fixes.set_initial_epoch(self.model, None),
    ],
    ids=["attribute", "parameter", "undone"],
)
def test_keras_still_has_no_public_way_to_set_it(change):
    callback = StartAt(change)
    fitted(callback)
    assert callback.epochs == [0, 1, 2]


def test_tensorboard_has_its_curves_on_disk_when_an_epoch_ends(tmp_path):
    pytest.importorskip("tensorboard")

    def size():
        return sum(file.stat().st_size for file in tmp_path.rglob("*tfevents*"))

    class Sizes(keras.callbacks.TensorBoard):
        def on_epoch_end(self, epoch, logs=None):
            sizes.append(size())
            super().on_epoch_end(epoch, logs)
            sizes.append(size())

    sizes = []
    fitted(Sizes(tmp_path, write_graph=False))
    assert len(sizes) == 6
    assert all(before < after for before, after in zip(sizes[::2], sizes[1::2], strict=True)), sizes
