"""What users report of `fit`, of callbacks and of files: the right value, or the way out."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2rkd_tf import L2RKDDistiller, methods, regions
from tests.distiller.helpers import compiled, network, table
from tests.helpers import CLASSES, convnet, cross_entropy

X, Y = table()
YES_NO = keras.losses.BinaryCrossentropy(from_logits=True)


def distiller_of(teacher=None, student=None, **options):
    return L2RKDDistiller(teacher or network(1, 9), student or network(2), seed=0, **options)


def fit(distiller, x=X, y=Y, **options):
    return last(distiller.fit(x, y, **{"batch_size": 13, "shuffle": False, "verbose": 0} | options))


def last(history):
    """Logs of the last epoch."""
    return {name: values[-1] for name, values in history.history.items()}


def batches(x=X, y=Y, size=5, **options):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size, **options)


def fit_batches(distiller, dataset, **options):
    return last(distiller.fit(dataset, shuffle=False, verbose=0, **options))


def message_of(action, error=ValueError):
    with pytest.raises(error) as caught:
        action()
    return str(caught.value)


# Weights of classes and examples.


@pytest.mark.parametrize("weights", [[1.0, 5.0, 0.5], np.array([1.0, 5.0, 0.5]), (1.0, 5.0, 0.5)])
def test_weights_of_classes_in_a_row(weights):
    message = message_of(lambda: fit(compiled(distiller_of()), class_weight=weights))
    assert message.startswith("`class_weight` must be a dict")
    assert "dict(enumerate(class_weight))" in message


@pytest.mark.parametrize("keys", [("cat", "dog"), ("0", "1"), (1, CLASSES), (0.5, 1), (-1, 0)])
def test_weights_of_what_is_no_class(keys):
    weights = dict.fromkeys(keys, 2.0)
    message = message_of(lambda: fit(compiled(distiller_of()), class_weight=weights))
    assert message.startswith(f"`class_weight` must have class numbers, from 0 to {CLASSES - 1}")
    assert f"Received: the keys {list(keys)}" in message


@pytest.mark.parametrize("form", ["arrays", "dataset", "one_hot", "positional"])
def test_classes_without_a_weight_have_weight_1(form):
    wanted = fit(compiled(distiller_of()), sample_weight=np.where(Y == 1, 5.0, 1.0))
    distiller, weights = compiled(distiller_of()), {np.int64(1): 5.0}
    if form == "dataset":
        found = fit_batches(distiller, batches(size=13), class_weight=weights)
    elif form == "one_hot":
        distiller.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            run_eagerly=True,
        )
        found = fit(distiller, y=np.eye(CLASSES)[Y], class_weight=weights)
    elif form == "positional":
        found = last(distiller.fit(X, Y, 13, 1, 0, None, 0.0, None, False, weights))
    else:
        found = fit(distiller, class_weight=weights)
    assert found == pytest.approx(wanted)


def test_weights_of_classes_with_independent_outputs():
    distiller = distiller_of(divergence="binary_kl")
    distiller.compile("sgd", YES_NO, run_eagerly=True)
    labels = np.eye(CLASSES, dtype="float32")[Y]
    message = message_of(lambda: fit(distiller, y=labels, class_weight={1: 2.0}))
    assert "`class_weight` must be None" in message and "`sample_weight`" in message


def test_weights_of_yes_and_no():
    def history(**weights):
        heads = keras.Sequential([network(1), layers.Dense(1)]), keras.Sequential([network(2)])
        heads[1].add(layers.Dense(1, kernel_initializer="ones"))
        heads[0].layers[-1].kernel.assign(tf.ones((CLASSES, 1)))
        distiller = distiller_of(*heads, divergence="binary_kl")
        distiller.compile(keras.optimizers.SGD(0.5), YES_NO, run_eagerly=True)
        return fit(distiller, y=(Y > 0).astype("float32"), **weights)

    found, wanted = history(class_weight={1: 5.0}), np.where(Y > 0, 5.0, 1.0)
    assert found == pytest.approx(history(sample_weight=wanted))


@pytest.mark.parametrize("shape", [(13,), (13, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_weights_of_examples_in_every_form(shape, dtype):
    weights = (np.arange(13) % 2).astype("float32")
    wanted = fit(compiled(distiller_of()), sample_weight=weights)
    given = weights.reshape(shape).astype(dtype)
    assert fit(compiled(distiller_of()), sample_weight=given) == pytest.approx(wanted)


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_weights_of_outputs(run_eagerly):
    distiller = compiled(distiller_of(), run_eagerly=run_eagerly)
    message = message_of(lambda: fit(distiller, sample_weight=np.ones((13, CLASSES))))
    assert "`sample_weight` must have one weight for each example" in message
    assert f"{CLASSES})" in message


# Data.


@pytest.mark.parametrize("argument", ["x", "validation_data"])
def test_data_without_an_end(argument):
    endless, steps = batches().repeat(), {"x": "steps_per_epoch"}.get(argument, "validation_steps")
    arguments = {"x": batches(), argument: endless, "verbose": 0}
    message = message_of(lambda: compiled(distiller_of()).fit(**arguments))
    assert message.startswith(f"`{steps}` must be given")
    assert f"`{argument}`" in message and ".repeat()" in message
    history = compiled(distiller_of()).fit(**arguments, **{steps: 2})
    assert np.isfinite(last(history)["loss"])


@pytest.mark.parametrize("argument", ["x", "validation_data"])
def test_data_without_a_batch(argument):
    empty = batches(size=20, drop_remainder=True)
    arguments = {"x": batches(), argument: empty, "verbose": 0}
    message = message_of(lambda: compiled(distiller_of()).fit(**arguments))
    assert f"`{argument}` must have at least one batch" in message and "drop_remainder" in message


def ragged_sequences():
    rows = [0, 1, 3, 4, 6, 7, 9, 10, 12]
    return tf.RaggedTensor.from_row_splits(tf.random.normal((12, 4)), rows)


NOT_DENSE = {
    "ragged": lambda: batches(ragged_sequences(), Y[:8]),
    "sparse": lambda: batches(tf.sparse.from_dense(np.maximum(X, 0.0))),
}


@pytest.mark.parametrize("form", NOT_DENSE)
def test_inputs_that_are_not_dense(form):
    message = message_of(lambda: compiled(distiller_of()).fit(NOT_DENSE[form](), verbose=0))
    assert "`x` must be dense" in message
    assert "padded_batch" in message and "to_dense" in message


def test_sparse_matrices():
    matrix = pytest.importorskip("scipy.sparse").csr_matrix(np.maximum(X, 0.0))
    message = message_of(lambda: compiled(distiller_of()).fit(matrix, Y, verbose=0))
    assert "Received: SparseTensor" in message and ".toarray()" in message


def test_names_in_the_place_of_weights():
    names = np.array([f"{number}.jpg" for number in range(13)])
    data = tf.data.Dataset.from_tensor_slices((X, Y, names)).batch(5)
    message = message_of(lambda: fit_batches(compiled(distiller_of()), data))
    assert "`sample_weight` must be numbers" in message and "lambda x, y, name: (x, y)" in message


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_examples_as_dicts(run_eagerly):
    data = tf.data.Dataset.from_tensor_slices({"image": X, "label": Y}).batch(5)
    distiller = compiled(distiller_of(), run_eagerly=run_eagerly)
    message = message_of(lambda: fit_batches(distiller, data))
    assert "Received: a dict with the keys ['image', 'label']" in message
    pairs = data.map(lambda example: (example["image"], example["label"]))
    wanted = fit_batches(compiled(distiller_of(), run_eagerly=run_eagerly), batches())
    assert fit_batches(distiller, pairs) == wanted


@pytest.mark.parametrize("as_dataset", [True, False])
@pytest.mark.parametrize(
    ("shape", "advice"),
    [((8, 8), "numpy.newaxis"), ((9, 8, 1), "9, 8, 1)."), ((8, 8, 3), "8, 3).")],
)
def test_images_of_another_shape(shape, advice, as_dataset):
    images = np.random.default_rng(0).random((13, *shape), dtype="float32")
    distiller = compiled(distiller_of(convnet(0), convnet(1)))
    data = (batches(images), None) if as_dataset else (images, Y)
    message = message_of(lambda: distiller.fit(*data, verbose=0))
    assert message.startswith("`x` must have the shape of the student's input, (None, 8, 8, 1)")
    assert advice in message


def test_inputs_by_name_and_a_superfluous_axis():
    """What Keras matches to the student's inputs is left to it."""
    inputs = [keras.Input((1,), name="b"), keras.Input((3,), name="a")]
    student = keras.Model(inputs, layers.Dense(CLASSES)(layers.Concatenate()(inputs)))
    teacher = keras.Model(inputs, layers.Dense(CLASSES)(layers.Concatenate()(inputs)))
    by_name = {"a": X[:, :3], "b": X[:, 3:]}
    assert np.isfinite(fit(compiled(L2RKDDistiller(teacher, student)), by_name)["loss"])
    assert np.isfinite(fit(compiled(distiller_of()), X[..., None])["loss"])


