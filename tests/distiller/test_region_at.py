"""Regions after a layer: what a step makes of them, how they are run, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from l2rkd_tf import L2RKDDistiller, callbacks, regions
from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.distiller.region_at import HiddenPoints, features_after
from l2rkd_tf.features import OUTPUT
from l2rkd_tf.features.cut import CutModel
from l2rkd_tf.methods import JacobianMatching, SimilarityPreserving
from l2rkd_tf.regions.draws import random_bits, split
from l2rkd_tf.regions.points import draw_points
from l2rkd_tf.teacher_cache import CachedInputs
from l2rkd_tf.utils.distribution import step_seed
from tests.distiller.helpers import compiled, example_weights, fit_once
from tests.helpers import (
    CLASSES,
    RATE,
    TEMPERATURE,
    WEIGHTS,
    TokenClassifier,
    assert_equal_weights,
    batches,
    two_replicas,
    under_policy,
)
from tests.references import losses as reference

TOKENS, TIME, COUNT = 7, 4, 13


def texts(count=COUNT):
    rng = np.random.default_rng(0)
    return rng.integers(0, TOKENS, (count, TIME)), rng.integers(0, CLASSES, count)


def linear_reader(width, seed):
    """Embedding, and one linear map of all that is embedded."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((TIME,), dtype="int32"),
            layers.Embedding(TOKENS, width, name="embedding"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    return model


# One step by hand.


class HandStep:
    """Weights of a `linear_reader` after one step of SGD, in float64.

    A draw is a matrix that moves the vectors of all positions of a batch.
    """

    def __init__(self, teacher, student, x, y, sample_weight):
        self.x, self.y, self.sample_weight = x, y, sample_weight
        self.teacher, self.student = (
            [weight.astype("float64") for weight in model.get_weights()]
            for model in (teacher, student)
        )
        self.gradients = [np.zeros_like(weight) for weight in self.student]

    def logits(self, weights, hidden):
        return hidden.reshape(len(hidden), -1) @ weights[1] + weights[2]

    def add(self, weight, rows, hidden, of_logits, back):
        """Adds a term; `back` takes gradients of hidden points to those of the batch."""
        weights = weight * self.sample_weight[rows] / len(rows)
        of_logits = weights[:, None] * of_logits
        self.gradients[1] += hidden.reshape(len(hidden), -1).T @ of_logits
        self.gradients[2] += of_logits.sum(axis=0)
        of_hidden = back((of_logits @ self.student[1].T).reshape(hidden.shape))
        np.add.at(self.gradients[0], self.x, of_hidden)

    def add_data(self, rows):
        def back(gradient):
            of_batch = np.zeros((*self.x.shape, gradient.shape[-1]))
            of_batch[rows] = gradient
            return of_batch

        teacher, student = (weights[0][self.x[rows]] for weights in (self.teacher, self.student))
        logits = self.logits(self.student, student)
        hard = reference.softmax(logits) - np.eye(CLASSES)[self.y[rows]]
        self.add(WEIGHTS["hard_weight"], rows, student, hard, back)
        targets = self.logits(self.teacher, teacher)
        soft = reference.kl_gradient(targets, logits, TEMPERATURE)
        self.add(WEIGHTS["kd_weight"], rows, student, soft, back)

    def add_region(self, drawn, rows, share, interpolated):
        matrix = self.matrix(drawn)

        def move(vectors):
            flat = vectors.reshape(len(matrix), -1)
            return (matrix @ flat).reshape(vectors.shape)[rows]

        def back(gradient):
            of_batch = np.zeros((*self.x.shape, gradient.shape[-1]))
            of_batch[rows] = gradient
            return (matrix.T @ of_batch.reshape(len(matrix), -1)).reshape(of_batch.shape)

        hidden = [weights[0][self.x] for weights in (self.teacher, self.student)]
        if interpolated:
            at_data = self.logits(self.teacher, hidden[0])
            targets = reference.move(at_data, drawn.partners.numpy(), drawn.lam.numpy())[rows]
        else:
            targets = self.logits(self.teacher, move(hidden[0]))
        student = move(hidden[1])
        local = reference.kl_gradient(targets, self.logits(self.student, student), TEMPERATURE)
        self.add(share * WEIGHTS["region_weight"], rows, student, local, back)

    def matrix(self, drawn):
        size = self.x.size
        units = np.eye(size).reshape(*self.x.shape, size)
        moved = reference.move(units, drawn.partners.numpy(), drawn.lam.numpy())
        return moved.reshape(size, size)

    def weights(self):
        pairs = zip(self.student, self.gradients, strict=True)
        return [weight - RATE * gradient for weight, gradient in pairs]


@pytest.mark.parametrize(
    ("region", "options"),
    [
        (regions.Segment(), {}),
        (regions.Segment(alpha=0.4), {"region_targets": "interpolated"}),
        (regions.Patch(grid=2), {"num_region_points": 2}),
        (regions.Simplex(radius=0.8), {"replace_fraction": 0.4}),
    ],
)
def test_one_sgd_step_equals_weights_derived_by_hand(region, options):
    (x, y), sample_weight = texts(6), example_weights(6)
    teacher, student = linear_reader(3, seed=1), linear_reader(2, seed=2)
    hand = HandStep(teacher, student, x, y, sample_weight)
    fraction, count = options.get("replace_fraction"), options.get("num_region_points", 1)
    rows_seed, *seeds = split(step_seed(5, 0), 1 + count)
    stay = go = np.arange(6)
    if fraction is not None:
        rows = (int(random_bits([], rows_seed)) + np.arange(6)) % 6
        stay, go = rows[2:], rows[:2]
    hand.add_data(stay)
    for seed in seeds:
        drawn = region.draw(tf.zeros((6, TIME, 1)), seed)
        hand.add_region(drawn, go, 1 / count, "region_targets" in options)

    arguments = {"temperature": TEMPERATURE, "seed": 5, **WEIGHTS, **options}
    distiller = L2RKDDistiller(teacher, student, region=region, region_at="embedding", **arguments)
    compiled(distiller, RATE).train_on_batch(x, y, sample_weight)
    for actual, expected in zip(student.get_weights(), hand.weights(), strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-6)


# The same as regions in inputs that are embedded before.


def pooled(hidden):
    hidden = layers.BatchNormalization(name="norm")(hidden)
    penalties = {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    hidden = layers.Dense(5, activation="relu", name="hidden", **penalties)(hidden)
    return layers.Dense(CLASSES)(layers.GlobalMaxPooling1D()(hidden))


def tagged(hidden):
    hidden = layers.Conv1D(5, 2, padding="same", activation="relu", name="hidden")(hidden)
    return layers.Dense(CLASSES)(hidden)


def two_outputs(hidden):
    hidden = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten()(hidden))
    return {"kind": layers.Dense(CLASSES)(hidden), "size": layers.Dense(1)(hidden)}


def frozen_pair(seed, read):
    """A model of token ids with a frozen embedding, and one of what it has embedded."""
    keras.utils.set_random_seed(seed)
    ids, vectors = keras.Input((TIME,), dtype="int32"), keras.Input((TIME, 3))
    embedding = layers.Embedding(TOKENS, 3, trainable=False, name="embedding")
    models = keras.Model(ids, read(embedding(ids))), keras.Model(vectors, read(vectors))
    embedding.set_weights([TABLE])
    for weight, of_ids in zip(models[1].weights, behind(models[0]), strict=True):
        weight.assign(of_ids)
    return models


def behind(model):
    return [weight for weight in model.weights if not weight.path.startswith("embedding")]


TABLE = np.random.default_rng(9).normal(size=(TOKENS, 3)).astype("float32")
EQUAL = {
    "segment": (pooled, "segment", {}),
    "several points": (pooled, regions.Simplex(), {"num_region_points": 2}),
    "replaced": (pooled, "segment", {"replace_fraction": 0.4}),
    "interpolated": (pooled, "segment", {"region_targets": "interpolated"}),
    "same class": (pooled, regions.Segment(partner="same_class"), {}),
    "patch": (tagged, regions.Patch(2), {}),
    "nearest": (tagged, regions.Segment(partner="nearest"), {}),
    "mixture with a ball": (pooled, regions.Mixture([regions.Segment(), regions.Ball(0.5)]), {}),
    "several outputs": (
        two_outputs,
        "segment",
        {"divergence": {"kind": "kl", "size": "mse"}, "hard_weight": 0.0},
    ),
    "methods": (
        pooled,
        "segment",
        {
            "distillation_losses": [SimilarityPreserving("hidden", "hidden"), "rkd"],
            "distillation_losses_at": ["region", "both"],
        },
    ),
}


@pytest.mark.parametrize("case", EQUAL)
def test_a_step_equals_that_on_embedded_inputs(case):
    read, region, options = EQUAL[case]
    x, y = texts()
    weight = example_weights()
    if read is tagged:
        y, weight = np.stack([y] * TIME, 1), np.stack([weight] * TIME, 1)
    pairs = [*zip(frozen_pair(1, read), frozen_pair(2, read), strict=True)]
    logs = []
    for (teacher, student), inputs in zip(pairs, (x, TABLE[x]), strict=True):
        region_at = "embedding" if inputs is x else None
        distiller = L2RKDDistiller(
            teacher, student, region=region, region_at=region_at, seed=3, **options
        )
        given = (inputs,) if read is two_outputs else (inputs, y, weight)
        logs.append(compiled(distiller, 0.1).train_on_batch(*given, return_dict=True))
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        np.testing.assert_allclose(value, logs[1][name], rtol=1e-5, err_msg=name)
    (_, student), (_, expected) = pairs
    for one, other in zip(behind(student), expected.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-6)


def test_swap_behind_an_embedding_equals_swap_of_tokens():
    x, y = texts()
    students = [linear_reader(2, seed=2) for _ in range(2)]
    for student, region_at in zip(students, (None, "embedding"), strict=True):
        region = regions.Swap(contiguous=True)
        distiller = L2RKDDistiller(
            linear_reader(3, seed=1), student, region=region, region_at=region_at, seed=3
        )
        compiled(distiller).train_on_batch(x, y)
    assert_equal_weights(*students, atol=1e-6)


# How it is run.


class Counting(layers.Layer):
    """Notes with how many rows it is called."""

    rows = ()

    def call(self, inputs):
        if tf.executing_eagerly():
            self.rows = (*self.rows, len(inputs))
        return inputs


def reader(width, seed, **embedding):
    keras.utils.set_random_seed(seed)
    ids = keras.Input((TIME,), dtype="int32")
    hidden = layers.Embedding(TOKENS, width, name="embedding", **embedding)(ids)
    hidden = layers.BatchNormalization(synchronized=True, name="norm")(hidden)
    return keras.Model(ids, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(hidden)))


