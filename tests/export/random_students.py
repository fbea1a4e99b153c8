"""Students drawn from a grammar of layers, which turn tensors of one kind into another."""

import keras
import numpy as np
from keras import layers

IMAGE, SEQUENCE, VECTOR, TOKENS = "image", "sequence", "vector", "tokens"
SHAPES = {IMAGE: (8, 8, 2), SEQUENCE: (4, 3), VECTOR: (6,), TOKENS: (4,)}
VOCABULARY = 7


def nested(shape, *inner):
    return keras.Sequential([keras.Input(shape), *inner])


def residual(make):
    return lambda x: layers.Add()([x, make(x.shape[-1])(x)])


def self_attention(layer, **arguments):
    return lambda x: layer(**arguments)(x, x)


def gated(x):
    return layers.Multiply()([x, layers.Dense(x.shape[-1], activation="sigmoid")(x)])


def fixed_normalization():
    return layers.Normalization(mean=0.5, variance=2.0)


# From a kind to a kind: functions of a tensor, each made of new layers.
GRAMMAR = {
    (IMAGE, IMAGE): [
        lambda x: layers.Conv2D(4, 3, padding="same", activation="relu")(x),
        lambda x: layers.DepthwiseConv2D(3)(x),
        lambda x: layers.SeparableConv2D(4, 3, padding="same")(x),
        lambda x: layers.Conv2DTranspose(3, 2)(x),
        lambda x: layers.MaxPooling2D(2, padding="same")(x),
        lambda x: layers.AveragePooling2D(2, padding="same")(x),
        lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x),
        lambda x: layers.ZeroPadding2D(1)(x),
        lambda x: layers.BatchNormalization()(x),
        lambda x: layers.LayerNormalization()(x),
        lambda x: layers.GroupNormalization(1)(x),
        lambda x: layers.PReLU(shared_axes=[1, 2])(x),
        lambda x: layers.LeakyReLU()(x),
        lambda x: layers.RandomFlip()(x),
        lambda x: layers.RandomRotation(0.2)(x),
        lambda x: layers.RandomZoom(0.2)(x),
        lambda x: layers.RandomTranslation(0.2, 0.2)(x),
        lambda x: layers.RandomContrast(0.5)(x),
        lambda x: layers.RandomBrightness(0.5, value_range=(0.0, 1.0))(x),
        lambda x: layers.Resizing(6, 6)(x),
        lambda x: layers.Rescaling(2.0, -1.0)(x),
        lambda x: fixed_normalization()(x),
        lambda x: layers.SpatialDropout2D(0.3)(x),
        residual(lambda width: layers.Conv2D(width, 3, padding="same")),
        lambda x: nested(x.shape[1:], layers.Conv2D(4, 1), layers.BatchNormalization())(x),
        lambda x: nested(x.shape[1:], layers.RandomFlip(), layers.GaussianNoise(0.5))(x),
    ],
    (IMAGE, SEQUENCE): [lambda x: layers.Reshape((-1, x.shape[-1]))(x)],
    (IMAGE, VECTOR): [
        lambda x: layers.Flatten()(x),
        lambda x: layers.GlobalAveragePooling2D()(x),
        lambda x: layers.GlobalMaxPooling2D()(x),
    ],
    (SEQUENCE, SEQUENCE): [
        lambda x: layers.Conv1D(4, 3, padding="causal")(x),
        lambda x: layers.SeparableConv1D(4, 2, padding="same")(x),
        lambda x: layers.LSTM(3, return_sequences=True)(x),
        lambda x: layers.LSTM(3, return_sequences=True, unroll=x.shape[1] <= 4)(x),
        lambda x: layers.SimpleRNN(3, return_sequences=True)(x),
        lambda x: layers.Bidirectional(layers.GRU(2, return_sequences=True))(x),
        self_attention(layers.MultiHeadAttention, num_heads=2, key_dim=3),
        self_attention(
            layers.GroupQueryAttention, head_dim=2, num_query_heads=4, num_key_value_heads=2
        ),
        lambda x: layers.Attention()([x, x]),
        lambda x: layers.AdditiveAttention()([x, x]),
        lambda x: layers.TimeDistributed(layers.Dense(4, activation="gelu"))(x),
        lambda x: layers.EinsumDense("btc,cd->btd", (x.shape[1], 4), bias_axes="d")(x),
        lambda x: layers.LayerNormalization()(x),
        lambda x: layers.Permute((2, 1))(x),
        lambda x: layers.SpatialDropout1D(0.3)(x),
        lambda x: layers.AveragePooling1D(2, padding="same")(x),
    ],
    (SEQUENCE, VECTOR): [
        lambda x: layers.Flatten()(x),
        lambda x: layers.GlobalAveragePooling1D()(x),
        lambda x: layers.GRU(3)(x),
        lambda x: layers.LSTM(3)(layers.Masking(0.0)(x)),
    ],
    (VECTOR, VECTOR): [
        lambda x: layers.Dense(6, activation="silu")(x),
        lambda x: layers.Dense(6, activation="softmax")(x),
        lambda x: layers.Dropout(0.5)(x),
        lambda x: layers.AlphaDropout(0.5)(x),
        lambda x: layers.GaussianDropout(0.5)(x),
        lambda x: layers.BatchNormalization()(x),
        lambda x: layers.UnitNormalization()(x),
        lambda x: layers.ELU()(x),
        lambda x: layers.Concatenate()([x, layers.Activation("tanh")(x)]),
        residual(layers.Dense),
        gated,
        lambda x: nested(x.shape[1:], layers.Dense(5), layers.ReLU(), layers.Dropout(0.5))(x),
    ],
    (VECTOR, SEQUENCE): [lambda x: layers.RepeatVector(4)(x)],
    (VECTOR, TOKENS): [lambda x: layers.Discretization([-0.5, 0.0, 0.5])(x)],
    (TOKENS, SEQUENCE): [
        lambda x: layers.Embedding(VOCABULARY, 3)(x),
        lambda x: layers.Embedding(VOCABULARY, 3)(layers.Hashing(VOCABULARY)(x)),
        lambda x: layers.Embedding(VOCABULARY, 3)(layers.IntegerLookup(vocabulary=[0, 1, 2])(x)),
    ],
    (TOKENS, VECTOR): [lambda x: layers.CategoryEncoding(VOCABULARY, output_mode="multi_hot")(x)],
}


