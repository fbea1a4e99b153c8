"""Ids that a model declares as floats: the default region swaps them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, rank_regions, regions, teacher_cache
from l2rkd_tf.regions.default import default_region, regions_to_try


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


class TokenAndPosition(keras.layers.Layer):
    """The layer of many examples of transformers."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = keras.layers.Embedding(9, 4), keras.layers.Embedding(6, 4)

    def call(self, ids):
        return self.tokens(ids) + self.positions(keras.ops.arange(6))


def through(layer):
    """Ids that a layer or a function moves, or looks up in its own way, before anything else."""
    ids = keras.Input((6,))
    return keras.Model(ids, keras.layers.Dense(3)(keras.layers.Flatten()(layer(ids))))


_EMBED = keras.layers.Embedding
_THROUGH = {
    "own layer": lambda ids: TokenAndPosition()(ids),
    "reshaped": lambda ids: _EMBED(9, 4)(keras.layers.Reshape((2, 3))(ids)),
    "function": lambda ids: _EMBED(9, 4)(keras.layers.Lambda(lambda x: x[:, ::-1])(ids)),
    "operations": lambda ids: _EMBED(9, 4)(keras.ops.cast(ids[:, 1:], "int32")),
    "categories": lambda ids: keras.layers.CategoryEncoding(9, output_mode="one_hot")(
        keras.layers.Reshape((6, 1))(ids)
    ),
}


@pytest.mark.parametrize("name", _THROUGH)
def test_ids_that_something_moves_before_the_lookup_are_swapped(name):
    teacher, student = (through(_THROUGH[name]) for _ in range(2))
    assert isinstance(L2RKDDistiller(teacher, student).region, regions.Swap)


def test_positions_are_no_ids():
    """Vision transformers have an `Embedding` of positions."""

    class Positions(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.positions = _EMBED(6, 1)

        def call(self, inputs):
            return inputs[..., None] + self.positions(keras.ops.arange(6))

    teacher, student = (through(lambda inputs: Positions()(inputs)) for _ in range(2))
    assert isinstance(L2RKDDistiller(teacher, student).region, regions.Compose)


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


@pytest.mark.parametrize(("dtype", "has_noise"), [("int32", False), ("uint8", True)])
def test_floats_for_an_input_of_integers_are_ids(dtype, has_noise):
    category = keras.Input((1,), dtype=dtype)
    hidden = keras.layers.CategoryEncoding(9, output_mode="one_hot")(category)
    model = keras.Model(category, keras.layers.Dense(3)(hidden))
    x = np.zeros((4, 1), "float32")
    assert isinstance(default_region(x, model=model), regions.Swap)
    tried = regions_to_try(x, model)
    assert any(isinstance(one, regions.Ball) for one in tried) == has_noise


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int32"])
@pytest.mark.parametrize("declared", ["uint8", "float32", "int32"])
@pytest.mark.parametrize("shape", [(6,), (6, 5)])
def test_data_of_any_dtype_have_the_default_of_what_the_model_declares(shape, declared, dtype):
    inputs = keras.Input(shape, dtype=declared)
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    data = np.zeros((4, *shape), dtype)
    distiller = L2RKDDistiller(model, keras.models.clone_model(model), hard_weight=0.0)
    assert repr(default_region(data, "channels_last", model=model)) == repr(distiller.region)


def test_floats_that_no_embedding_reads_keep_their_default():
    def build():
        inputs = [keras.Input((6,), dtype="int32"), keras.Input((3,))]
        features = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(inputs[0]))
        features = keras.layers.Concatenate()([features, inputs[1]])
        return keras.Model(inputs, keras.layers.Dense(3)(features))

    region = L2RKDDistiller(build(), build()).region
    assert isinstance(region, regions.Compose)


def with_numbers(shape=(3,), dtype=None):
    """A network of ids that are declared as floats, and of numbers."""
    inputs = {"words": keras.Input((6,)), "numbers": keras.Input(shape, dtype=dtype)}
    features = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(inputs["words"]))
    numbers = keras.layers.Flatten()(keras.ops.cast(inputs["numbers"], "float32"))
    features = keras.layers.Concatenate()([features, numbers])
    return keras.Model(inputs, keras.layers.Dense(3)(features))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(
    ("shape", "of_numbers", "kind"),
    [
        ((3,), "float32", regions.Compose),
        ((4, 4, 1), "float32", regions.Patch),
        ((4, 4, 1), "uint8", regions.Patch),
    ],
)
def test_ids_next_to_numbers_stay_ids(shape, of_numbers, kind, dtype):
    random = np.random.default_rng(0)
    x = {
        "words": random.integers(9, size=(16, 6)).astype(dtype),
        "numbers": random.integers(255, size=(16, *shape)).astype(of_numbers),
    }
    models = [with_numbers(shape, of_numbers) for _ in range(2)]
    distiller = L2RKDDistiller(*models, hard_weight=0.0, seed=0)
    assert isinstance(distiller.region, kind)
    distiller.compile(keras.optimizers.SGD(1e-6))
    distiller.fit(x, batch_size=8, verbose=0)
    tensors = keras.tree.map_structure(tf.constant, x)
    moved = distiller.region.apply(tensors, distiller.region.draw(tensors, [0, 1]))
    np.testing.assert_array_equal(np.unique(moved["words"]), np.unique(x["words"]))
    assert not np.array_equal(moved["numbers"], x["numbers"])
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(distiller.region)
    )
    assert repr(again) == repr(distiller.region)


def test_float_ids_in_a_bank_and_in_a_ranking():
    teacher, student = network(), network()
    x = np.random.default_rng(0).integers(9, size=(16, 6)).astype("float32")
    bank = teacher_cache.cache_regions(tf.data.Dataset.from_tensor_slices(x).batch(8), teacher)
    distiller = L2RKDDistiller(None, student, hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(0.1))
    distiller.fit(bank, verbose=0)
    ranking = rank_regions(teacher, student, x, x, steps=1, rounds=1, verbose=False)
    assert [type(entry.region) for entry in ranking if entry.region] == [regions.Swap] * 3


def test_plain_distillation_of_ids_next_to_numbers_is_ranked():
    x = {"words": np.ones((8, 6), "float32"), "numbers": np.ones((8, 3), "float32")}
    candidates = [None, regions.Swap()]
    ranking = rank_regions(
        with_numbers(), with_numbers(), x, x, candidates, steps=1, rounds=1, verbose=False
    )
    assert len(ranking) == 2


def test_all_regions_to_try_leave_ids_next_to_numbers_alone():
    model = with_numbers()
    candidates = regions_to_try(model.input, model)
    interpolated = regions.default_region(model.input, interpolated=True, model=model)
    tensors = {"words": tf.ones((8, 6)) * tf.range(8.0)[:, None], "numbers": tf.eye(8, 3)}
    for region in [interpolated, *candidates]:
        if region is not None:
            moved = region.apply(tensors, region.draw(tensors, [0, 1]))
            assert set(np.unique(moved["words"])) <= set(range(8)), region
