"""The teacher's weights as constants: the same numbers, and no change of them is missed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, models
from l2rkd_tf.distiller import frozen
from tests.helpers import few


def dense(units, seed=0, width=4):
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(units, use_bias=False)
    return keras.Sequential([keras.Input((width,)), layer])


def distiller_of(teacher, student=None, **options):
    options = {"region_weight": 0.0, "kd_weight": 1.0, "hard_weight": 0.0} | options
    distiller = L2RKDDistiller(teacher, student or dense(3, seed=1), seed=0, **options)
    distiller.compile(keras.optimizers.SGD(0.5))
    return distiller


def batches(number=1, size=8):
    x = np.random.RandomState(0).normal(size=(number * size, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x,)).batch(size)


def constants_of(distiller, data):
    """Sizes of the constants in the traced step, nested functions included."""
    step = distiller.train_function
    while not hasattr(step, "get_concrete_function"):
        step = next(
            cell.cell_contents
            for cell in step.__closure__
            if callable(cell.cell_contents) and "function" in repr(cell.cell_contents)
        )
    graph = step.get_concrete_function(iter(data)).graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {
        tuple(dim.size for dim in node.attr["value"].tensor.tensor_shape.dim)
        for node in nodes
        if node.op == "Const"
    }


def step_of(teacher_kernel, student_kernel, x, rate):
    """NumPy: one step of plain distillation of linear models by the mean squared error."""
    difference = x @ student_kernel - x @ teacher_kernel
    return student_kernel - rate * 2 * x.T @ difference / difference.size


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_has_the_weights_as_constants(jit_compile):
    teacher = dense(3, width=4)
    distiller = distiller_of(teacher, divergence="mse")
    distiller.compile(keras.optimizers.SGD(0.5), jit_compile=jit_compile)
    x = next(batches().as_numpy_iterator())[0]
    before = distiller.student.get_weights()
    distiller.fit(batches(), verbose=0)
    expected = step_of(teacher.get_weights()[0], before[0], x, 0.5)
    np.testing.assert_allclose(distiller.student.get_weights()[0], expected, atol=1e-6)
    assert teacher.weights[0].value.dtype == tf.float32  # still a variable


def test_constants_are_in_the_graph():
    distiller = distiller_of(dense(3))
    distiller.fit(batches(), verbose=0)
    assert (4, 3) in constants_of(distiller, batches())


@pytest.mark.parametrize(
    "name", few(["resnet8", "mobilenet_v2"], ["wrn_16_1", "vgg8", "shufflenet_v1"])
)
def test_folded_outputs_are_those_of_the_model(name):
    teacher = models.get(name, input_shape=(32, 32, 3), num_classes=10)
    for layer in teacher.layers:  # statistics other than 0 and 1
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = np.random.uniform(0.5, 1.5, 4)
            layer.set_weights(
                [
                    np.full_like(w, v)
                    for w, v in zip(layer.get_weights(), (gamma, beta, mean, variance), strict=True)
                ]
            )
    weights = frozen.FrozenWeights(teacher, dense(3), lambda: None)
    x = tf.random.stateless_normal((4, 32, 32, 3), [0, 0])

    def run(x):
        with weights.as_constants():
            return teacher(x, training=False)

    found = weights.checked(tf.function(run))(x)
    expected = teacher(x, training=False)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


class ChangeTeacher(keras.callbacks.Callback):
    """Gives the teacher's kernel another value at one moment of training."""

    def __init__(self, teacher, moment):
        super().__init__()
        self.teacher, self.moment = teacher, moment
        setattr(self, moment, self.change)

    def change(self, number, logs=None):
        self.teacher.set_weights([weight + 1.0 for weight in self.teacher.get_weights()])


@pytest.mark.parametrize("moment", ["on_epoch_begin", "on_epoch_end", "on_train_batch_end"])
def test_no_step_misses_a_change_of_the_weights(moment):
    """Also that of a moving average after each step."""
    teacher, student = dense(3), dense(3, seed=1)
    x = next(batches().as_numpy_iterator())[0]
    expected, changed = student.get_weights()[0], teacher.get_weights()[0]
    for _ in range(5):
        changed = changed + 1.0 if moment == "on_epoch_begin" else changed
        expected = step_of(changed, expected, x, 0.5)
        changed = changed if moment == "on_epoch_begin" else changed + 1.0
    distiller = distiller_of(teacher, student, divergence="mse")
    distiller.fit(batches(), epochs=5, callbacks=ChangeTeacher(teacher, moment), verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], expected, rtol=1e-5, atol=1e-5)


def test_a_change_after_each_step_of_an_epoch_is_noticed():
    teacher, student = dense(3), dense(3, seed=1)
    expected, changed = student.get_weights()[0], teacher.get_weights()[0]
    for (x,) in batches(6).as_numpy_iterator():
        expected = step_of(changed, expected, x, 0.5)
        changed = changed + 1.0
    distiller = distiller_of(teacher, student, divergence="mse")
    callbacks = [ChangeTeacher(teacher, "on_train_batch_end")]
    distiller.fit(batches(6), callbacks=callbacks, shuffle=False, verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], expected, rtol=1e-5, atol=1e-5)


