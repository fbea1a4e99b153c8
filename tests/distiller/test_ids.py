"""Ids that a model declares as floats: the default region swaps them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, regions


def network(dtype=None, nested=False, width=4):
    ids = keras.Input((6,), dtype=dtype, name="ids")
    embedding = keras.layers.Embedding(9, width)
    if nested:
        inner = keras.Input((6,), dtype=dtype)
        backbone = keras.Model(inner, embedding(inner))
        features = backbone(ids)
    else:
        features = embedding(ids)
    return keras.Model(ids, keras.layers.Dense(3)(keras.layers.Flatten()(features)))


def sequential():
    layers = [keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *layers])


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize(
    "build", [network, lambda: network(nested=True), sequential, lambda: network("int32")]
)
def test_ids_are_swapped_whatever_the_model_declares(build, dtype):
    teacher, student = build(), build()
    x = np.random.default_rng(0).integers(9, size=(16, 6)).astype(dtype)
    distiller = L2RKDDistiller(teacher, student, hard_weight=0.0, seed=0)
    assert isinstance(distiller.region, regions.Swap)
    distiller.compile(keras.optimizers.SGD(0.1))
    history = distiller.fit(x, batch_size=8, verbose=0).history
    assert history["region_loss"][0] > 0
    moved = distiller.region.apply(tf.constant(x), distiller.region.draw(tf.constant(x), [0, 1]))
    np.testing.assert_array_equal(np.sort(np.unique(moved)), np.unique(x))


def test_floats_that_no_embedding_reads_keep_their_default():
    def build():
        inputs = [keras.Input((6,), dtype="int32"), keras.Input((3,))]
        features = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(inputs[0]))
        features = keras.layers.Concatenate()([features, inputs[1]])
        return keras.Model(inputs, keras.layers.Dense(3)(features))

    region = L2RKDDistiller(build(), build()).region
    assert isinstance(region, regions.Compose)


def test_ids_declared_as_floats_next_to_floats_are_refused():
    def build():
        inputs = [keras.Input((6,), name="words"), keras.Input((3,), name="numbers")]
        features = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(inputs[0]))
        features = keras.layers.Concatenate()([features, inputs[1]])
        return keras.Model(inputs, keras.layers.Dense(3)(features))

    with pytest.raises(ValueError, match=r"reads \['words'\], declared as floats.*dtype='int32'"):
        L2RKDDistiller(build(), build())
    L2RKDDistiller(build(), build(), region="swap")
