"""Models in two parts: together they are the model, and what passes between them is known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.features import OUTPUT, feature_model
from l2rkd_tf.features.cut import CutModel

TOKENS, TIME = 9, 5
IDS = np.array([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [6, 7, 8, 1, 2]])


def ids(name=None):
    return keras.Input((TIME,), dtype="int32", name=name)


def embedding(name="embedding", **options):
    return layers.Embedding(TOKENS, 4, name=name, **options)


def masked():
    """Functional, with an implicit mask; dense outputs carry it on."""
    inputs = ids()
    hidden = layers.Dropout(0.1, name="drop")(embedding(mask_zero=True)(inputs))
    hidden = layers.LSTM(3, return_sequences=True, name="recurrent")(hidden)
    return keras.Model(inputs, layers.Dense(2)(hidden))


def masked_sequential():
    return keras.Sequential([ids(), embedding(mask_zero=True), layers.LSTM(3), layers.Dense(2)])


class Encoder(keras.Model):
    """Sums of embeddings, attention with a mask, and two outputs by name."""

    def __init__(self, **options):
        inputs = {name: ids(name) for name in ("token_ids", "padding_mask", "segments")}
        hidden = embedding()(inputs["token_ids"]) + embedding("kind")(inputs["segments"])
        hidden = layers.LayerNormalization(name="norm")(hidden)
        allowed = ops.expand_dims(inputs["padding_mask"], 1)
        attended = layers.MultiHeadAttention(2, 2)(hidden, hidden, attention_mask=allowed)
        outputs = {"sequence": hidden + attended, "pooled": attended[:, 0]}
        super().__init__(inputs, outputs, **options)


def encoder_inputs():
    mask = (IDS > 0).astype("int32")
    return {"token_ids": IDS, "padding_mask": mask, "segments": IDS % 2}


def nested():
    inputs = {name: ids(name) for name in encoder_inputs()}
    pooled = Encoder(name="encoder")(inputs)["pooled"]
    return keras.Model(inputs, layers.Dense(2, name="head")(pooled))


def pair_of_texts():
    """The same embedding reads both."""
    read = keras.Sequential([ids(), embedding(), layers.GlobalMaxPooling1D()], name="read")
    inputs = [ids("one"), ids("other")]
    return keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(list(map(read, inputs)))))


@keras.saving.register_keras_serializable("tests")
class Tied(layers.Layer):
    """Embeds token ids, or scores vectors by the same weights."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = self.add_weight(shape=(TOKENS, 4))

    def call(self, inputs, reverse=False):
        if reverse:
            return ops.matmul(inputs, ops.transpose(self.table))
        return ops.take(self.table, inputs, axis=0)

    def compute_output_spec(self, inputs, reverse=False):
        size = inputs.shape[:-1] if reverse else inputs.shape
        return keras.KerasTensor((*size, TOKENS if reverse else 4), "float32")


def tied():
    inputs, tie = ids(), Tied(name="embedding")
    return keras.Model(inputs, tie(layers.Dense(4)(tie(inputs)), reverse=True))


def embedding_alone():
    """The layer is the output of a nested model."""
    inputs = ids()
    inner = keras.Sequential([ids(), embedding()], name="inner")
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inner(inputs))))


TEXTS = [IDS, IDS[::-1].copy()]
# Model, layer, features before and behind it, inputs, and what passes along: names and masks.
CUTS = {
    "implicit mask": (masked, "embedding", [], ["recurrent"], IDS, {"not_equal": True}),
    "after the mask": (masked, "recurrent", ["drop"], ["recurrent"], IDS, {}),
    "sequential": (masked_sequential, "embedding", [], ["embedding"], IDS, {"not_equal": True}),
    "sum": (
        Encoder,
        "embedding",
        ["kind"],
        ["norm"],
        encoder_inputs(),
        {"kind": False, "expand_dims": True},
    ),
    "encoder": (Encoder, "norm", ["embedding"], [], encoder_inputs(), {"expand_dims": True}),
    "nested": (
        nested,
        "encoder/norm",
        ["encoder/embedding", "encoder/kind"],
        ["encoder/norm", "head"],
        encoder_inputs(),
        {"expand_dims": True},
    ),
    "two calls": (pair_of_texts, "read/embedding", [], ["read"], TEXTS, {}),
    "tied": (tied, "embedding", [], [], IDS, {}),
    "output of a nested model": (embedding_alone, "inner/embedding", [], ["inner"], IDS, {}),
}


@pytest.mark.parametrize("case", CUTS)
@pytest.mark.filterwarnings("error:.*mask information")
def test_both_parts_together_are_the_model(case):
    make, layer, before, behind, inputs, along = CUTS[case]
    keras.utils.set_random_seed(0)
    model = make()
    cut = CutModel(model, layer, [*before, *behind])
    state = cut.front(inputs, training=False)
    found = cut.rest(state.hidden, state.along, training=False)

    expected = feature_model(model, [*before, *behind])(inputs, training=False)
    assert found.keys() == {OUTPUT, *behind}
    assert state.features.keys() == set(before) == set(cut.before)
    for name, value in (state.features | found).items():
        pairs = zip(keras.tree.flatten(value), keras.tree.flatten(expected[name]), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other, err_msg=name)
    assert _mask(found[OUTPUT]) == _mask(expected[OUTPUT])
    passing = {one.name.rstrip("_0123456789"): one.is_mask for one in cut.along}
    assert passing == along
    assert len(cut.hidden) == (2 if case == "two calls" else 1)
    assert not cut.bypassed


def _mask(output):
    mask = keras_fixes.mask_of(output)
    return None if mask is None else mask.numpy().tolist()


def test_a_layer_that_only_one_output_depends_on_is_told():
    inputs = ids()
    hidden, other = embedding()(inputs), embedding("other")(inputs)
    model = keras.Model(inputs, [layers.Flatten()(hidden), layers.Flatten()(other)])
    assert CutModel(model, "embedding").bypassed
