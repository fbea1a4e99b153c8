"""What users of distillation libraries report: the right value, or the message with the way out."""

import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from tests.distiller.helpers import compiled, fit_once, linear_pair, network, outputs_of, table
from tests.helpers import CLASSES, GivenDraws, convnet, cross_entropy, images, two_replicas

HARD_ONLY = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}


def distiller_of_vectors(**arguments):
    return L2RKDDistiller(network(1, 9), network(2), seed=0, **arguments)


def message_of(action, error=ValueError):
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


# C. Plain containers on a Keras model


class OfStructure(keras.Model):
    """Unbuilt, subclassed, with several inputs in any structure."""

    def __init__(self, width):
        super().__init__()
        self.dense = keras.Sequential([layers.Dense(width, "relu"), layers.Dense(CLASSES)])

    def call(self, inputs, training=None):
        return self.dense(tf.concat(keras.tree.flatten(inputs), axis=-1))


STRUCTURES = {
    "dict": lambda x: {"b": x[:, :1], "a": x[:, 1:]},
    "list": lambda x: [x[:, :1], x[:, 1:]],
    "nested": lambda x: {"b": {"c": x[:, :1]}, "a": [x[:, 1:2], x[:, 2:]]},
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_unbuilt_students_take_inputs_in_any_structure(structure):
    x, y = table()
    inputs = STRUCTURES[structure](x)
    teacher, student = OfStructure(9), OfStructure(5)
    teacher(inputs)
    distiller = compiled(L2RKDDistiller(teacher, student, seed=0))
    assert np.isfinite(distiller.fit(inputs, y, verbose=0).history["loss"]).all()
    np.testing.assert_allclose(distiller.predict(inputs, verbose=0), student(inputs), rtol=1e-5)
    np.testing.assert_array_equal(distiller(inputs), student(inputs))


# G. Regions that are degenerate in silence


class Recording(keras.Model):
    """Keeps what a model is given."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []
        self.built = True

    def call(self, inputs, training=None):
        self.seen.append(np.array(inputs))
        return self.model(inputs, training=training)


def masked_model(mask_value, **options):
    return keras.Sequential(
        [
            keras.Input((6, 2)),
            layers.Masking(mask_value, **options),
            layers.GlobalAveragePooling1D(),
            layers.Dense(CLASSES),
        ]
    )


@pytest.mark.parametrize("padding", [-10.0, 0.0])
def test_mixed_sequences_are_data_only_where_both_are(padding):
    rng = np.random.default_rng(1)
    lengths = np.array([6, 2, 4, 1])
    is_data = np.arange(6) < lengths[:, None]
    x = np.where(is_data[..., None], rng.normal(size=(4, 6, 2)), padding).astype("float32")
    partners, lam = np.array([1, 2, 3, 0]), rng.uniform(size=4).astype("float32")
    drawn = regions.Coefficients(
        tf.constant(partners[:, None], tf.int32), tf.constant(lam[:, None])
    )
    student = Recording(masked_model(padding))
    distiller = compiled(
        L2RKDDistiller(
            masked_model(padding), student, region=GivenDraws(regions.Segment(), [drawn])
        )
    )
    distiller.fit(x, np.zeros(4), batch_size=4, shuffle=False, verbose=0)
    original, moved = np.split(student.seen[-1], 2)
    np.testing.assert_array_equal(original, x)
    both = is_data & is_data[partners]
    expected = x + lam[:, None, None] * (x[partners] - x)
    expected = np.where(both[..., None], expected, padding)
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(both.sum(1), np.minimum(lengths, lengths[partners]))


def test_noise_does_not_reach_padding():
    x = np.zeros((4, 6, 2), "float32")
    x[:, :3] = 1.0
    student = Recording(masked_model(0.0))
    region = regions.Mixture([regions.Ball(0.5), regions.Segment()])
    distiller = compiled(L2RKDDistiller(masked_model(0.0), student, region=region, seed=0))
    distiller.fit(x, np.zeros(4), batch_size=4, verbose=0)
    moved = student.seen[-1][4:]
    assert (moved[:, 3:] == 0.0).all() and (moved[:, :3] != 0.0).all()


def test_masks_among_the_inputs_move_with_the_data():
    rng = np.random.default_rng(1)
    x = {"x": rng.normal(size=(4, 3)).astype("float32"), "mask": rng.random((4, 3)) < 0.6}
    region = regions.Segment()
    drawn = region.draw(x, seed=[0, 1])
    moved, partners = region.apply(x, drawn), drawn.partners[:, 0].numpy()
    np.testing.assert_array_equal(moved["mask"], x["mask"] & x["mask"][partners])
    assert moved["mask"].dtype == tf.bool
    ball = regions.Ball(0.1)
    np.testing.assert_array_equal(ball.apply(x, ball.draw(x, [0, 1]))["mask"], x["mask"])
    with pytest.raises(ValueError, match="only masks, of dtype bool"):
        region.draw({"mask": x["mask"]}, seed=[0, 1])


@pytest.mark.parametrize("options", [{}, {"replace_fraction": 0.5}])
def test_batches_of_one_are_named_once(options):
    x, y = table(4)
    distiller = compiled(distiller_of_vectors(**options))
    with pytest.warns(UserWarning, match="`batch_size` is 1.*at least 2 examples") as told:
        distiller.fit(x, y, batch_size=1, epochs=2, verbose=0)
    assert len([one for one in told if "`batch_size` is 1" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*batch_size.*")
        distiller.fit(x[:3], y[:3], batch_size=2, verbose=0)  # the last one has one example


@pytest.mark.parametrize(
    "region", [regions.Ball(0.1), regions.Mixture([regions.Ball(0.1), regions.Ball(0.2)])]
)
def test_batches_of_one_need_no_partners_in_a_ball(region):
    x, y = table(3)
    distiller = compiled(distiller_of_vectors(region=region))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*batch_size.*")
        distiller.fit(x, y, batch_size=1, verbose=0)


# H. The same thing said in another form


LOSSES = {
    "object": cross_entropy(),
    "list": [cross_entropy()],
    "dict": {"dense_1": cross_entropy()},
    "lambda": lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True),
}


@pytest.mark.parametrize("form", LOSSES)
def test_losses_in_every_form_have_one_value(form):
    x, y = table()
    teacher, student = linear_pair()
    distiller = L2RKDDistiller(teacher, student, **HARD_ONLY)
    distiller.compile("sgd", LOSSES[form], metrics={"any": ["accuracy"]}, run_eagerly=True)
    logits = outputs_of(student, x)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_p[np.arange(len(y)), y].mean()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*from_logits.*")
        logs = distiller.evaluate(x, y, batch_size=13, verbose=0, return_dict=True)
        found = distiller.fit(x, y, batch_size=13, verbose=0).history
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert found["hard_loss"][0] == pytest.approx(expected, rel=1e-5)
    assert logs["accuracy"] == pytest.approx((logits.argmax(1) == y).mean())


PROBABILITY_LOSSES = {
    "name": "sparse_categorical_crossentropy",
    "function": keras.losses.sparse_categorical_crossentropy,
    "class": keras.losses.SparseCategoricalCrossentropy,
    "list": ["sparse_categorical_crossentropy"],
    "dict": {"logits": keras.losses.SparseCategoricalCrossentropy()},
    "chosen by labels": "crossentropy",
}


@pytest.mark.parametrize("form", PROBABILITY_LOSSES)
def test_losses_of_probabilities_are_noticed_in_every_form(form):
    x, y = table()
    distiller = L2RKDDistiller(*linear_pair(), **HARD_ONLY)
    distiller.compile("sgd", PROBABILITY_LOSSES[form], run_eagerly=True)
    with pytest.warns(UserWarning, match="has from_logits=False and the distiller has"):
        fit_once(distiller, x, y)


def test_losses_of_several_outputs_are_refused():
    distiller = distiller_of_vectors()
    message = message_of(lambda: distiller.compile("sgd", {"a": "mse", "b": "mse"}))
    assert "`loss` must be one for the student's only output" in message


METRICS = {
    "accuracy": ("accuracy", "keras.metrics.BinaryAccuracy(name='accuracy', threshold=0.0)"),
    "precision": (keras.metrics.Precision, "keras.metrics.Precision(thresholds=0.0)"),
    "recall": (keras.metrics.Recall, "keras.metrics.Recall(thresholds=0.0)"),
    "auc": (keras.metrics.AUC, "keras.metrics.AUC(from_logits=True)"),
    "cross entropy": (keras.metrics.BinaryCrossentropy, "(from_logits=True)"),
    "function": (lambda: keras.metrics.binary_accuracy, "a metric of logits"),
    "at recall": (lambda: keras.metrics.PrecisionAtRecall(0.5), "a metric of logits"),
}


def fit_binary(metric, outputs=1, **options):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype("float32"), rng.integers(0, 2, (40, outputs))
    teacher, student = linear_pair(outputs=outputs)
    distiller = L2RKDDistiller(teacher, student, divergence="binary_kl", **options)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, metrics=[metric], run_eagerly=True)
    return distiller.evaluate(x, y, verbose=0, return_dict=True), distiller, (x, y)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_of_probabilities_are_noticed(name):
    metric, advice = METRICS[name]
    for outputs in (1, 2):
        with pytest.warns(UserWarning, match=re.escape(advice)):
            fit_binary(metric if isinstance(metric, str) else metric(), outputs)


RIGHT_METRICS = [
    lambda: keras.metrics.BinaryAccuracy(threshold=0.0),
    lambda: keras.metrics.Precision(thresholds=0.0),
    lambda: keras.metrics.AUC(from_logits=True),
    lambda: keras.metrics.BinaryCrossentropy(from_logits=True),
    lambda: keras.metrics.F1Score(),
    lambda: keras.metrics.MeanSquaredError(),
]


@pytest.mark.parametrize("make", RIGHT_METRICS)
def test_metrics_of_logits_are_not(make):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*metrics.*")
        fit_binary(make())


def test_the_advised_accuracy_is_right():
    logs, distiller, (x, y) = fit_binary(keras.metrics.BinaryAccuracy(threshold=0.0))
    assert logs["binary_accuracy"] == pytest.approx(
        ((outputs_of(distiller.student, x) > 0) == y).mean()
    )


# I. A file format that loses half of the object


@pytest.mark.parametrize("name", ["x.h5", "x.hdf5", "x"])
def test_files_without_the_teacher_are_refused(name, tmp_path):
    message = message_of(lambda: distiller_of_vectors().save(tmp_path / name))
    assert "must end in .keras" in message and "distiller.student.save" in message
    assert list(tmp_path.iterdir()) == []


# K. Messages that name the way out


@pytest.mark.parametrize("is_image", [True, False])
def test_data_without_batches(is_image):
    if is_image:
        (x, y), distiller = images(8), L2RKDDistiller(convnet(1, 8), convnet(2))
    else:
        (x, y), distiller = table(), distiller_of_vectors()
    unbatched = tf.data.Dataset.from_tensor_slices((x, y))
    assert "Add `.batch(32)`" in message_of(lambda: compiled(distiller).fit(unbatched, verbose=0))


def test_data_of_unknown_shape():
    x, y = table()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    unknown = batches.map(lambda x, y: (tf.numpy_function(lambda z: z, [x], tf.float32), y))
    message = message_of(lambda: compiled(distiller_of_vectors()).fit(unknown, verbose=0))
    assert "`output_signature`" in message and "`set_shape`" in message


def test_outputs_without_an_axis_of_outputs():
    inputs = keras.Input((4,))
    scalar = keras.Model(inputs, layers.Reshape(())(layers.Dense(1)(inputs)))
    L2RKDDistiller(scalar, keras.Sequential([keras.Input((4,)), layers.Dense(1)]), divergence="mse")
    message = message_of(lambda: L2RKDDistiller(scalar, network(1), divergence="mse"))
    assert "must have the same number of outputs" in message


def test_inputs_of_other_sizes():
    small = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(CLASSES)])
    message = message_of(lambda: L2RKDDistiller(convnet(1), small))
    code = "keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Resizing(8, 8), teacher])"
    assert code in message and "Rescaling" in message
    wrapped = keras.Sequential([keras.Input((4, 4, 1)), layers.Resizing(8, 8), convnet(1)])
    L2RKDDistiller(wrapped, small)


class OfKeras2:
    __module__ = "tf_keras.src.engine.functional"


@pytest.mark.parametrize(
    ("teacher", "advice"),
    [
        (lambda: OfKeras2(), "a model of Keras 2"),
        (lambda: "teacher.keras", "keras.models.load_model('teacher.keras')"),
        (lambda: layers.Dense(3), "the unbuilt layer"),
        (lambda: OfStructure, "Did you mean `OfStructure()`?"),
        (lambda: lambda x: x, "l2rkd_tf.CallableTeacher(function, num_outputs)"),
    ],
)
def test_teachers_that_are_no_models(teacher, advice):
    assert advice in message_of(lambda: L2RKDDistiller(teacher(), network(3)))


def test_one_output_in_a_dict_is_unwrapped():
    x, y = table()

    def named(seed, hidden):
        inputs = keras.Input((4,))
        return keras.Model(inputs, {"logits": network(seed, hidden)(inputs)})

    plain = compiled(L2RKDDistiller(network(1, 9), network(2), seed=0))
    history = fit_once(plain, x, y)
    teacher, student = named(1, 9), named(2, 5)
    distiller = L2RKDDistiller(teacher, student, seed=0)
    distiller.compile(
        keras.optimizers.SGD(0.5), {"logits": cross_entropy()}, {"logits": 1.0}, run_eagerly=True
    )
    assert fit_once(distiller, x, {"logits": y}) == history
    assert distiller.evaluate(x, {"logits": y}, verbose=0) == plain.evaluate(x, y, verbose=0)
    assert set(distiller.predict(x, verbose=0)) == {"logits"}


def test_distillers_are_not_exported(tmp_path):
    message = message_of(lambda: distiller_of_vectors().export(tmp_path / "x"))
    assert "export_saved_model(distiller.student" in message


def test_stateful_students():
    x, y = np.zeros((8, 5, 2), "float32"), np.zeros(8)
    student = keras.Sequential(
        [keras.Input((5, 2), batch_size=8), layers.GRU(3, stateful=True), layers.Dense(CLASSES)]
    )
    teacher = keras.Sequential(
        [keras.Input((5, 2)), layers.Flatten(), layers.Dense(9), layers.Dense(CLASSES)]
    )
    distiller = compiled(L2RKDDistiller(teacher, student))
    message = message_of(lambda: distiller.fit(x, y, batch_size=8, verbose=0))
    assert "stateful layers ['gru" in message and "region points double the batch" in message


def test_integer_columns_are_named():
    x = {"is_new": np.zeros((4, 1), bool), "job": np.zeros((4, 1), "int64")}
    message = message_of(lambda: regions.Segment().draw(x, seed=[0, 0]))
    assert "an input 'job' of dtype int64" in message and "float32" in message


def test_the_teacher_is_found():
    distiller = distiller_of_vectors()
    assert "distiller.get_teacher()" in message_of(lambda: distiller.teacher, AttributeError)
    assert not hasattr(distiller, "teacher") and not hasattr(distiller, "anything")


class Softmax(keras.Model):
    """Hides its last activation from the graph."""

    def __init__(self, model, activation="softmax"):
        super().__init__()
        self.model, self.activation = model, keras.activations.get(activation)
        self.built = True

    def call(self, inputs, training=None):
        return self.activation(self.model(inputs))


@pytest.mark.covering
@pytest.mark.parametrize("name", ["teacher", "student"])
@pytest.mark.parametrize("options", [{}, {"jit_compile": True, "run_eagerly": False}])
def test_hidden_softmaxes_are_seen_in_the_first_batch(name, options):
    x, y = table()
    models = {"teacher": network(1, 9), "student": network(2)}
    models[name] = Softmax(models[name])
    distiller = compiled(L2RKDDistiller(**models), **options)
    message = message_of(lambda: distiller.fit(x, y, verbose=0))
    assert f"`{name}` must output logits" in message and "from_logits=False" in message


def test_hidden_softmaxes_are_seen_on_replicas():
    x, y = table(7)  # of which the second replica has none in the last batch
    with two_replicas().scope():
        distiller = L2RKDDistiller(Softmax(network(1, 9)), network(2))
        distiller.compile("sgd", cross_entropy())
        message = message_of(lambda: distiller.fit(x, y, batch_size=6, verbose=0))
    assert "`teacher` must output logits" in message


def test_only_the_first_batch_of_a_fit_is_looked_at():
    x, y = table(8)
    teacher = Softmax(network(1, 9), "linear")
    distiller = compiled(L2RKDDistiller(teacher, network(2)))
    distiller.fit(x, y, batch_size=8, verbose=0)
    teacher.activation = keras.activations.softmax
    distiller.train_on_batch(x, y)
    assert "`teacher` must output logits" in message_of(lambda: distiller.fit(x, y, verbose=0))


def test_hidden_sigmoids_and_logits_are_seen_too():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype("float32"), rng.integers(0, 2, (40, 2))
    teacher, student = linear_pair(outputs=2)
    hidden = Softmax(teacher, "sigmoid")
    distiller = L2RKDDistiller(hidden, student, divergence="binary_kl")
    distiller.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), run_eagerly=True)
    assert "remove the sigmoid" in message_of(lambda: distiller.fit(x, y, verbose=0))
    logits = Softmax(network(1, 9), "linear")
    distiller = compiled(
        L2RKDDistiller(logits, network(2, activation="softmax"), from_logits=False)
    )
    message = message_of(lambda: distiller.fit(*table(), verbose=0))
    assert "`teacher` must output probabilities when from_logits=False" in message


def test_inputs_on_the_scale_of_files_are_noticed():
    x, y = images(8)
    grey = np.round(255 * x)
    with pytest.warns(UserWarning, match="neither model rescales its inputs.*divide by 255"):
        plain = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(CLASSES)])
        compiled(L2RKDDistiller(plain, keras.models.clone_model(plain))).fit(grey, y, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*whole numbers.*")
        scaled = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), plain])
        compiled(L2RKDDistiller(scaled, keras.models.clone_model(scaled))).fit(grey, y, verbose=0)
        compiled(L2RKDDistiller(plain, keras.models.clone_model(plain))).fit(x, y, verbose=0)


def test_swapped_models_are_noticed():
    with pytest.warns(UserWarning, match=r"L2RKDDistiller\(teacher, student\) takes the teacher"):
        L2RKDDistiller(network(2), network(1, 9))


def test_labels_of_the_other_kind_are_named():
    x, y = table()
    distiller = compiled(distiller_of_vectors())
    one_hot = keras.utils.to_categorical(y, CLASSES)
    assert "which are one-hot" in message_of(lambda: fit_once(distiller, x, one_hot))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    distiller.compile("sgd", loss, run_eagerly=True)
    message = message_of(lambda: fit_once(distiller, x, y))
    assert "one number for each" in message and "SparseCategoricalCrossentropy" in message


# Strings and configs, as Keras takes them


@pytest.mark.parametrize(
    "identifier",
    [
        "segment",
        "Segment",
        {"class_name": "Segment", "config": {"radius": 1.0}},
        keras.saving.serialize_keras_object(regions.Segment()),
    ],
)
def test_regions_in_every_form(identifier):
    distiller = distiller_of_vectors(region=identifier)
    assert repr(distiller.region) == repr(regions.Segment())
    distiller.region = identifier
    assert isinstance(regions.get(identifier), regions.Segment)


@pytest.mark.parametrize("name", [*methods.METHODS, "RelationalKD", "relational-kd"])
def test_methods_by_name(name):
    found = methods.get(name)
    assert isinstance(found, methods.Method)
    config = keras.saving.serialize_keras_object(found)
    assert type(methods.get(config)) is type(found)


def test_several_methods_by_name():
    distiller = distiller_of_vectors(distillation_losses=["rkd", {"class_name": "DKD"}])
    kinds = [type(method) for method in distiller.distillation_losses]
    assert kinds == [methods.RelationalKD, methods.DKD]
    assert isinstance(
        distiller_of_vectors(distillation_losses="pkt").distillation_losses[0], methods.PKT
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"region": "pach"}, "Did you mean 'patch'?"),
        ({"region": "ball"}, "Pass the object: Ball(radius=...)"),
        ({"region": regions.Patch}, "Did you mean `Patch()`?"),
        ({"region": 3}, "such as regions.Segment()"),
        (
            {
                "region": {
                    "class_name": "DKD",
                    "module": "l2rkd_tf.methods.logits",
                    "config": {},
                    "registered_name": "l2rkd_tf>DKD",
                }
            },
            "must be a config of Region",
        ),
        ({"region": {"class_name": "Segment", "config": {"size": 1}}}, "cannot be made"),
        ({"distillation_losses": methods.FitNet}, "Did you mean `FitNet()`?"),
        ({"distillation_losses": ["rdk"]}, "Did you mean 'rkd'?"),
    ],
)
def test_wrong_identifiers(arguments, message):
    assert message in message_of(lambda: distiller_of_vectors(**arguments))


# A summary


def test_the_summary_shows_both_models_and_the_step():
    lines = []
    distiller = distiller_of_vectors(distillation_losses=["fitnet"], num_region_points=2)
    distiller.summary(line_length=80, print_fn=lines.append)
    (text,) = lines
    teacher, student = distiller.get_teacher(), distiller.student
    for model in (teacher, student):
        assert model.name in text and f"{model.count_params():,}" in text
    assert "Swap(radius=0.5" in text and "divergence 'kl', temperature 4" in text
    assert re.search(r"fit_net_loss +100 +data +layers hidden - hidden", text)
    assert "96 points through the student" in text and "96 through the teacher" in text


def test_the_summary_of_what_is_not_known_yet():
    lines = []
    distiller = L2RKDDistiller(None, OfStructure(4), region_targets="interpolated")
    distiller.summary(print_fn=lines.append)
    assert "not built" in lines[0] and "chosen for the first batch" in lines[0]


# L. Rarer


def test_patches_follow_the_data_format_of_the_layers():
    def network_of(width):
        return keras.Sequential(
            [
                keras.Input((2, 8, 6)),
                layers.ZeroPadding2D(1, data_format="channels_first"),
                layers.Flatten(data_format="channels_first"),
                layers.Dense(width),
                layers.Dense(CLASSES),
            ]
        )

    distiller = L2RKDDistiller(network_of(5), network_of(3))
    assert distiller.region.grid == (4, 4)
    own = L2RKDDistiller(network_of(5), network_of(3), region=regions.Patch(4)).region
    x = np.random.default_rng(0).normal(size=(5, 2, 8, 6)).astype("float32")
    drawn = distiller.region.draw(x, seed=[0, 0])
    moved, partners = distiller.region.apply(x, drawn), drawn.partners[:, 0].numpy()
    np.testing.assert_array_equal(own.apply(x, own.draw(x, seed=[0, 0])), moved)
    lam = np.repeat(drawn.lam[:, 0], 2, axis=1)[:, :, np.arange(6) * 4 // 6]
    expected = x + lam[:, None] * (x[partners] - x)
    np.testing.assert_allclose(moved, expected, rtol=1e-6, atol=1e-6)
    given = regions.Patch(4, data_format="channels_last")
    assert regions.Patch.from_config(given.get_config()).data_format == "channels_last"
