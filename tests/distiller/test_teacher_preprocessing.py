"""Teachers that take other inputs than their student, through `teacher_preprocessing`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import (
    CallableTeacher,
    L2RKDDistiller,
    callbacks,
    methods,
    models,
    regions,
    teacher_cache,
)
from tests.helpers import (
    BATCH,
    CLASSES,
    RATE,
    TEMPERATURE,
    WEIGHTS,
    GivenDraws,
    assert_equal_weights,
    batches,
    compiled,
    convnet,
    images,
    linear,
    partner_draw,
    random_weights,
    under_policy,
)
from tests.references import losses as reference

LARGE, SMALL = (32, 32, 3), (8, 8, 1)
X, Y = images()


@keras.saving.register_keras_serializable("tests")
def enlarge(x):
    """Three channels of 32 x 32 pixels from -1 to 1."""
    large = tf.repeat(tf.repeat(x, 4, axis=1), 4, axis=2)
    return 2.0 * tf.repeat(large, 3, axis=3) - 1.0


def in_numpy(x):
    large = np.repeat(np.repeat(np.asarray(x, float), 4, axis=1), 4, axis=2)
    return 2.0 * np.repeat(large, 3, axis=3) - 1.0


def as_model():
    inputs = keras.Input(SMALL)
    large = keras.layers.UpSampling2D(4)(inputs)
    three = keras.layers.Concatenate()([large] * 3)
    return keras.Model(inputs, keras.layers.Rescaling(2.0, -1.0)(three), name="enlarge")


@keras.saving.register_keras_serializable("tests")
class Enlarge(keras.layers.Layer):
    def call(self, x):
        return enlarge(x)


KINDS = {"function": lambda: enlarge, "layer": Enlarge, "model": as_model}


def large_network(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(LARGE),
            keras.layers.Conv2D(4, 5, strides=4, padding="same", name="conv1"),
            keras.layers.BatchNormalization(name="norm1"),
            keras.layers.ReLU(name="block1"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES),
        ],
        name="large",
    )


def wrapped(teacher):
    """The same teacher with preprocessing of its own."""
    return keras.Sequential([keras.Input(SMALL), Enlarge(), teacher])


def train(teacher, preprocessing, x=X, student=None, **arguments):
    distiller = L2RKDDistiller(
        teacher,
        student or convnet(2),
        teacher_preprocessing=preprocessing,
        seed=0,
        **arguments,
    )
    return distiller, compiled(distiller, run_eagerly=True).fit(x, Y, verbose=0).history


@pytest.mark.parametrize("kind", KINDS)
def test_one_sgd_step_equals_weights_derived_by_hand(kind):
    rng = np.random.default_rng(1)
    teacher, weights = random_weights(rng, LARGE), random_weights(rng, SMALL)
    teacher = [part / 30 for part in teacher]
    student, draw = linear(SMALL, weights), partner_draw(rng, 1)
    distiller = L2RKDDistiller(
        linear(LARGE, teacher),
        student,
        teacher_preprocessing=KINDS[kind](),
        region=GivenDraws(regions.Segment(), [draw]),
        temperature=TEMPERATURE,
        **WEIGHTS,
    )
    compiled(distiller, run_eagerly=True).fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0)
    kernel, bias = weights
    near = reference.move(X.astype(float), draw.partners.numpy(), draw.lam.numpy())
    gradients = [np.zeros_like(kernel), np.zeros_like(bias)]
    for name, points in (("hard", X), ("kd", X), ("region", near)):
        flat = points.reshape(BATCH, -1)
        logits = flat @ kernel + bias
        if name == "hard":
            of_logits = reference.softmax(logits) - np.eye(CLASSES)[Y]
        else:
            targets = in_numpy(points).reshape(BATCH, -1) @ teacher[0] + teacher[1]
            of_logits = reference.kl_gradient(targets, logits, TEMPERATURE)
        of_logits = WEIGHTS[f"{name}_weight"] * of_logits / BATCH
        gradients[0] += flat.T @ of_logits
        gradients[1] += of_logits.sum(axis=0)
    for weight, start, gradient in zip(student.get_weights(), weights, gradients, strict=True):
        np.testing.assert_allclose(weight, start - RATE * gradient, rtol=1e-4, atol=1e-5)


def losses_and_weights(teacher, preprocessing, **arguments):
    distiller, history = train(teacher, preprocessing, **arguments)
    return history, distiller.student


@pytest.mark.parametrize(
    "arguments",
    [
        {"replace_fraction": 0.5},
        {"region_targets": "interpolated"},
        {"distillation_losses": methods.SimilarityPreserving()},
        {"distillation_losses": methods.JacobianMatching()},
    ],
    ids=["replaced", "interpolated", "inner features", "gradients"],
)
def test_training_is_that_with_a_teacher_that_preprocesses_itself(arguments):
    teacher = large_network()
    keras.utils.set_random_seed(0)
    one, student = losses_and_weights(teacher, enlarge, **arguments)
    other, expected = losses_and_weights(wrapped(teacher), None, **arguments)
    assert one == other
    assert_equal_weights(student, expected)


def test_methods_find_the_layers_of_the_teacher_itself():
    given = methods.FitNet("conv1", "conv2d")
    distiller = L2RKDDistiller(
        large_network(),
        convnet(2),
        teacher_preprocessing=enlarge,
        distillation_losses=[methods.FitNet(), given],
    )
    found, named = distiller.distillation_loss_layers.values()
    assert found[0] == ("large/block1",)
    assert named[0] == ("large/conv1",)


def test_features_of_ones_own_get_the_given_teacher_and_its_inputs():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = keras.layers.Conv2D(4, 5, strides=4, padding="same")
            self.head = keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.head(tf.reduce_mean(self.body(x), [1, 2]))

    keras.utils.set_random_seed(1)
    teacher = Subclassed()
    teacher(np.zeros((1, *LARGE), "float32"))
    seen = []

    def features(model, inputs, training):
        if model is not teacher:
            return model(inputs, training=training), {"body": model.layers[0](inputs)}
        seen.append(tuple(inputs.shape[1:]))
        return teacher(inputs), {"body": teacher.body(inputs)}

    method = methods.SimilarityPreserving("body", "body")
    train(teacher, enlarge, features=features, distillation_losses=method)
    assert set(seen) == {LARGE}


# Wherever the teacher is asked.


def test_images_of_whole_grey_levels_come_as_the_student_gets_them():
    teacher, x = large_network(), np.round(255 * X).astype("uint8")
    one, student = losses_and_weights(teacher, enlarge, x=x)
    other, expected = losses_and_weights(wrapped(teacher), None, x=x)
    assert one == other
    assert_equal_weights(student, expected)


def test_callbacks_ask_through_preprocessing():
    teacher, values = large_network(), []
    for of_kind, preprocessing in ((teacher, enlarge), (wrapped(teacher), None)):
        monitor = callbacks.LocalShapeMonitor(X, region=regions.Segment(), fractions=(1.0,))
        distiller = L2RKDDistiller(of_kind, convnet(2), teacher_preprocessing=preprocessing, seed=0)
        compiled(distiller, run_eagerly=True).fit(X, Y, callbacks=[monitor], verbose=0)
        values.append(monitor.profile.kl)
    np.testing.assert_array_equal(*values)


def test_a_cache_holds_the_outputs_behind_preprocessing(tmp_path):
    teacher = large_network()
    options = {"shuffle": False, "verbose": False}
    cached = [
        teacher_cache.cache_teacher(
            batches(X, Y), teacher, path, teacher_preprocessing=enlarge, **options
        )
        for path in (None, tmp_path, tmp_path)
    ]
    assert len(list(tmp_path.iterdir())) == 1
    for data in cached[:2]:
        outputs = np.concatenate([x.teacher_outputs for x, _ in data.as_numpy_iterator()])
        np.testing.assert_allclose(outputs, teacher(in_numpy(X)), rtol=1e-5, atol=1e-6)
    distiller = L2RKDDistiller(
        teacher, convnet(2), teacher_preprocessing=enlarge, region_targets="interpolated", seed=0
    )
    found = compiled(distiller, run_eagerly=True).fit(cached[0], verbose=0).history
    live = L2RKDDistiller(
        teacher, convnet(2), teacher_preprocessing=enlarge, region_targets="interpolated", seed=0
    )
    expected = compiled(live, run_eagerly=True).fit(batches(X, Y), verbose=0).history
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)


def test_a_cache_made_without_preprocessing_is_refused():
    teacher = convnet(1)
    data = teacher_cache.cache_teacher(batches(X, Y), teacher, verbose=False)
    scaled = L2RKDDistiller(
        teacher, convnet(2), teacher_preprocessing=keras.layers.Rescaling(2.0), seed=0
    )
    with pytest.raises(ValueError, match="made without `teacher_preprocessing`"):
        compiled(scaled).fit(data, verbose=0)


def test_several_outputs_keep_their_names():
    def heads(shape, seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(shape)
        flat = keras.layers.Flatten()(inputs)
        names = ("kind", "size")
        return keras.Model(inputs, [keras.layers.Dense(3, name=name)(flat) for name in names])

    teacher, student = heads(LARGE, 1), heads(SMALL, 2)
    expected = np.mean(np.square(teacher(in_numpy(X))[1] - student(X)[1]))
    options = {"divergence": {"kind": "kl", "size": "mse"}, "hard_weight": 0.0}
    distiller = L2RKDDistiller(teacher, student, teacher_preprocessing=enlarge, **options)
    distiller.compile("sgd", run_eagerly=True)
    history = distiller.fit(X, verbose=0).history
    assert history["size_kd_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_half_precision_of_the_student_leaves_the_teacher_its_own():
    teacher = large_network()
    distiller, _ = train(teacher, enlarge, student=under_policy("mixed_float16", convnet, 2))
    found = distiller.get_teacher()(X)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, teacher(in_numpy(X)), rtol=1e-5, atol=1e-6)


def test_a_list_of_teachers_of_two_kinds_behind_preprocessing():
    members = [large_network(1), large_network(3)]
    function = CallableTeacher(lambda x: members[0](x, training=False).numpy(), CLASSES)
    one, student = losses_and_weights([function, members[1]], enlarge)
    other, expected = losses_and_weights(models.ensemble(list(map(wrapped, members))), None)
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert_equal_weights(student, expected, atol=1e-6)


# Files.


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_distiller_trains_on_identically(kind, tmp_path):
    distiller, _ = train(large_network(), KINDS[kind]())
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    loaded.run_eagerly = True
    config = loaded.get_config()
    assert config["teacher"]["config"]["name"] == "large"
    assert config["teacher_preprocessing"] is not None
    fits = [one.fit(X, Y, shuffle=False, verbose=0).history for one in (loaded, distiller)]
    assert fits[0] == fits[1]


def test_weights_of_preprocessing_are_saved_with_the_teacher_and_stay_as_they_are(tmp_path):
    scale = keras.layers.BatchNormalization(name="scale")
    preprocessing = keras.Sequential([keras.Input(SMALL), scale, Enlarge()])
    scale.set_weights([np.full(1, value) for value in (1.5, 0.5, 0.25, 2.0)])
    before = [np.array(weight) for weight in preprocessing.get_weights()]
    distiller, _ = train(large_network(), preprocessing)
    for weight, value in zip(preprocessing.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert_equal_weights(loaded.get_teacher(), distiller.get_teacher())
    names = [variable.path for variable in distiller.variables]
    assert not [name for name in names if "large" in name or "scale" in name]


def test_the_student_is_exported_alone(tmp_path):
    distiller, _ = train(large_network(), enlarge)
    distiller.student.export(tmp_path / "student", verbose=False)
    exported = tf.saved_model.load(tmp_path / "student")
    np.testing.assert_allclose(
        exported.serve(X), distiller.student(X, training=False), rtol=1e-5, atol=1e-6
    )
    assert len(exported.variables) == len(distiller.student.variables)


# What is refused.


class OfAnySize(keras.Model):
    """A student without a graph."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.head(tf.reduce_mean(x, [1, 2]))