def reading(teacher_width=4, student_width=2, region_at="embedding", **options):
    models = reader(teacher_width, 1), reader(student_width, 2)
    return L2RKDDistiller(*models, region_at=region_at, **{"seed": 3, **options})


@pytest.mark.stress
def test_eager_steps_graphs_and_xla_agree():
    trained = []
    for options in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        teacher, student = linear_reader(3, seed=1), linear_reader(2, seed=2)
        distiller = L2RKDDistiller(teacher, student, region_at="embedding", seed=3)
        compiled(distiller, **{"run_eagerly": False, **options}).train_on_batch(*texts(5))
        trained.append(student)
    assert_equal_weights(trained[1], trained[0], atol=1e-6)
    assert_equal_weights(trained[2], trained[0], atol=1e-6)


def test_two_replicas_equal_one_device():
    data = batches(*texts(7), 8)  # shared unequally

    def build():  # draws differ between replicas, partners as well
        return compiled(reading(region=regions.Segment(radius=1e-6)), 0.05, run_eagerly=False)

    one = build()
    one.fit(data, verbose=0)
    with two_replicas().scope():
        two = build()
    two.fit(data, verbose=0)
    assert_equal_weights(two.student, one.student, atol=1e-5)


def test_mixed_precision_trains_as_float32():
    x, y = texts()
    distillers = [under_policy(policy, reading) for policy in ("mixed_float16", "float32")]
    logs = [compiled(one, 0.1).train_on_batch(x, y, return_dict=True) for one in distillers]
    for name, value in logs[1].items():
        np.testing.assert_allclose(logs[0][name], value, rtol=1e-2, atol=1e-4, err_msg=name)
    assert_equal_weights(distillers[0].student, distillers[1].student, atol=2e-3)