def random_student(seed):
    """A student with random weights and at most two inputs, and data for it."""
    random = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    kinds = [str(kind) for kind in random.choice(list(SHAPES), random.choice([1, 2], p=[0.8, 0.2]))]
    inputs = [
        keras.Input(SHAPES[kind], dtype="int32" if kind == TOKENS else "float32") for kind in kinds
    ]
    vectors = [_random_path(random, *pair) for pair in zip(inputs, kinds, strict=True)]
    joined = layers.Concatenate()(vectors) if len(vectors) > 1 else vectors[0]
    student = keras.Model(inputs, layers.Dense(3)(joined))
    data = [
        random.integers(0, VOCABULARY, (24, *SHAPES[kind]))
        if kind == TOKENS
        else random.normal(size=(24, *SHAPES[kind])).astype("float32")
        for kind in kinds
    ]
    return student, data


def _random_path(random, tensor, kind):
    """From an input to a vector: up to four layers that keep or change the kind."""
    for _ in range(random.integers(1, 5)):
        targets = [target for source, target in GRAMMAR if source == kind]
        target = kind if kind in targets and random.random() < 0.7 else str(random.choice(targets))
        rules = GRAMMAR[kind, target]
        tensor, kind = rules[random.integers(len(rules))](tensor), target
    while kind != VECTOR:
        kinds = (kind, VECTOR)
        tensor, kind = GRAMMAR[kinds][random.integers(len(GRAMMAR[kinds]))](tensor), VECTOR
    return tensor