def test_a_student_without_known_inputs_needs_a_model_that_knows_them():
    with pytest.raises(ValueError, match="`teacher_preprocessing` of this kind needs a student"):
        L2RKDDistiller(large_network(), OfAnySize(), teacher_preprocessing=enlarge)
    train(large_network(), as_model(), student=OfAnySize())


@pytest.mark.parametrize(
    ("preprocessing", "message"),
    [
        (lambda: in_numpy, r"registered function.*register_keras_serializable\(\)"),
        (lambda: "resize", "`teacher_preprocessing` must be a Keras layer"),
        (lambda: keras.layers.Resizing, "`teacher_preprocessing` must be a Keras layer"),
        (lambda: keras.layers.Resizing(16, 16), r"turn the student's.*\(None, 16, 16, 1\)"),
        (
            lambda: keras.layers.Reshape((3, 3)),
            r"`teacher_preprocessing` must take.*\(None, 8, 8, 1\)",
        ),
    ],
)
def test_wrong_preprocessing_is_named(preprocessing, message):
    with pytest.raises(ValueError, match=message):
        L2RKDDistiller(large_network(), convnet(2), teacher_preprocessing=preprocessing())


def test_preprocessing_needs_a_teacher():
    with pytest.raises(ValueError, match="`teacher_preprocessing` must be None where `teacher`"):
        L2RKDDistiller(None, convnet(2), teacher_preprocessing=enlarge)


def test_other_inputs_without_preprocessing_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="pass a distiller `teacher_preprocessing="):
        L2RKDDistiller(large_network(), convnet(2))
