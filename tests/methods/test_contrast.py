import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.methods.contrast import CRD
from tests.helpers import two_replicas
from tests.references import relations as reference

SIZES = {"feature_dim": 4, "num_negatives": 7, "temperature": 0.5}


def make(teacher_shape=(None, 6), student_shape=(None, 5), **arguments):
    method = CRD(**(SIZES | arguments))
    method.build(teacher_shape, student_shape)
    return method


def batches(sizes, teacher_shape=(6,), student_shape=(5,), seed=0):
    """Features of both models and labels; a label of -1 is not known."""
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(size=(size, *teacher_shape)).astype("float32"),
            generator.normal(size=(size, *student_shape)).astype("float32"),
            generator.integers(-1, 3, size=size).astype("int32"),
        )
        for size in sizes
    ]


def reference_of(method, **arguments):
    maps = [
        [weight.numpy() for weight in embedding.weights]
        for embedding in (method.teacher_embedding, method.student_embedding)
    ]
    return reference.Contrast(*maps, method.num_negatives, method.temperature, **arguments)


def state(method):
    memories = method.teacher_memory, method.student_memory, method.label_memory
    return [memory.numpy() for memory in memories]


def fill(method, size=7, seed=9):
    for batch in batches([size], seed=seed):
        method.values(*batch)


HOW = {
    "eager": lambda method: method.values,
    "graph": lambda method: tf.function(method.values, input_signature=SIGNATURE),
    "xla": lambda method: tf.function(method.values, input_signature=SIGNATURE, jit_compile=True),
}
SIGNATURE = [
    tf.TensorSpec((None, 6)),
    tf.TensorSpec((None, 5)),
    tf.TensorSpec((None,), tf.int32),
]


@pytest.mark.covering
@pytest.mark.parametrize("num_examples", [None, 1, 50])
@pytest.mark.parametrize("how", HOW)
def test_consecutive_batches_equal_the_float64_reference(how, num_examples):
    method = make(num_examples=num_examples)
    values_of = HOW[how](method)
    expected = reference_of(method, num_examples=num_examples)
    for batch in batches([3, 2, 3, 3, 9, 0, 1, 7]):
        values = values_of(*map(tf.constant, batch))
        assert values.dtype == tf.float32
        np.testing.assert_allclose(values, expected.values(*batch), rtol=1e-5, atol=1e-5)
        expected.remember(*batch)


def test_feature_maps_are_flattened():
    shapes = (3, 3, 2), (2, 2, 4)
    method = make(*((None, *shape) for shape in shapes))
    expected = reference_of(method)
    for batch in batches([4, 4], *shapes):
        np.testing.assert_allclose(method.values(*batch), expected.values(*batch), rtol=1e-5)
        expected.remember(*batch)


@pytest.mark.parametrize("how", HOW)
def test_memory_fills_and_forgets_the_oldest(how):
    method = make()
    expected = reference_of(method)
    values_of = HOW[how](method)
    for batch in batches([3, 3, 0, 3, 12]):
        values_of(*map(tf.constant, batch))
        expected.remember(*batch)
        teacher, student, labels = state(method)
        stored = len(expected.memory)
        np.testing.assert_allclose(teacher[:stored], [t for t, _, _ in expected.memory], atol=1e-6)
        np.testing.assert_allclose(student[:stored], [s for _, s, _ in expected.memory], atol=1e-6)
        np.testing.assert_array_equal(labels[:stored], [label for _, _, label in expected.memory])
        np.testing.assert_array_equal(labels[stored:], np.full(7 - stored, -2))


def test_examples_of_one_known_label_are_no_negatives():
    teacher, student, _ = batches([7])[0]
    point = batches([1], seed=1)[0][:2]
    values = {}
    for stored, label in ((2, 2), (2, 1), (2, -1), (-1, -1), (-1, 2)):
        keras.utils.set_random_seed(0)
        method = make()
        method.values(teacher, student, np.full(7, stored, "int32"))
        values[stored, label] = method.values(*point, np.int32([label])).numpy()
    assert values.pop((2, 2)) == 0.0
    assert values[2, 1] > 0.0
    assert len({float(value[0]) for value in values.values()}) == 1


def test_no_labels_are_unknown_labels():
    batch = batches([4, 4])
    values = []
    for labels in (None, np.full(4, -1, "int32")):
        keras.utils.set_random_seed(0)
        method = make()
        values.append([method.values(*features[:2], labels) for features in batch])
    np.testing.assert_array_equal(*values)
    assert state(method)[2].tolist() == [-1] * 7


def test_first_batch_has_nothing_to_be_told_from():
    method = make()
    (batch,) = batches([4])
    student = tf.constant(batch[1])
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = method.values(batch[0], student, batch[2])
    np.testing.assert_array_equal(values, np.zeros(4))
    np.testing.assert_array_equal(tape.gradient(values, student), np.zeros((4, 5)))


def test_gradients_equal_the_float64_reference():
    method = make()
    fill(method)
    expected = reference_of(method)
    (filling,) = batches([7], seed=9)
    expected.remember(*filling)
    (batch,) = batches([4])
    teacher, student, labels = map(tf.constant, batch)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = tf.reduce_sum(method.values(teacher, student, labels))
    sources = [student, *method.trainable_variables]
    gradients = tape.gradient(loss, [v if v is student else v.value for v in sources])

    def of_student(features):
        return expected.values(batch[0], features, batch[2]).sum()

    np.testing.assert_allclose(
        gradients[0], reference.numerical_gradient(of_student, batch[1]), rtol=1e-4, atol=1e-5
    )
    # Kernel and bias of the teacher's map, then of the student's.
    for which, weight, gradient in zip((0, 0, 1, 1), (0, 1, 0, 1), gradients[1:], strict=True):

        def of_weight(value, which=which, weight=weight):
            original = expected.maps[which][weight]
            expected.maps[which][weight] = value
            loss = expected.values(*batch).sum()
            expected.maps[which][weight] = original
            return loss

        numerical = reference.numerical_gradient(of_weight, expected.maps[which][weight])
        assert np.abs(numerical).max() > 0.01
        np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-4)