def test_a_loaded_distiller_trains_on_identically(tmp_path):
    x, y = texts()
    distiller = compiled(reading(region_at=("embedding", "norm"), num_region_points=2))
    distiller.train_on_batch(x, y)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.region_at == ("embedding", "norm")
    for one in (distiller, loaded):
        one.run_eagerly = True
        one.train_on_batch(x, y)
    assert_equal_weights(loaded.student, distiller.student)


def test_the_first_part_runs_once_at_the_examples_and_the_rest_once_at_all_points():
    def counting(seed):
        keras.utils.set_random_seed(seed)
        ids = keras.Input((TIME,), dtype="int32")
        early, late = Counting(name="early"), Counting(name="late")
        hidden = late(layers.Embedding(TOKENS, 3, name="embedding")(early(ids)))
        return keras.Model(ids, layers.Dense(CLASSES)(layers.Flatten()(hidden))), early, late

    (teacher, *of_teacher), (student, *of_student) = counting(1), counting(2)
    distiller = L2RKDDistiller(teacher, student, region_at="embedding", num_region_points=2)
    compiled(distiller)
    for layer in (*of_teacher, *of_student):
        layer.rows = ()
    distiller.train_on_batch(*texts(6))
    assert [layer.rows for layer in (*of_teacher, *of_student)] == [(6,), (18,)] * 2
    assert distiller.points_per_step(6) == (18, 18)
    text = []
    distiller.summary(print_fn=text.append)
    assert "after the layers embedding - embedding" in text[0]