TEXT = np.array(["cat", "cow", "dog"])


@pytest.mark.parametrize("labels", [TEXT[Y], TEXT.astype(object)[Y], TEXT.astype("S")[Y]])
def test_labels_that_are_text(labels):
    message = message_of(lambda: fit(compiled(distiller_of()), y=labels))
    assert "`y` must be numbers" in message and "numpy.unique" in message
    names, numbers = np.unique(labels, return_inverse=True)
    np.testing.assert_array_equal(names[numbers], labels)
    found = fit(compiled(distiller_of()), y=numbers)
    assert found == fit(compiled(distiller_of()))


def test_labels_that_are_text_in_a_dataset():
    data = batches(y=TEXT[Y])
    message = message_of(lambda: fit_batches(compiled(distiller_of()), data))
    assert "StringLookup(vocabulary=names, num_oov_indices=0)" in message
    lookup = keras.layers.StringLookup(vocabulary=list(TEXT), num_oov_indices=0)
    found = fit_batches(compiled(distiller_of()), data.map(lambda x, y: (x, lookup(y))))
    assert found == fit_batches(compiled(distiller_of()), batches())


# Losses.

OF_OUTPUTS = [
    "mse",
    keras.losses.mean_absolute_error,
    keras.losses.Huber,
    keras.losses.CategoricalFocalCrossentropy(from_logits=True),
    keras.losses.KLDivergence(name="mine"),
    keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
]


