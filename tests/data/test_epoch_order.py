import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import data
from l2rkd_tf.data import epoch_order, loading, sources
from tests.helpers import two_replicas

EXAMPLES, BATCH = 22, 4
PASS = 6  # Batches; the last one has 2 examples.


@pytest.fixture
def load(digits_dir):
    def load(split=f"train[:{EXAMPLES}]", batch_size=BATCH, **arguments):
        return data.load("digits", split, batch_size=batch_size, data_dir=digits_dir, **arguments)

    return load


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded by datasets loaded from now on."""
    count = np.zeros((), int)
    open_split = sources.open_split

    def opened(*args):
        source = open_split(*args)

        def decode(encoded):
            def note():
                count[()] += 1
                return np.int64(0)

            with tf.control_dependencies([tf.numpy_function(note, [], tf.int64)]):
                return source.decode(tf.identity(encoded))

        return dataclasses.replace(source, decode=decode)

    monkeypatch.setattr(sources, "open_split", opened)
    return count


def stream(dataset, num_passes=1):
    """The batches of several passes, images only."""
    return [images for _ in range(num_passes) for images, _ in dataset.as_numpy_iterator()]


def assert_equal_batches(found, expected):
    assert [images.tobytes() for images in found] == [images.tobytes() for images in expected]


@pytest.fixture(params=["in memory", "large"])
def kept(request, monkeypatch):
    if request.param == "large":
        monkeypatch.setattr(loading, "_CACHE_BYTES", 0)
    return request.param


def test_a_pass_depends_only_on_seed_and_number(load, kept):
    expected = stream(load(seed=3, augment="crop"), 3)
    tf.random.set_seed(0)
    other = load(seed=3, augment="crop")
    next(iter(other))  # a pass that is not finished counts
    tf.random.set_seed(5)
    assert_equal_batches(stream(other), expected[PASS : 2 * PASS])
    assert_equal_batches(stream(other.repeat().take(PASS - 1)), expected[2 * PASS : -1])
    other.cursor.set_batch(0)
    assert_equal_batches(stream(other), expected[:PASS])
    assert [len(images) for images in expected] == [4, 4, 4, 4, 4, 2] * 3
    passes = [np.concatenate(expected[i : i + PASS]) for i in (0, PASS)]
    assert not np.array_equal(*passes)
    assert not np.array_equal(stream(load(seed=4, augment="crop"))[0], expected[0])


def test_a_dataset_resumes_at_any_batch(load, kept):
    expected = stream(load(augment="crop_flip"), 5)
    dataset = load(augment="crop_flip")
    for batch in (1, 6, 11):
        dataset.cursor.set_batch(batch)
        assert dataset.cursor.batch == batch
        assert_equal_batches(stream(dataset, 2), expected[batch : batch + 2 * PASS])
        assert dataset.cursor.batch == batch + 2 * PASS
        dataset.cursor.set_batch(batch)
        found = stream(dataset.repeat().take(2 * PASS))
        assert_equal_batches(found, expected[batch : batch + 2 * PASS])


@pytest.mark.parametrize("batch_size", [1, 11, 22, 100])
def test_batches_of_any_size(load, batch_size):
    dataset = load(batch_size=batch_size, augment="crop")
    expected = stream(load(batch_size=1, augment="crop"), 2)
    found = stream(dataset, 2)
    assert {len(images) for images in found} == {min(batch_size, EXAMPLES)}
    assert len(found) == 2 * len(dataset)
    if batch_size < 100:
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_each_pass_holds_every_example_once_and_all_orders_are_as_likely(load):
    labels = stream(load(f"train[:{BATCH}]", 1, shuffle=False).map(lambda x, y: (y, x)))
    assert len(np.unique(labels)) == BATCH
    dataset = load(f"train[:{BATCH}]", 1).map(lambda x, y: (y, x)).repeat().take(600 * BATCH)
    orders = np.reshape(stream(dataset), (600, BATCH))
    np.testing.assert_array_equal(np.sort(orders), [sorted(np.ravel(labels))] * 600)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    # Each of 24 orders 25 times, with a standard deviation of 5.
    assert len(counts) == 24 and np.abs(counts - 25).max() < 20


def test_data_whose_passes_are_alike_have_no_position(load):
    dataset = load(shuffle=False)
    passes = stream(dataset, 2)
    assert_equal_batches(passes[:PASS], passes[PASS:])
    assert dataset.cursor is None


def test_augmented_unshuffled_data_can_resume(load):
    expected = stream(load(shuffle=False, augment="crop"), 2)
    assert not np.array_equal(expected[0], expected[PASS])
    dataset = load(shuffle=False, augment="crop")
    dataset.cursor.set_batch(4)
    assert_equal_batches(stream(dataset), expected[4 : 4 + PASS])


@pytest.mark.covering
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [4, 11])
def test_images_in_memory_are_decoded_once(load, decoded, shuffle, batch_size):
    dataset = load(shuffle=shuffle, batch_size=batch_size, augment="crop")
    stream(dataset, 3)
    assert decoded == EXAMPLES
    dataset.cursor.set_batch(1)
    stream(dataset.repeat().take(7))
    assert decoded == EXAMPLES


def test_large_data_are_not_decoded_before_the_batch_they_resume_at(load, decoded, monkeypatch):
    monkeypatch.setattr(loading, "_CACHE_BYTES", 0)
    dataset = load()
    dataset.cursor.set_batch(PASS - 1)
    stream(dataset)
    assert decoded == PASS * BATCH  # The last batch is filled up.


def test_size_and_attributes_are_known(load):
    dataset = load(augment="crop")
    assert len(dataset) == dataset.cardinality() == PASS
    assert dataset.repeat().cardinality() == tf.data.INFINITE_CARDINALITY
    assert dataset.element_spec == (
        tf.TensorSpec((None, 8, 8, 1), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    assert dataset.num_examples == EXAMPLES and len(dataset.class_names) == 10
    assert dataset.cursor.batch == 0


def test_iterators_at_once_take_turns(load):
    expected = stream(load(), 2)
    dataset = load()
    pairs = list(zip(dataset.as_numpy_iterator(), dataset.as_numpy_iterator(), strict=True))
    assert_equal_batches([images for (images, _), _ in pairs], expected[:PASS])
    assert_equal_batches([images for _, (images, _) in pairs], expected[PASS:])
    zipped = tf.data.Dataset.zip(dataset, dataset)
    assert len(list(zipped)) == PASS
    assert dataset.cursor.batch == 4 * PASS


def test_replicas_share_the_batches_of_one_device(load, decoded):
    expected = stream(load(augment="crop"), 3)
    strategy = two_replicas()
    dataset = load(augment="crop")
    distributed = strategy.experimental_distribute_dataset(dataset)
    decoded[()] = 0

    def batches():
        for images, _ in distributed:
            shares = strategy.experimental_local_results(images)
            yield np.concatenate([share.numpy() for share in shares])

    assert_equal_batches([*batches(), *batches()], expected[: 2 * PASS])
    dataset.cursor.set_batch(8)
    assert_equal_batches([*batches()], expected[8 : 8 + PASS])
    assert decoded == EXAMPLES


def noted_in(seen):
    """A function for `map` that notes the images of each batch."""

    def note(images):
        seen.append(images)
        return images

    def noted(images, labels):
        return tf.ensure_shape(tf.numpy_function(note, [images], tf.float32), images.shape), labels

    return noted


@pytest.mark.parametrize("steps_per_epoch", [None, 4])
def test_epochs_of_fit_go_through_the_passes(load, steps_per_epoch):
    seen = []
    dataset = load().map(noted_in(seen))
    if steps_per_epoch:
        dataset = dataset.repeat()
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    model.fit(dataset, epochs=2, steps_per_epoch=steps_per_epoch, verbose=0)
    batches = 2 * (steps_per_epoch or PASS)
    assert len(seen) >= batches  # Some are read ahead.
    assert_equal_batches(seen[:batches], stream(load(), 2)[:batches])


@pytest.mark.parametrize("number", [-1, 1.0, True, None, "2"])
def test_batch_numbers_out_of_range(load, number):
    with pytest.raises(ValueError, match="`number` must be .* Received: number="):
        load().cursor.set_batch(number)


def test_position_takes_numpy_integers():
    cursor = epoch_order.BatchCursor(4)
    cursor.set_batch(np.int64(9))
    assert cursor.take() == (2, 1)
    assert cursor.batch == 13