@pytest.mark.parametrize("with_teacher", [True, False])
def test_interpolated_targets_take_cached_outputs(with_teacher):
    x, y = texts()
    options = {"region_targets": "interpolated", "region_at": (None, "embedding")}
    live = reading(**options)
    fit_once(compiled(live), x, y)
    teacher, student = reader(4, 1), reader(2, 2)
    cached = L2RKDDistiller(teacher if with_teacher else None, student, seed=3, **options)
    given = CachedInputs(x, teacher.predict(x, verbose=0))
    data = tf.data.Dataset.from_tensor_slices((given, y)).batch(5)
    compiled(cached).fit(data, verbose=0)
    assert_equal_weights(student, live.student, atol=1e-6)


def test_features_before_the_layer_are_compared_at_training_points():
    x, y = texts()
    method = {"distillation_losses": SimilarityPreserving("embedding", "embedding")}
    behind_norm = reading(region_at="norm", **method)
    plain = reading(region_at=None, region_weight=0.0, **method)
    logs = [
        compiled(one, 0.0).train_on_batch(x, y, return_dict=True) for one in (behind_norm, plain)
    ]
    name = "similarity_preserving_loss"
    assert logs[0][name] > 0.0
    np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=1e-5)


# Masks.


def attend(hidden, mask, seed):
    """An encoder block of a transformer, with layers of these weights."""
    allowed = ops.expand_dims(mask, 1)
    attention = layers.MultiHeadAttention(2, 2, seed=seed, name="attention")
    hidden = layers.LayerNormalization()(hidden + attention(hidden, hidden, attention_mask=allowed))
    return layers.LayerNormalization()(hidden + layers.Dense(4, activation="relu")(hidden))


