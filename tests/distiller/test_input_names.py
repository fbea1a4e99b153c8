"""Data in another structure than that of the models, or with more keys: Keras goes by names."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import CallableTeacher, L2RKDDistiller, regions, teacher_cache
from l2rkd_tf.features.graph import trace
from l2rkd_tf.regions import padding
from tests.helpers import BATCH, CLASSES, RATE, cross_entropy

STEPS = (5, 2)


def structured(kind, inputs):
    """Inputs as a model may take them; a list in the reverse order of their names."""
    return inputs if kind == "dict" else kind(inputs[name] for name in sorted(inputs)[::-1])


def two_vectors(kind, seed):
    keras.utils.set_random_seed(seed)
    inputs = {name: keras.Input((4,), name=name) for name in "ab"}
    hidden = layers.Concatenate()([inputs["a"], 2.0 * inputs["b"]])
    return keras.Model(structured(kind, inputs), layers.Dense(CLASSES)(hidden))


def vectors():
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(BATCH, 4)).astype("float32") for name in "ab"}
    return x, rng.integers(0, CLASSES, BATCH)


def assert_equal_weights(weights, others):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


UNUSED = {"row": np.arange(BATCH), "time": np.arange(BATCH) / 2, "town": np.array(["x"] * BATCH)}


def fitted(kind, x, y, **options):
    teacher, student = two_vectors(kind, 1), two_vectors(kind, 2)
    distiller = L2RKDDistiller(teacher, student, seed=0, **options)
    distiller.compile(keras.optimizers.SGD(RATE), cross_entropy())
    history = distiller.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH), verbose=0)
    return student.get_weights(), history.history


@pytest.mark.parametrize("kind", ["dict", list, tuple])
def test_keys_that_no_model_takes_change_nothing(kind):
    x, y = vectors()
    weights = [fitted(kind, one, y, region_weight=0.0)[0] for one in (x, x | UNUSED)]
    assert_equal_weights(*weights)
    alone = two_vectors(kind, 2)
    alone.compile(keras.optimizers.SGD(RATE), cross_entropy())
    alone.fit(x | {"row": UNUSED["row"]}, y, batch_size=BATCH, verbose=0)
    hard = fitted(kind, x | UNUSED, y, hard_weight=1.0, kd_weight=0.0, region_weight=0.0)[0]
    assert_equal_weights(hard, alone.get_weights())


@pytest.mark.parametrize("region", [None, "segment", regions.Segment(fixed=("time",))])
@pytest.mark.parametrize("kind", ["dict", list])
def test_regions_of_data_with_keys_that_no_model_takes(kind, region):
    x, y = vectors()
    assert fitted(kind, x | UNUSED, y, region=region)[1]["region_loss"][0] > 0


@pytest.mark.parametrize("form", ["dataset", "arrays", "batches"])
@pytest.mark.parametrize("of_dict", ["teacher", "student"])
def test_a_key_that_keras_would_take_for_another_is_refused(form, of_dict):
    x, y = vectors()
    x = {"Row": x["a"], **x}
    kinds = ("dict", list) if of_dict == "teacher" else (list, "dict")
    distiller = L2RKDDistiller(*(two_vectors(kind, 1) for kind in kinds))
    distiller.compile("sgd", cross_entropy())
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    data = {"dataset": (dataset,), "arrays": (x, y), "batches": (iter(dataset),)}[form]
    message = rf"`x` must hold the keys that the {of_dict} takes before .*\['Row', 'a', 'b'\]"
    with pytest.raises(ValueError, match=message):
        distiller.fit(*data, verbose=0)


def test_the_order_of_an_ordered_dict_is_that_of_the_model():
    x, y = vectors()
    ordered = collections.OrderedDict(reversed(x.items()))
    with pytest.raises(ValueError, match=r"Received: the keys \['b', 'a'\]"):
        fitted("dict", ordered, y)
    assert_equal_weights(*(fitted(list, one, y, region_weight=0.0)[0] for one in (x, ordered)))


# Padding.


def encoder(value):
    return keras.Sequential([keras.Input(STEPS), layers.Masking(value), layers.GRU(3)])


def functional_encoder(value):
    inputs = keras.Input(STEPS)
    return keras.Model(inputs, layers.GRU(3)(layers.Masking(value)(inputs)))


def both(function_of_p, function_of_q, kind=list, names="pq"):
    """A model of two sequences."""
    inputs = {name: keras.Input(STEPS, name=name) for name in names}
    hidden = [f(inputs[n]) for f, n in zip((function_of_p, function_of_q), names, strict=True)]
    return keras.Model(
        structured(kind, inputs), layers.Dense(CLASSES)(layers.Concatenate()(hidden))
    )


def shared_masking(kind=list):
    masking, gru = layers.Masking(), layers.GRU(3)
    return both(lambda p: gru(masking(p)), lambda q: gru(masking(q)), kind)


def shared_encoder(make=encoder):
    shared = make(0.0)
    return both(shared, shared)


def of_values(kind=list):
    """Masks `p` with 0 and `q` with 1."""
    return both(encoder(0.0), encoder(1.0), kind)


def nested(kind, call):
    """A model that calls one with a graph."""
    inputs = {name: keras.Input(STEPS, name=name) for name in "ab"}
    return keras.Model(inputs, of_values(kind)(call(inputs["a"], inputs["b"])))


def once(kind=list):
    return both(encoder(0.0), layers.GRU(3), kind)


P, Q = (tf.zeros((2, *STEPS)) for _ in range(2))
OTHER = tf.zeros((2, 3))


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        (shared_masking, [Q, P], [0.0, 0.0]),
        (shared_encoder, [Q, P], [0.0, 0.0]),
        (lambda: shared_encoder(functional_encoder), [Q, P], [0.0, 0.0]),
        (of_values, [Q, P], [1.0, 0.0]),
        (of_values, {"p": P, "q": Q}, [0.0, 1.0]),
        (of_values, {"a": OTHER, "p": P, "pq": OTHER, "q": Q}, [None, 0.0, None, 1.0]),
        (lambda: of_values(tuple), {"q": Q, "p": P}, [0.0, 1.0]),
        (lambda: of_values("dict"), {"p": P, "q": Q, "z": OTHER}, [0.0, 1.0, None]),
        (lambda: of_values("dict"), [P, Q], [0.0, 1.0]),
        (lambda: of_values("dict"), (P, Q), [0.0, 1.0]),
        (once, {"p": P, "q": Q}, [0.0, None]),
        (once, [Q, P], [None, 0.0]),
        (lambda: nested(list, lambda a, b: [a, b]), {"a": Q, "b": P}, [1.0, 0.0]),
        (lambda: nested(list, lambda a, b: [b, a]), {"a": P, "b": Q}, [0.0, 1.0]),
        (lambda: nested(list, lambda a, b: {"p": a, "q": b}), {"a": P, "b": Q}, [0.0, 1.0]),
        (lambda: nested("dict", lambda a, b: {"p": b, "q": a}), {"a": Q, "b": P}, [1.0, 0.0]),
        (lambda: nested(list, lambda a, b: [a, a]), {"a": P, "b": Q}, [1.0, None]),
        (lambda: encoder(2.0), P, [2.0]),
        (lambda: encoder(2.0), [P], [2.0]),
        (lambda: functional_encoder(2.0), [P], [2.0]),
    ],
)
def test_masks_are_found_at_the_inputs_that_models_take(model, inputs, expected):
    assert padding.mask_values(inputs, model()) == expected
    assert padding.mask_values(inputs, None, model()) == expected


def test_masks_of_a_model_of_one_input():
    inputs = keras.Input(STEPS, name="p")
    model = keras.Model(inputs, encoder(2.0)(inputs))
    assert padding.mask_values({"p": P}, model) == [2.0]
    assert padding.mask_values({"a": OTHER, "p": P, "z": OTHER}, model) == [None, 2.0, None]
    wrapped = keras.Model({"p": inputs}, model(inputs))
    assert padding.mask_values({"p": P, "z": OTHER}, wrapped) == [2.0, None]


def test_a_model_is_looked_through_once_while_its_layers_stay(monkeypatch):
    traced = []
    monkeypatch.setattr(
        padding, "trace", lambda *args, **kw: traced.append(args) or trace(*args, **kw)
    )
    inner = encoder(0.0)
    model = both(inner, layers.GRU(3))
    assert [padding.mask_values([Q, P], model) for _ in range(2)] == [[None, 0.0]] * 2
    assert len(traced) == 2  # the model and the encoder
    for _ in range(2):
        inner.pop()
    inner.add(layers.GRU(3))
    inner.build((None, *STEPS))
    assert padding.mask_values([Q, P], model) == [None, None]
    outer = both(inner, encoder(1.0))
    assert padding.mask_values([Q, P], outer) == [1.0, None]


def test_what_the_student_does_not_mask_the_teacher_may():
    student = both(layers.GRU(3), encoder(3.0))
    assert padding.mask_values([Q, P], student, of_values()) == [3.0, 0.0]


def without_graph():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.masking, self.gru, self.out = (
                layers.Masking(),
                layers.GRU(3),
                layers.Dense(CLASSES),
            )

        def call(self, inputs, training=None):
            hidden = self.gru(self.masking(inputs["sequence"]))
            return self.out(keras.ops.concatenate([hidden, inputs["vector"]], axis=-1))

    model = Model()
    model({"sequence": P, "vector": OTHER})
    return model


def test_masks_of_several_inputs_without_a_graph_are_not_known():
    rng = np.random.default_rng(0)
    x = {"sequence": rng.normal(size=(BATCH, *STEPS)), "vector": rng.normal(size=(BATCH, 3))}
    assert padding.mask_values(x, without_graph()) == [None, None]
    distiller = L2RKDDistiller(without_graph(), without_graph(), hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(RATE))
    assert distiller.fit(x, verbose=0).history["region_loss"][0] > 0


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("make", [shared_masking, shared_encoder])
def test_no_position_mixes_data_with_padding(make, as_dict):
    seen = []

    def teacher(inputs):
        seen.append([np.array(one) for one in keras.tree.flatten(inputs)])
        return np.zeros((len(seen[-1][0]), CLASSES), "float32")

    rng = np.random.default_rng(0)
    x = {name: 1 + rng.random((BATCH, *STEPS), dtype="float32") for name in "pq"}
    x["p"][::2, 3:] = 0.0
    x["q"][1::2, 2:] = 0.0
    region = regions.Segment()
    distiller = L2RKDDistiller(
        CallableTeacher(teacher, CLASSES), make(), region=region, hard_weight=0.0, seed=0
    )
    distiller.compile(keras.optimizers.SGD(RATE))
    distiller.fit(x if as_dict else [x["q"], x["p"]], batch_size=BATCH, verbose=0)
    for points in seen[-1]:
        moved = points[BATCH:]
        assert len(moved) == BATCH and (moved >= 1).any()
        assert set(np.unique(moved[moved < 1])) == {0.0}


# Names of ids that are floats.


def with_ids(kind, shape=(3,), of_ids="ids", of_numbers="aux"):
    keras.utils.set_random_seed(3)
    inputs = {
        of_ids: keras.Input((6,), name=of_ids),
        of_numbers: keras.Input(shape, name=of_numbers),
    }
    hidden = [layers.Embedding(9, 4)(inputs[of_ids]), inputs[of_numbers]]
    hidden = layers.Concatenate()([layers.Flatten()(one) for one in hidden])
    return keras.Model(structured(kind, inputs), layers.Dense(CLASSES)(hidden))


def ids_and_numbers(shape=(3,)):
    rng = np.random.default_rng(0)
    return {
        "ids": rng.integers(9, size=(16, 6)).astype("float32"),
        "aux": rng.normal(size=(16, *shape)).astype("float32"),
    }


def assert_swaps_ids(region, x, ids, numbers):
    tensors = keras.tree.map_structure(tf.constant, x)
    moved = region.apply(tensors, region.draw(tensors, [0, 1]))
    np.testing.assert_array_equal(np.unique(moved[ids]), np.unique(x[ids]))
    assert not np.isin(moved[numbers], x[numbers]).all()


@pytest.mark.parametrize(
    ("kind", "structure", "ids", "numbers", "shape"),
    [
        ("dict", "dict", "ids", "aux", (3,)),
        (list, "dict", "ids", "aux", (3,)),
        (list, "dict", "ids", "aux", (4, 4, 1)),
        (tuple, "dict", "ids", "aux", (3,)),
        (list, tuple, 0, 1, (3,)),
        ("sorted dict", list, 1, 0, (3,)),
        ("sorted dict", tuple, 1, 0, (4, 4, 1)),
    ],
)
def test_ids_are_swapped_under_the_names_of_the_data(kind, structure, ids, numbers, shape):
    x = ids_and_numbers(shape)
    if kind == "sorted dict":  # Keras takes a list for it, in this order
        models = [with_ids("dict", shape, "b_ids", "a_aux") for _ in range(2)]
        models = [keras.Model(dict(sorted(model.input.items())), model.output) for model in models]
        x = structure([x["aux"], x["ids"]])
    else:
        models = [with_ids(kind, shape) for _ in range(2)]
        x = structured(structure, x)
    distiller = L2RKDDistiller(*models, hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(1e-6))
    assert distiller.fit(x, batch_size=8, verbose=0).history["region_loss"][0] >= 0
    assert_swaps_ids(distiller.region, x, ids, numbers)


def test_one_distiller_takes_ids_under_several_names(tmp_path):
    x = ids_and_numbers()
    as_list = [x["ids"], x["aux"]]
    distiller = L2RKDDistiller(with_ids(list), with_ids(list), hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(1e-6))
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    for one in (distiller, loaded):
        for data, ids in ((x, "ids"), (as_list, 0), (x | {"row": np.arange(16)}, "ids")):
            one.fit(data, batch_size=8, verbose=0)
            assert_swaps_ids(one.region, data, ids, "aux" if ids == "ids" else 1)


def test_data_of_a_generator_and_regions_of_ones_own():
    x = ids_and_numbers()
    for region in (None, regions.Mixture([regions.Segment(fixed=(0,))])):
        distiller = L2RKDDistiller(
            with_ids(list), with_ids(list), hard_weight=0.0, region=region, seed=0
        )
        distiller.compile(keras.optimizers.SGD(1e-6))
        distiller.fit((({**x},) for _ in range(2)), verbose=0)
        assert_swaps_ids(distiller.region, x, "ids", "aux")


def test_names_that_are_nobodys_are_still_refused():
    distiller = L2RKDDistiller(
        with_ids(list), with_ids(list), hard_weight=0.0, region=regions.Segment(fixed=("words",))
    )
    distiller.compile(keras.optimizers.SGD(RATE))
    with pytest.raises(ValueError, match=r"`fixed` must hold names of inputs\. .*\('words',\)"):
        distiller.fit(ids_and_numbers(), verbose=0)


def test_a_bank_and_a_distiller_of_float_ids_choose_the_same_region():
    x = ids_and_numbers() | {"row": np.arange(16.0)}
    data = tf.data.Dataset.from_tensor_slices((x,)).batch(8)
    bank = teacher_cache.cache_regions(data, with_ids(list), verbose=False)
    distiller = L2RKDDistiller(None, with_ids(list), hard_weight=0.0, seed=0)
    distiller.compile(keras.optimizers.SGD(1e-6))
    assert np.isfinite(distiller.fit(bank, verbose=0).history["region_loss"][0])


def test_what_no_model_takes_does_not_choose_the_region():
    model = two_vectors(list, 1)
    x, _ = vectors()
    images = {"image": np.zeros((BATCH, 8, 8, 1), "float32")}
    chosen = [repr(regions.default_region(data, model=model)) for data in (x, x | images)]
    assert chosen[0] == chosen[1] == repr(regions.default_region(model.input, model=model))
