"""Teachers that are no Keras models: layers, functions, ONNX files, lists of teachers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import (
    CallableTeacher,
    L2RKDDistiller,
    geometry,
    methods,
    models,
    regions,
    teacher_cache,
)
from tests.distiller.helpers import compiled, fit_once, network, table
from tests.helpers import CLASSES, assert_equal_weights, two_replicas
from tests.references import losses as reference

X, Y = table()


def train(teacher, run_eagerly=True, **arguments):
    """A distiller that has trained for an epoch, and the logs."""
    distiller = L2RKDDistiller(teacher, network(2), seed=0, **arguments)
    return distiller, fit_once(compiled(distiller, run_eagerly=run_eagerly), X, Y)


def assert_trains_as(teacher, expected, **arguments):
    (one, found), (other, wanted) = (train(kind, **arguments) for kind in (teacher, expected))
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)
    assert_equal_weights(one.student, other.student, atol=1e-6)
    return one


def in_numpy(model):
    """A `network` as a function of NumPy arrays."""
    kernel, bias, top, top_bias = model.get_weights()
    return lambda x: np.maximum(x @ kernel + bias, 0.0) @ top + top_bias


def as_function(model, tmp_path):
    del tmp_path
    return CallableTeacher(in_numpy(model), CLASSES)


def as_saved_model(model, tmp_path):
    model.export(tmp_path / "saved_model", verbose=False)
    return keras.layers.TFSMLayer(str(tmp_path / "saved_model"), call_endpoint="serve")


def as_named_output(model, tmp_path):
    """A layer whose only output comes in a dict, as from signatures of a SavedModel."""
    function = tf.function(
        lambda x: {"logits": model(x)}, input_signature=[tf.TensorSpec((None, 4), tf.float32)]
    )
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(tmp_path), {"serving_default": function})
    return keras.layers.TFSMLayer(str(tmp_path), call_endpoint="serving_default")


def as_onnx(model, tmp_path):
    del tmp_path
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    make, names = onnx.helper, ("kernel", "bias", "top", "top_bias")
    number = onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [
            make.make_node("Gemm", ["x", "kernel", "bias"], ["hidden"]),
            make.make_node("Relu", ["hidden"], ["active"]),
            make.make_node("Gemm", ["active", "top", "top_bias"], ["logits"]),
        ],
        "teacher",
        [make.make_tensor_value_info("x", number, [None, 4])],
        [make.make_tensor_value_info("logits", number, [None, CLASSES])],
        [
            onnx.numpy_helper.from_array(weight, name)
            for name, weight in zip(names, model.get_weights(), strict=True)
        ],
    )
    proto = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return CallableTeacher(lambda x: session.run(None, {"x": x})[0], CLASSES)


KINDS = [as_function, as_saved_model, as_named_output, as_onnx]


@pytest.mark.parametrize("make", KINDS)
def test_training_is_that_with_the_same_teacher_as_a_keras_model(make, tmp_path):
    model = network(1, 9)
    assert_trains_as(make(model, tmp_path), model)


def test_a_function_in_compiled_steps_without_xla():
    model = network(1, 9)
    teacher = CallableTeacher(in_numpy(model), CLASSES)
    distiller = assert_trains_as(teacher, model, run_eagerly=False, replace_fraction=0.4)
    assert distiller.get_teacher() is teacher
    assert distiller.jit_compile is False


@pytest.mark.parametrize("region_weight", [0.0, 0.9])
def test_a_function_gets_grey_levels_as_floats(region_weight):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 2, 2, 1)).astype("uint8")
    kernel, found = rng.normal(size=(4, CLASSES)) / 100, []

    def function(images):
        found.append(images.dtype)
        return (images - 128).reshape(len(images), -1) @ kernel

    inputs = keras.Input((2, 2, 1))
    outputs = keras.layers.Dense(CLASSES)(keras.layers.Flatten()(inputs / 255))
    student, teacher = keras.Model(inputs, outputs), CallableTeacher(function, CLASSES)
    at_student = student.predict(x, verbose=0)
    distiller = L2RKDDistiller(
        teacher, student, hard_weight=0.0, region_weight=region_weight, seed=0
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    data = tf.data.Dataset.from_tensor_slices(x).batch(6)
    cached = teacher_cache.cache_teacher(data, teacher, verbose=False)
    wanted = reference.kl((x.reshape(6, -1) - 128.0) @ kernel, at_student, 4.0).mean()
    for one in (data, cached):
        logs = distiller.fit(one, verbose=0).history
        np.testing.assert_allclose(logs["kd_loss"][0], wanted, rtol=1e-5)
    np.testing.assert_allclose(teacher.predict(x, verbose=0), teacher(x.astype("float32")))
    assert set(found) == {np.dtype("float32")}


def test_a_function_gets_ids_as_they_are():
    x, found = np.arange(12, dtype="int32").reshape(6, 2), []

    def function(ids):
        found.append(ids.dtype)
        return np.zeros((len(ids), CLASSES))

    student = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(12, 4),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    distiller = L2RKDDistiller(CallableTeacher(function, CLASSES), student, hard_weight=0.0)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(x, verbose=0)
    assert set(found) == {np.dtype("int32")}


@pytest.mark.parametrize("divergence", ["kl", "binary_kl", "mse"])
def test_a_list_is_the_ensemble_of_its_members(divergence):
    members = [network(1, 9), network(3)]
    whole = models.ensemble(members, divergence=divergence)
    options = {"divergence": divergence, "hard_weight": 0.0}
    of_kinds = [CallableTeacher(in_numpy(members[0]), CLASSES), members[1]]
    assert_trains_as(of_kinds, whole, **options)
    assert_trains_as(tuple(members), whole, **options)


def test_a_list_of_models_of_probabilities():
    members = [network(seed, activation="softmax") for seed in (1, 3)]
    student = network(2, activation="softmax")
    options = {"from_logits": False, "hard_weight": 0.0, "temperature": 1.0, "region_weight": 0.0}
    p = np.mean([member(X[:5]).numpy().astype(float) for member in members], axis=0)
    expected = np.mean(np.sum(p * (np.log(p) - np.log(student(X[:5]).numpy())), axis=1))
    distiller = compiled(L2RKDDistiller(members, student, seed=0, **options))
    history = distiller.fit(X[:5], batch_size=5, verbose=0).history
    assert history["kd_loss"][0] == pytest.approx(expected, rel=1e-5)


# Outputs of other forms.


def test_dense_outputs_of_a_function():
    def dense(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((6, 2))
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(inputs))

    model = dense(1)
    kernel, bias = model.get_weights()
    teacher = CallableTeacher(lambda x: x @ kernel + bias, (6, CLASSES))
    x = np.random.default_rng(0).normal(size=(5, 6, 2)).astype("float32")
    losses = []
    for of_kind in (teacher, model):
        distiller = compiled(L2RKDDistiller(of_kind, dense(2), hard_weight=0.0, seed=0))
        losses.append(distiller.fit(x, verbose=0).history["loss"][0])
    assert losses[0] > 0.1
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_several_outputs_of_a_function():
    def heads(seed):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        outputs = {name: keras.layers.Dense(CLASSES)(inputs) for name in ("kind", "size")}
        return keras.Model(inputs, outputs)

    def function(x):
        return {name: output.numpy() for name, output in model(x).items()}

    model = heads(1)
    teacher = CallableTeacher(function, {"size": CLASSES, "kind": CLASSES})
    options = {"hard_weight": 0.0, "divergence": {"kind": "kl", "size": "mse"}, "seed": 0}
    logs = []
    for of_kind in (teacher, model):
        distiller = L2RKDDistiller(of_kind, heads(2), **options)
        distiller.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
        history = distiller.fit(X, verbose=0).history
        logs.append({name: value for name, (value,) in history.items()})
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)


# What goes wrong in a function.


def failing(error):
    def function(x):
        raise error

    return function


@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (failing(OSError("server is gone")), RuntimeError, "failed: OSError: server is gone"),
        (failing(StopIteration("no more")), RuntimeError, "failed: StopIteration: no more"),
        (lambda x: np.zeros((len(x), 2)), ValueError, r"shape \(5, 3\). Received: .* \(5, 2\)"),
        (lambda x: np.zeros((3, 3)), ValueError, r"shape \(5, 3\). Received: .* \(3, 3\)"),
        (lambda x: "logits", ValueError, "an array of numbers"),
        (lambda x: np.full((len(x), 3), np.nan), FloatingPointError, "the teacher's outputs"),
    ],
)
def test_errors_of_functions_reach_the_user(function, error, message, run_eagerly):
    teacher = CallableTeacher(function, CLASSES)
    with pytest.raises(error, match=message):
        train(teacher, region_weight=0.0, run_eagerly=run_eagerly)


def test_outputs_by_name_must_come_by_name():
    teacher = CallableTeacher(lambda x: x, {"kind": 3, "size": 3})
    with pytest.raises(ValueError, match="must return a dict by name.*ndarray.*'kind'"):
        teacher(X)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("teacher.onnx", 3), "`function` must be a callable"),
        ((np.ndarray, 3), "`function` must be a callable"),
        ((lambda: network(1), 0), "`num_outputs` must be a positive integer"),
        ((len, ()), "`num_outputs` must be"),
        ((len, {"a": 2.5}), "`num_outputs` must be"),
    ],
)
def test_arguments_of_a_function(arguments, message):
    with pytest.raises(ValueError, match=message):
        CallableTeacher(*arguments)


def test_a_model_is_no_function():
    with pytest.raises(ValueError, match="A Keras model or layer is a teacher itself"):
        CallableTeacher(network(1), CLASSES)


def test_another_number_of_outputs_is_refused():
    with pytest.raises(ValueError, match="same number of outputs"):
        train(CallableTeacher(lambda x: np.zeros((len(x), 4)), 4))


# What is excluded.


def test_xla_is_refused_for_functions_and_lists_of_them():
    teacher = CallableTeacher(in_numpy(network(1)), CLASSES)
    for of_kind in (teacher, [teacher, network(3)]):
        distiller = L2RKDDistiller(of_kind, network(2))
        with pytest.raises(ValueError, match="`jit_compile` must be 'auto' or False"):
            distiller.compile("sgd", jit_compile=True)


@pytest.mark.parametrize(
    ("make_method", "kinds"),
    [
        (lambda: methods.FitNet("hidden", "hidden"), ["a function", "an ensemble"]),
        (methods.FitNet, ["a function", "an ensemble"]),
        (methods.JacobianMatching, ["a function"]),
    ],
)
def test_methods_that_compare_more_than_outputs_are_refused(make_method, kinds):
    function = CallableTeacher(in_numpy(network(1)), CLASSES)
    teachers = {"a function": function, "an ensemble": [network(1), network(3)]}
    for kind in kinds:
        with pytest.raises(ValueError, match=f"`distillation_losses` must compare .*{kind}"):
            L2RKDDistiller(teachers[kind], network(2), distillation_losses=make_method())


def test_methods_of_outputs_and_gradients_of_ensembles_work():
    members = [network(1, 9), network(3)]
    losses = [methods.DKD(), methods.JacobianMatching()]
    assert_trains_as(members, models.ensemble(members), distillation_losses=losses)


def test_gradients_of_a_function_are_refused_in_measures():
    teacher = CallableTeacher(in_numpy(network(1)), CLASSES)
    with pytest.raises(ValueError, match="needs outputs that can be differentiated"):
        geometry.jacobian_distance(teacher, network(2), X)
    profile = geometry.fidelity_profile(teacher, network(2), X, regions.Segment(), (0.0, 1.0))
    assert np.isfinite(profile.kl).all()


def test_layers_need_students_with_known_inputs(tmp_path):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="`teacher` of this kind needs a student whose inputs"):
        L2RKDDistiller(as_saved_model(network(1), tmp_path), Subclassed())


def test_layers_that_fail_for_the_inputs_are_named(tmp_path):
    layer = as_saved_model(network(1), tmp_path)
    student = keras.Sequential([keras.Input((7,)), keras.layers.Dense(CLASSES)])
    with pytest.raises(ValueError, match=r"`teacher` must take the inputs.*\(None, 7\)"):
        L2RKDDistiller(layer, student)


def test_an_empty_list_is_no_teacher():
    with pytest.raises(ValueError, match="`teachers` must be one or more"):
        L2RKDDistiller([], network(2))


# Files.


def saved_and_loaded(distiller, tmp_path, **options):
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras", **options)
    loaded.run_eagerly = True
    return loaded


def test_a_loaded_distiller_trains_on_once_it_has_the_function(tmp_path):
    function = in_numpy(network(1, 9))
    distiller, _ = train(CallableTeacher(function, CLASSES))
    loaded = saved_and_loaded(distiller, tmp_path)
    with pytest.raises(ValueError, match=r"Use distiller.get_teacher\(\).function = function"):
        fit_once(loaded, X, Y)
    loaded.get_teacher().function = function
    assert fit_once(loaded, X, Y) == fit_once(distiller, X, Y)


def test_the_way_to_the_function_of_a_member_is_told(tmp_path):
    members = [network(1), CallableTeacher(in_numpy(network(3)), CLASSES, name="of_onnx")]
    distiller, _ = train(members)
    loaded = saved_and_loaded(distiller, tmp_path)
    with pytest.raises(ValueError, match="must be set") as raised:
        fit_once(loaded, X, Y)
    code = str(raised.value).rpartition("Use ")[2].removesuffix(".")
    exec(code, {"distiller": loaded, "function": members[1].function})
    assert fit_once(loaded, X, Y) == fit_once(distiller, X, Y)


def test_a_loaded_ensemble_has_the_weights_of_its_members(tmp_path):
    distiller, _ = train([network(1, 9), network(3)])
    loaded = saved_and_loaded(distiller, tmp_path)
    assert_equal_weights(loaded.get_teacher(), distiller.get_teacher())
    assert fit_once(loaded, X, Y) == fit_once(distiller, X, Y)


def test_a_distiller_with_a_saved_model_loads_where_that_is_allowed(tmp_path):
    distiller, _ = train(as_saved_model(network(1, 9), tmp_path))
    loaded = saved_and_loaded(distiller, tmp_path, safe_mode=False)
    assert fit_once(loaded, X, Y) == fit_once(distiller, X, Y)


# Replicas and caches.


def test_a_function_on_two_replicas_equals_one_device():
    teacher = CallableTeacher(in_numpy(network(1, 9)), CLASSES)
    students = [network(2), network(2)]
    x, y = X[:12], Y[:12]
    distiller = compiled(L2RKDDistiller(teacher, students[0], region_weight=0.0, seed=0))
    distiller.fit(x, y, batch_size=6, shuffle=False, verbose=0)
    with two_replicas().scope():
        students[1] = network(2)
        distiller = L2RKDDistiller(teacher, students[1], region_weight=0.0, seed=0)
        compiled(distiller, run_eagerly=False)
    distiller.fit(x, y, batch_size=6, shuffle=False, verbose=0)
    assert_equal_weights(*students, atol=1e-6)


def test_outputs_of_a_function_are_cached(tmp_path):
    model = network(1, 9)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5)
    options = {"shuffle": False, "verbose": False}
    with pytest.raises(ValueError, match="`path` needs a teacher that can be told from others"):
        teacher_cache.cache_teacher(data, CallableTeacher(in_numpy(model), CLASSES), tmp_path)
    calls = []

    def function(x):
        calls.append(len(x))
        return in_numpy(model)(x)

    for version, asked in (("1", True), ("1", False), ("2", True)):
        calls.clear()
        teacher = CallableTeacher(function, CLASSES, version=version)
        cached = teacher_cache.cache_teacher(data, teacher, tmp_path, **options)
        assert bool(calls) == asked
    outputs = np.concatenate([x.teacher_outputs for x, _ in cached.as_numpy_iterator()])
    np.testing.assert_allclose(outputs, model(X), rtol=1e-6, atol=1e-6)


def test_errors_of_a_function_reach_the_user_of_a_cache():
    data = tf.data.Dataset.from_tensor_slices(X).batch(5)
    with pytest.raises(RuntimeError, match="server is gone"):
        teacher_cache.cache_teacher(
            data, CallableTeacher(failing(OSError("server is gone")), 3), verbose=False
        )


def test_a_list_is_no_teacher_of_a_cache():
    data = tf.data.Dataset.from_tensor_slices(X).batch(5)
    with pytest.raises(ValueError, match=r"l2rkd_tf.models.ensemble\(teachers\)"):
        teacher_cache.cache_teacher(data, [network(1)], verbose=False)