def test_weights_that_are_loaded_between_two_fits_are_noticed_and_frozen_again():
    teacher = dense(3)
    distiller = distiller_of(teacher)
    distiller.fit(batches(), verbose=0)
    first = distiller.train_function
    distiller.fit(batches(), verbose=0)
    assert distiller.train_function is first
    teacher.set_weights([weight + 1.0 for weight in teacher.get_weights()])
    distiller.fit(batches(), verbose=0)
    assert distiller.train_function is not first
    assert (4, 3) in constants_of(distiller, batches())


def test_train_on_batch_notices_each_change():
    teacher, student = dense(3), dense(3, seed=1)
    distiller = distiller_of(teacher, student, divergence="mse")
    x = next(batches().as_numpy_iterator())[0]
    for _ in range(6):
        before, kernel = student.get_weights()[0], teacher.get_weights()[0]
        distiller.train_on_batch(x)
        np.testing.assert_allclose(
            student.get_weights()[0], step_of(kernel, before, x, 0.5), rtol=1e-5, atol=1e-5
        )
        teacher.set_weights([kernel + 1.0])


def test_a_step_traced_by_others_has_variables():
    teacher, student = dense(3), dense(3, seed=1)
    distiller = distiller_of(teacher, student, divergence="mse")
    x = next(batches().as_numpy_iterator())[0]
    step = tf.function(lambda x: distiller.train_step((x,)))
    for _ in range(3):
        before, kernel = student.get_weights()[0], teacher.get_weights()[0]
        step(x)
        np.testing.assert_allclose(
            student.get_weights()[0], step_of(kernel, before, x, 0.5), rtol=1e-5, atol=1e-5
        )
        teacher.set_weights([kernel + 1.0])


def test_large_weights_stay_variables(monkeypatch):
    monkeypatch.setattr(frozen, "_LARGEST", 4 * 12 - 1)
    distiller = distiller_of(dense(3))
    distiller.fit(batches(), verbose=0)
    assert (4, 3) not in constants_of(distiller, batches())


def test_weights_that_the_student_has_too_stay_variables():
    """A layer that is not trained may be in both."""
    shared = keras.layers.Dense(5, trainable=False, name="shared")
    inputs = keras.Input((4,))
    teacher = keras.Model(inputs, keras.layers.Dense(3, name="own")(shared(inputs)))
    student = keras.Model(inputs, keras.layers.Dense(3)(shared(inputs)))
    distiller = distiller_of(teacher, student)
    distiller.fit(batches(), verbose=0)
    found = constants_of(distiller, batches())
    assert (5, 3) in found
    assert (4, 5) not in found


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Noise whose generator moves on in inference too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)


def test_what_a_teacher_moves_itself_goes_on_moving():
    noise = Noise()
    teacher = keras.Sequential([keras.Input((4,)), noise, keras.layers.Dense(3)])
    distiller = distiller_of(teacher)
    before = keras.ops.convert_to_numpy(noise.generator.state)
    distiller.fit(batches(3), verbose=0)
    after = keras.ops.convert_to_numpy(noise.generator.state)
    assert after[1] - before[1] == 3


def test_states_of_a_recurrent_teacher_go_on_moving():
    """Keras does not count them among the variables of a model."""
    x = np.random.RandomState(0).normal(size=(12, 5, 4)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x,)).batch(6)
    found = []
    for run_eagerly in (True, False):
        keras.utils.set_random_seed(0)
        lstm = keras.layers.LSTM(4, stateful=True)
        teacher = keras.Sequential(
            [keras.Input(batch_shape=(6, 5, 4)), lstm, keras.layers.Dense(3)]
        )
        student = keras.Sequential(
            [keras.Input((5, 4)), keras.layers.Flatten(), keras.layers.Dense(3)]
        )
        distiller = distiller_of(teacher, student)
        distiller.compile(keras.optimizers.SGD(0.5), run_eagerly=run_eagerly)
        distiller.fit(data, verbose=0)
        states = [keras.ops.convert_to_numpy(state) for state in lstm.states]
        found.append([*student.get_weights(), *states])
    assert np.abs(found[0][-1]).max() > 1e-3
    for eager, traced in zip(*found, strict=True):
        np.testing.assert_allclose(traced, eager, rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Counter(keras.layers.Layer):
    """Adds to its outputs how often it was called, a weight."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs + self.count


def test_a_teacher_that_moves_its_own_weight_has_variables():
    counter = Counter()
    teacher = keras.Sequential([keras.Input((4,)), counter, keras.layers.Dense(3)])
    students = [dense(3, seed=1), dense(3, seed=1)]
    for student, run_eagerly in zip(students, (True, False), strict=True):
        counter.count.assign(0.0)
        distiller = distiller_of(teacher, student)
        distiller.compile(keras.optimizers.SGD(0.5), run_eagerly=run_eagerly)
        distiller.fit(batches(5), verbose=0)
        assert float(counter.count) == 5
    for eager, traced in zip(*(student.get_weights() for student in students), strict=True):
        np.testing.assert_allclose(traced, eager, rtol=1e-5, atol=1e-6)


def test_other_callbacks_are_called_first():
    seen = []
    distiller = distiller_of(dense(3))
    user = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    given = keras.callbacks.CallbackList([user], model=distiller)
    for callbacks in (user, [user], (user,), given, given):
        distiller.fit(batches(), callbacks=callbacks, verbose=0)
    assert seen == [0] * 5
    assert given.callbacks[0] is user
    assert sum(isinstance(one, type(user)) for one in given.callbacks) == 2