class Backbone(keras.Model):
    """A transformer in the manner of KerasHub: a subclass that is a graph of layers."""

    def __init__(self, **options):
        inputs = {
            "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
            "padding_mask": keras.Input((None,), dtype="int32", name="padding_mask"),
        }
        tokens = layers.Embedding(TOKENS, 4, name="token_embedding")(inputs["token_ids"])
        places = ops.cumsum(ops.ones_like(inputs["token_ids"]), axis=-1) - 1
        hidden = tokens + layers.Embedding(TIME, 4, name="position_embedding")(places)
        hidden = layers.Dropout(0.0, name="embeddings_dropout")(hidden)
        sequence = attend(hidden, inputs["padding_mask"], seed=0)
        super().__init__(inputs, {"sequence": sequence, "pooled": sequence[:, 0]}, **options)


def classifier(seed):
    keras.utils.set_random_seed(seed)
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "padding_mask")
    }
    pooled = Backbone(name="backbone")(inputs)["pooled"]
    return keras.Model(inputs, layers.Dense(CLASSES, name="logits")(pooled))


def padded_texts(count=COUNT):
    x, y = texts(count)
    mask = (np.arange(TIME) < 2 + np.arange(count)[:, None] % 3).astype("int32")
    return {"token_ids": x * mask, "padding_mask": mask}, y


@pytest.mark.parametrize("layer", ["backbone/token_embedding", "embeddings_dropout"])
def test_what_is_padding_in_a_partner_has_no_part_in_a_region_point(layer):
    model, (x, _) = classifier(0), padded_texts()
    cut = CutModel(model, layer)
    state = cut.front(x, training=False)
    drawn = draw_points(regions.Segment(), state.hidden[0], [0, 0])
    points = HiddenPoints(x, drawn, with_data=True)
    logits = features_after(cut, points, False)[OUTPUT]
    np.testing.assert_allclose(logits[:COUNT], model(x), atol=1e-6)

    other = {**x, "token_ids": x["token_ids"] + 1 - x["padding_mask"]}  # other padding
    hidden = cut.front(other, training=False).hidden
    again = features_after(cut, points, False, state._replace(hidden=hidden))[OUTPUT]
    np.testing.assert_allclose(again, logits, atol=1e-6)
    assert np.abs(logits[COUNT:] - logits[:COUNT]).max() > 1e-2


def test_implicit_masks_of_keras_hold_where_all_that_is_mixed_is_data():
    x, _ = padded_texts()
    keras.utils.set_random_seed(0)
    ids = keras.Input((TIME,), dtype="int32")
    recurrent = layers.LSTM(3, return_sequences=True)
    hidden = layers.Embedding(TOKENS, 4, mask_zero=True, name="embedding")(ids)
    model = keras.Model(ids, layers.Dense(2)(recurrent(layers.Dropout(0.1)(hidden))))
    cut = CutModel(model, "embedding")
    (hidden,) = cut.front(x["token_ids"], training=False).hidden
    points = HiddenPoints(x["token_ids"], draw_points(regions.Segment(), hidden, [0, 0]))
    outputs = features_after(cut, points, False)[OUTPUT]
    partners, lam, _ = regions.Segment().draw(hidden, split([0, 0], 2)[1])
    is_data = x["token_ids"] > 0
    is_data &= is_data[partners.numpy()[:, 0]]
    moved = reference.move(hidden, partners.numpy(), lam.numpy())
    expected = model.layers[-1](recurrent(moved.astype("float32"), mask=tf.constant(is_data)))
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_array_equal(keras_fixes.mask_of(outputs), is_data)