def test_memory_is_not_trained():
    method = make()
    names = {"teacher_memory", "student_memory", "label_memory"}
    assert {variable.name for variable in method.non_trainable_variables} == names
    assert len(method.trainable_variables) == 4
    assert {variable.dtype for variable in method.trainable_variables} == {"float32"}
    assert method.label_memory.dtype == "int32"


@pytest.mark.parametrize("temperature", [1e-3, 0.07, 100.0])
def test_any_temperature_is_finite(temperature):
    method = make(temperature=temperature)
    fill(method)
    (batch,) = batches([4])
    student = tf.constant(batch[1])
    with tf.GradientTape() as tape:
        tape.watch(student)
        values = method.values(batch[0], student, batch[2])
    assert np.isfinite(values).all()
    assert np.isfinite(tape.gradient(values, student)).all()


@pytest.mark.parametrize("size", [0.0, 1e25])
def test_degenerate_features_have_finite_values_and_gradients(size):
    method = make()
    features = tf.fill((4, 6), size), tf.fill((4, 5), size)
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(features[1])
            values = method.values(*features)
        weights = [variable.value for variable in method.trainable_variables]
        gradients = tape.gradient(values, [features[1], *weights])
        for tensor in (values, *gradients):
            assert np.isfinite(tensor).all()


def test_values_follow_their_examples():
    (batch,) = batches([5])
    order = np.array([3, 1, 4, 0, 2])
    values = []
    for rows in (np.arange(5), order):
        keras.utils.set_random_seed(0)
        method = make()
        fill(method)
        values.append(method.values(*(part[rows] for part in batch)).numpy())
    np.testing.assert_allclose(values[1], values[0][order], rtol=1e-5)


class Holder(keras.Model):
    """Holds the method as a distiller does."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.methods = [make()]

    def call(self, inputs):
        return inputs


def test_memory_is_saved_and_restored_with_weights(tmp_path):
    saved, loaded = Holder(), Holder()
    fill(saved.methods[0])
    for holder in (saved, loaded):
        holder(tf.zeros((1, 1)))
    saved.save_weights(tmp_path / "holder.weights.h5")
    loaded.load_weights(tmp_path / "holder.weights.h5")
    assert np.abs(state(saved.methods[0])[0]).max() > 0.0
    for expected, restored in zip(
        saved.methods[0].get_weights(), loaded.methods[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(restored, expected)
    (batch,) = batches([3])
    np.testing.assert_array_equal(loaded.methods[0].values(*batch), saved.methods[0].values(*batch))


def test_each_replica_keeps_a_memory_of_its_own(tmp_path):
    strategy = two_replicas()
    with strategy.scope():
        holder = Holder()
        method = holder.methods[0]
        holder(tf.zeros((1, 1)))
    replicas = [reference_of(method) for _ in range(2)]

    @tf.function
    def step(*batch):
        return strategy.run(method.values, args=batch)

    shares = [batches([3, 2, 4], seed=seed) for seed in (1, 2)]

    def distributed(index, part):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                shares[context.replica_id_in_sync_group][index][part],
            )
        )

    for index in range(3):
        values = step(*(distributed(index, part) for part in range(3)))
        values = strategy.experimental_local_results(values)
        for replica in range(2):
            batch = shares[replica][index]
            expected = replicas[replica].values(*batch)
            np.testing.assert_allclose(values[replica], expected, rtol=1e-5, atol=1e-6)
            replicas[replica].remember(*batch)
    labels = strategy.experimental_local_results(method.label_memory.value)
    for replica in range(2):
        stored = [label for _, _, label in replicas[replica].memory]
        np.testing.assert_array_equal(labels[replica].numpy(), stored)

    holder.save_weights(tmp_path / "holder.weights.h5")
    holder.load_weights(tmp_path / "holder.weights.h5")
    for memory in strategy.experimental_local_results(method.label_memory.value):
        np.testing.assert_array_equal(memory.numpy(), labels[0].numpy())


def test_defaults_start_at_the_scale_of_the_authors_code():
    # Random embeddings: -log h of a positive is about log N, the sum over negatives a few.
    method = CRD(num_negatives=1024)
    for batch in batches([1024, 16], (200,), (100,)):
        values = method.values(*batch[:2])
    assert 2 * np.log(1024) < np.mean(values) < 3 * np.log(1024)


@pytest.mark.parametrize("names", [(None, None), ("avg_pool", "features")])
def test_serialization_keeps_the_configuration(names):
    method = CRD(*names, **SIZES, num_examples=50)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(restored) is CRD
    assert restored.get_config() == method.get_config()
    assert restored.get_config()["num_examples"] == 50


@pytest.mark.parametrize(
    "arguments",
    [
        {"feature_dim": 0},
        {"num_negatives": 1.5},
        {"temperature": 0.0},
        {"temperature": None},
        {"num_examples": 0},
        {"num_examples": True},
    ],
    ids=str,
)
def test_wrong_arguments_are_named(arguments):
    ((argument, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"`{argument}` must be .*{argument}={value!r}"):
        CRD(**arguments)


def test_features_of_unknown_size_are_refused():
    with pytest.raises(ValueError, match=r"teacher's features must have a known size.*None"):
        make((None, None, None, 3))
