"""Students that are built by the first batch they meet."""

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import L2RKDDistiller, regions
from tests.distiller.helpers import FEATURES, compiled, fit_once, network, table
from tests.helpers import CLASSES, TokenClassifier, assert_equal_weights


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = seeded_layers()

    def call(self, inputs):
        return self.last(self.hidden(inputs))


def seeded_layers():
    return [
        layers.Dense(5, "relu", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
        layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
    ]


@pytest.mark.parametrize(
    "make", [Subclassed, lambda: keras.Sequential(seeded_layers())], ids=["class", "sequential"]
)
def test_an_unbuilt_student_trains_as_a_built_one(make):
    x, y = table()
    built = keras.Sequential([keras.Input((FEATURES,)), *seeded_layers()])
    students, histories = [built, make()], []
    for student in students:
        distiller = compiled(L2RKDDistiller(network(0), student, seed=0), metrics=["accuracy"])
        histories.append(fit_once(distiller, x, y, epochs=2, validation_data=(x, y)))
        assert repr(distiller.region) == repr(regions.default_region(x))
    assert_equal_weights(*students)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("first", ["fit", "predict"])
def test_a_student_of_integers_is_built_by_fit_or_predict(first):
    x, y = np.arange(12).reshape(4, 3) % 9, np.arange(4) % CLASSES
    teacher = TokenClassifier()
    teacher(x)
    distiller = L2RKDDistiller(teacher, TokenClassifier(), region_weight=0.0, seed=0)
    distiller.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    if first == "predict":
        distiller.predict(x, verbose=0)
    hard_loss = distiller.fit(x, y, batch_size=4, verbose=0).history["hard_loss"][0]
    expected = distiller.loss(y, distiller.student(x))
    np.testing.assert_allclose(hard_loss, expected, rtol=1e-5)