@pytest.mark.parametrize("with_data", [False, True])
def test_masks_of_dense_outputs_come_from_what_is_mixed(with_data):
    x, _ = padded_texts()
    ids = keras.Input((TIME,), dtype="int32")
    hidden = layers.Embedding(TOKENS, 4, mask_zero=True, name="embedding")(ids)
    cut = CutModel(keras.Model(ids, layers.Dense(2)(layers.Dropout(0.1)(hidden))), "embedding")
    (hidden,) = cut.front(x["token_ids"], training=False).hidden
    drawn = draw_points(regions.Segment(), hidden, [0, 0])
    points = HiddenPoints(x["token_ids"], drawn, with_data)
    outputs = features_after(cut, points, False)[OUTPUT]
    partners, _, _ = regions.Segment().draw(hidden, split([0, 0], 2)[1])
    is_data = x["token_ids"] > 0
    expected = is_data & is_data[partners.numpy()[:, 0]]
    expected = np.concatenate([is_data, expected]) if with_data else expected
    np.testing.assert_array_equal(keras_fixes.mask_of(outputs), expected)


def test_a_transformer_is_distilled_behind_its_embedding():
    (x, y), teacher = padded_texts(), classifier(0)
    region_at = "backbone/token_embedding", "token_embedding"
    alike = L2RKDDistiller(teacher, classifier(0), region_at=region_at, hard_weight=0.0, seed=0)
    logs = compiled(alike, 0.0).train_on_batch(x, return_dict=True)
    assert logs["kd_loss"] < 1e-6
    assert logs["region_loss"] < 1e-6  # the draw is one for both models

    distiller = L2RKDDistiller(teacher, classifier(1), region_at=region_at, seed=0)
    compiled(distiller, 0.1)
    losses = [distiller.train_on_batch(x, y, return_dict=True)["region_loss"] for _ in range(6)]
    assert losses[-1] < 0.7 * losses[0]


# Refusals.


def with_categories(seed):
    """Categories meet the vectors of tokens as they are."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((TIME,), dtype="int32")
    kinds = keras.Input((TIME,), dtype="int32", name="kinds")
    hidden = layers.Embedding(TOKENS, 3, name="embedding")(ids)
    chosen = ops.take_along_axis(hidden, kinds[:, :, None], axis=1)
    return keras.Model([ids, kinds], layers.Dense(CLASSES)(layers.Flatten()(chosen)))


def with_places(width, seed):
    """The vectors of places pass by those of tokens."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((TIME,), dtype="int32")
    hidden = layers.Embedding(TOKENS, width, name="embedding")(ids)
    hidden = hidden + layers.Embedding(TOKENS, width, name="places")(ids)
    return keras.Model(ids, layers.Dense(CLASSES)(layers.Flatten()(hidden)))


def with_bypass(seed):
    ids = keras.Input((TIME,), dtype="int32")
    embedded = layers.Embedding(TOKENS, 3, name="embedding")(ids)
    other = layers.Embedding(TOKENS, 3, name="other")(ids)
    outputs = {
        name: layers.Dense(CLASSES)(layers.Flatten()(hidden))
        for name, hidden in (("a", embedded), ("b", other))
    }
    return keras.Model(ids, outputs)


def without_the_layer(seed):
    """Uses the one output of a nested model that does not depend on the layer."""
    ids, bypass = keras.Input((TIME,), dtype="int32"), with_bypass(seed)
    inner = keras.Model(bypass.input, bypass.output, name="inner")
    return keras.Model(ids, layers.Dense(CLASSES, name="top")(inner(ids)["b"]))


def shorter(seed):
    """Keeps half of the positions."""
    ids = keras.Input((TIME,), dtype="int32")
    hidden = layers.Embedding(TOKENS, 3, name="tokens")(ids)
    hidden = layers.Conv1D(3, 2, strides=2, name="embedding")(hidden)
    return keras.Model(ids, layers.Dense(CLASSES)(layers.Flatten()(hidden)))


def pair(make, *arguments):
    return make(*arguments, 1), make(*arguments, 2)