@pytest.mark.parametrize("loss", OF_OUTPUTS)
@pytest.mark.parametrize("shape", [(13,), (13, 1)])
def test_class_numbers_for_losses_of_all_outputs(loss, shape):
    distiller = distiller_of(divergence="mse")
    distiller.compile("sgd", loss, run_eagerly=True)
    message = message_of(lambda: fit(distiller, y=Y.reshape(shape).astype("float32")))
    assert f"needs labels of the shape of the outputs, (batch, {CLASSES})" in message
    assert "to_categorical" in message


def test_smoothed_labels():
    smoothing = 0.1
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    distiller = distiller_of()
    distiller.compile("sgd", loss, run_eagerly=True)
    logits = np.asarray(distiller.student(X), np.float64)
    one_hot = np.eye(CLASSES)[Y]
    targets = one_hot * (1.0 - smoothing) + smoothing / CLASSES
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = fit(distiller, y=one_hot)["hard_loss"]
    assert found == pytest.approx(-(targets * log_p).sum(-1).mean(), rel=1e-6)


def test_examples_without_a_label():
    labels = np.where(np.arange(13) < 6, -1, Y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    distiller, student = distiller_of(), network(2)
    for model in (distiller, student):
        model.compile(keras.optimizers.SGD(0.5), loss, run_eagerly=True)
    wanted = student.evaluate(X, labels, batch_size=13, verbose=0)
    history = fit(distiller, y=labels)
    assert history["hard_loss"] == pytest.approx(wanted, rel=1e-6)
    assert history["kd_loss"] == fit(compiled(distiller_of()))["kd_loss"]


def test_labels_beyond_the_outputs_are_named_where_xla_makes_them_nan():
    distiller = compiled(distiller_of(), run_eagerly=False, jit_compile=True)
    message = message_of(lambda: fit(distiller, y=Y + 1), FloatingPointError)
    assert "`hard_loss`" in message and "below the number of outputs" in message


# What is trained.


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_layers_frozen_or_unfrozen_without_compile(before, run_eagerly):
    student = network(2)
    hidden = student.get_layer("hidden")
    hidden.trainable = before
    distiller = compiled(distiller_of(student=student), run_eagerly=run_eagerly)
    fit(distiller)
    hidden.trainable = not before
    message = message_of(lambda: fit(distiller))
    assert "`trainable`" in message and "compile()" in message and hidden.kernel.path in message
    kernel = hidden.kernel.numpy()
    fit(compiled(distiller, run_eagerly=run_eagerly))
    assert np.array_equal(hidden.kernel, kernel) == before


@pytest.mark.parametrize("is_trained_before", [False, True])
@pytest.mark.parametrize("by_batch", [False, True])
@pytest.mark.parametrize(
    "make", [layers.Dense, lambda _: layers.BatchNormalization(center=False, scale=False)]
)
def test_shared_layers_that_are_unfrozen_later(is_trained_before, by_batch, make):
    body, inputs = make(5), keras.Input((X.shape[1],))
    teacher, student = (keras.Model(inputs, layers.Dense(CLASSES)(body(inputs))) for _ in range(2))
    body.trainable = False
    distiller = compiled(distiller_of(teacher, student))
    if is_trained_before:
        fit(distiller)
    expected = teacher(X)
    body.trainable = True
    compiled(distiller)
    train = distiller.train_on_batch if by_batch else distiller.fit
    message = message_of(lambda: train(X, Y))
    assert "must not share weights that the student trains" in message
    assert all(weight.path in message for weight in body.weights)
    np.testing.assert_array_equal(teacher(X), expected)
    body.trainable = False
    fit(compiled(distiller))
    np.testing.assert_array_equal(teacher(X), expected)


def test_an_unbuilt_student_trains_twice():
    student = keras.Sequential([layers.Dense(5, "relu"), layers.Dense(CLASSES)])
    distiller = compiled(distiller_of(student=student))
    fit(distiller)
    fit(distiller)
    assert distiller.optimizer.iterations == 2


@pytest.mark.parametrize("name", ["student", "distillation_losses"])
def test_parts_of_a_distiller_are_not_replaced(name):
    distiller = compiled(distiller_of())
    value = network(5) if name == "student" else [methods.DKD()]
    message = message_of(lambda: setattr(distiller, name, value), AttributeError)
    assert f"`{name}`" in message and f"L2RKDDistiller(distiller.get_teacher(), ..., {name}=" in (
        message
    )


def optimizers():
    decay = keras.optimizers.AdamW(0.01, weight_decay=0.1)
    decay.exclude_from_weight_decay(var_names=["bias"])
    yield decay
    yield keras.optimizers.SGD(0.5, global_clipnorm=0.1, gradient_accumulation_steps=2)
    yield keras.optimizers.Lion(0.01)
    yield keras.optimizers.SGD(0.5, use_ema=True, ema_overwrite_frequency=2)


@pytest.mark.parametrize("index", range(4))
def test_optimizers_update_the_student_as_in_its_own_fit(index):
    student, trained = network(2), network(2)
    weights = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}
    for model in (distiller_of(student=student, **weights), trained):
        model.compile(list(optimizers())[index], cross_entropy(), run_eagerly=True)
        fit(model, batch_size=4, epochs=2)
    for one, other in zip(student.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class WithRequiredTraining(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = network(2)

    def call(self, inputs, training):
        return self.inner(inputs, training=training)


class WithoutTraining(WithRequiredTraining):
    def call(self, inputs):
        return self.inner(inputs)


class WithMask(WithRequiredTraining):
    def call(self, inputs, *, mask=None, training=True):
        return self.inner(inputs, training=training)


@pytest.mark.parametrize("kind", [WithRequiredTraining, WithoutTraining, WithMask])
def test_calls_of_any_signature(kind):
    wanted = fit(compiled(distiller_of()), epochs=2)
    distiller = compiled(distiller_of(student=kind()))
    assert fit(distiller, epochs=2) == pytest.approx(wanted)
    np.testing.assert_array_equal(distiller.predict(X, verbose=0), distiller.student.inner(X))


# Double precision.


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_double_precision_trains_as_single(float64, run_eagerly):
    def history(policy):
        keras.config.set_dtype_policy(policy)
        models = network(1, 9), network(2, kernel_regularizer="l2")
        for model in models:
            rng = np.random.default_rng(0)
            model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
        distiller = distiller_of(*models, distillation_losses=["rkd", "dkd"])
        compiled(distiller, run_eagerly=run_eagerly)
        return fit(distiller, X.astype("float64"), epochs=2, class_weight={1: 2.0})

    assert history("float64") == pytest.approx(history("float32"), rel=1e-5)


# Callbacks.


def test_early_stopping_restores_the_best_student():
    class Recorder(keras.callbacks.Callback):
        weights = []

        def on_epoch_end(self, epoch, logs=None):
            self.weights.append(distiller.student.get_weights())

    distiller, recorder = compiled(distiller_of(), rate=2.0), Recorder()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    options = {"epochs": 6, "validation_data": (X[:7], Y[:7]), "callbacks": [recorder, stopping]}
    losses = distiller.fit(X, Y, verbose=0, **options).history["val_loss"]
    best = recorder.weights[int(np.argmin(losses))]
    assert len(losses) > 1
    for one, other in zip(distiller.student.get_weights(), best, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rate_that_is_multiplied_and_reduced():
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.ReduceLROnPlateau("val_loss", min_delta=1e9, patience=1),
    ]
    distiller = compiled(distiller_of(), rate=0.8)
    options = {"epochs": 3, "validation_data": (X, Y), "callbacks": callbacks}
    rates = distiller.fit(X, Y, verbose=0, **options).history["learning_rate"]
    assert rates == pytest.approx([0.4, 0.2, 0.01])


# Copies and files.

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda distiller: pickle.loads(pickle.dumps(distiller)),
}


@pytest.mark.parametrize("form", COPIES)
def test_copies_continue_identically(form):
    distiller = compiled(distiller_of())
    fit(distiller)
    twin = COPIES[form](distiller)
    assert fit(twin) == fit(distiller)


def through_h5(distiller, folder):
    keras.saving.save_model(distiller, folder / "distiller.h5")
    return keras.saving.load_model(
        folder / "distiller.h5", custom_objects={"L2RKDDistiller": L2RKDDistiller}
    )


UNTRAINED = {
    "from_config": lambda distiller, folder: L2RKDDistiller.from_config(distiller.get_config()),
    "clone_model": lambda distiller, folder: keras.models.clone_model(distiller),
    "h5": through_h5,
}


@pytest.mark.parametrize("form", UNTRAINED)
def test_a_teacher_with_random_weights_does_not_teach(form, tmp_path):
    distiller = compiled(distiller_of())
    twin = compiled(UNTRAINED[form](distiller, tmp_path))
    for train in (lambda: fit(twin), lambda: twin.train_on_batch(X, Y)):
        message = message_of(train)
        assert "`teacher` must be trained" in message and "distiller.keras" in message
    twin.get_teacher().set_weights(distiller.get_teacher().get_weights())
    twin.student.set_weights(distiller.student.get_weights())
    assert fit(twin) == fit(distiller)


# Quantized layers.


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
def test_quantized_students_are_noticed():
    student = network(2)
    student.get_layer("hidden").quantize("int8")
    with pytest.warns(UserWarning, match="`student` has layers that Keras has quantized.*hidden"):
        distiller_of(student=student)


@pytest.mark.filterwarnings("error", "ignore:__array__:DeprecationWarning")
def test_quantized_teachers_and_adapted_students_are_not():
    teacher, student = network(1, 9), network(2)
    teacher.get_layer("hidden").quantize("int8")
    student.get_layer("hidden").enable_lora(2)
    student.get_layer("hidden").quantize("int8")
    kernel = student.get_layer("hidden").lora_kernel_b.numpy()
    fit(compiled(distiller_of(teacher, student)))
    assert np.abs(student.get_layer("hidden").lora_kernel_b - kernel).max() > 0.0


def test_a_clone_trains_in_a_region_of_the_weights_that_its_teacher_is_given():
    teacher = network(1, 9, activation="relu")
    region = regions.LinearRegion(teacher, tolerance=0.5)
    distiller = compiled(distiller_of(teacher, region=region))
    twin = compiled(keras.models.clone_model(distiller))
    twin.get_teacher().set_weights(teacher.get_weights())
    twin.student.set_weights(distiller.student.get_weights())
    assert fit(twin) == fit(distiller)