def readers(width=3):
    return reader(4, 1), reader(width, 2)


EARLY = SimilarityPreserving("embedding", "embedding")
REFUSALS = {
    "a number": (readers, {"region_at": 3}, "must be the name of a layer of both models, a pair"),
    "three names": (readers, {"region_at": ("a", "b", "c")}, "a pair of names, the teacher's"),
    "no name": (readers, {"region_at": (None, "embedding")}, "must name a layer of the teacher"),
    "unknown": (readers, {"region_at": "embeding"}, r"Did you mean 'embedding'\? Its layers: \["),
    "of the other model": (
        readers,
        {"region_at": ("embedding", "norm2")},
        "`region_at` names the layer 'norm2', which the model .* does not have",
    ),
    "no graph": (
        lambda: (reader(4, 1), TokenClassifier()),
        {"region_at": ("embedding", "table")},
        "needs a `student` whose layers are connected .* or regions.Swap",
    ),
    "integers": (
        lambda: pair(with_categories),
        {"region_at": "embedding"},
        "no other integers than masks.* also needs 'get_item.*' of dtype int32",
    ),
    "outputs that pass by": (
        lambda: pair(with_bypass),
        {"region_at": "embedding"},
        "must name a layer that all outputs depend on",
    ),
    "no output that depends on it": (
        lambda: pair(without_the_layer),
        {"region_at": "inner/embedding"},
        "must name a layer that all outputs depend on",
    ),
    "gradients": (
        readers,
        {"region_at": "embedding", "distillation_losses": JacobianMatching()},
        "must not compare gradients .* jacobian_matching_loss",
    ),
    "early features": (
        readers,
        {"region_at": "norm", "distillation_losses": EARLY, "distillation_losses_at": "both"},
        "must compare layers after region_at .*'both', which compares \\['embedding'\\]",
    ),
    "features": (
        readers,
        {"region_at": "embedding", "features": lambda model, inputs, training: None},
        "`features` must be None with region_at",
    ),
    "balls of two widths": (
        readers,
        {"region_at": "embedding", "region": regions.Ball(0.1)},
        r"one draw of the region has a meaning.*\(None, 4, 4\).*\(None, 4, 3\)",
    ),
    "cells of two lengths": (
        lambda: (reader(4, 1), shorter(2)),
        {"region_at": "embedding", "region": regions.Swap()},
        "one draw of the region has a meaning.* Use regions.Segment",
    ),
    "a ball, and more": (
        lambda: pair(with_places, 3),
        {"region_at": "embedding", "region": regions.Ball(0.1)},
        "`region` must be linear .* 'places'",
    ),
    "a region of the teacher": (
        readers,
        {
            "region_at": "embedding",
            "region": regions.Mixture([regions.Segment(), regions.LinearRegion(None)]),
        },
        "`region` must not be a LinearRegion",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_by_name(case):
    make, options, message = REFUSALS[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        L2RKDDistiller(*make(), **options)


def test_ids_that_are_interpolated_are_told_both_ways_out():
    distiller = compiled(reading(region_at=None, region="segment"))
    with pytest.raises(ValueError, match=r"regions.Swap\(\).* or `region_at=`"):
        distiller.train_on_batch(*texts())


@pytest.mark.parametrize(
    "callback",
    [callbacks.LocalShapeMonitor(texts()), callbacks.BlindRegionSearch([regions.Swap()], texts())],
)
def test_measures_of_regions_in_inputs_are_refused(callback):
    with pytest.raises(ValueError, match="only where regions are drawn in inputs.*region_at=\\('e"):
        compiled(reading()).fit(*texts(), callbacks=[callback], verbose=0)


def test_a_teacher_is_needed_for_its_answers_in_regions():
    student = reader(2, 2)
    distiller = compiled(L2RKDDistiller(None, student, region_at="embedding"))
    with pytest.raises(ValueError, match="`teacher` must be given for region_targets='teacher'"):
        distiller.train_on_batch(*texts())
