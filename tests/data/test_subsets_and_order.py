"""Subsets of the examples, and the order of epochs."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import data
from l2rkd_tf.data import loading
from tests.data.helpers import arrays

# Subsets.


@pytest.mark.parametrize(
    ("size", "fraction", "expected"),
    [
        (100, 0.05, 5),
        (5, 0.5, 3),  # 2.5, rounded up.
        (50, 0.29, 15),  # 14.5, which binary floating point takes for less.
        (5, 0.45, 2),  # 2.25
        (10, 0.01, 1),  # At least one.
        (7, 1.0, 7),
        (7, 1, 7),
    ],
)
def test_subset_size_of_each_class(size, fraction, expected):
    labels = np.repeat([3, 0, 8], size)
    kept = data.class_balanced_subset(labels, fraction)
    np.testing.assert_array_equal(
        np.unique(labels[kept], return_counts=True), [[0, 3, 8], [expected] * 3]
    )
    assert len(set(kept.tolist())) == len(kept)


def test_subset_of_classes_of_different_sizes():
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    kept = data.class_balanced_subset(labels, 0.25)
    np.testing.assert_array_equal(np.bincount(labels[kept]), [10, 3, 1])


def test_subsets_are_nested_and_fixed_by_the_seed():
    labels = np.random.RandomState(1).permutation(np.repeat(np.arange(10), 30))
    fractions = (0.01, 0.05, 0.1, 0.5, 0.9, 1.0)
    subsets = [set(data.class_balanced_subset(labels, f, seed=3).tolist()) for f in fractions]
    for smaller, larger in zip(subsets, subsets[1:], strict=False):
        assert smaller < larger
    assert subsets[2] == set(data.class_balanced_subset(labels, 0.1, seed=3).tolist())
    assert subsets[2] != set(data.class_balanced_subset(labels, 0.1, seed=4).tolist())


def test_subset_never_changes_between_releases():
    assert data.class_balanced_subset([0, 0, 1, 1, 1, 1], 0.5, seed=0).tolist() == [1, 2, 4]


def test_subset_of_nothing():
    assert data.class_balanced_subset([], 0.5).tolist() == []


def test_labels_of_two_axes():
    with pytest.raises(ValueError, match=r"`labels` .* Received: labels of shape \(2, 2\)"):
        data.class_balanced_subset(np.eye(2), 0.5)


def test_loaded_subset_is_the_one_chosen_from_the_labels(digits_dir):
    images, labels = arrays(
        data.load("digits", "train", batch_size=100, shuffle=False, data_dir=digits_dir)
    )
    dataset = data.load(
        "digits", "train", batch_size=32, fraction=0.1, seed=5, shuffle=False, data_dir=digits_dir
    )
    chosen = data.class_balanced_subset(labels, 0.1, seed=5)
    assert len(chosen) == dataset.num_examples == 100
    assert len(dataset) == 4
    found_images, found_labels = arrays(dataset)
    np.testing.assert_array_equal(found_images, images[chosen])
    np.testing.assert_array_equal(found_labels, labels[chosen])


def test_subset_is_read_once(tmp_path, digits_dir):
    shutil.copytree(digits_dir / "digits", tmp_path / "digits")
    dataset = data.load(
        "digits", "train", batch_size=10, fraction=0.02, shuffle=False, data_dir=tmp_path
    )
    first = arrays(dataset)
    shutil.rmtree(tmp_path / "digits")
    np.testing.assert_array_equal(arrays(dataset)[0], first[0])


# Order.


def test_shuffled_epochs_repeat_from_load_to_load(digits_dir):
    def epochs(seed, shuffle=None):
        dataset = data.load(
            "digits", "train", batch_size=64, seed=seed, shuffle=shuffle, data_dir=digits_dir
        )
        return [arrays(dataset)[0].reshape(1000, 64) for _ in range(3)]

    first, again, other = epochs(7), epochs(7), epochs(8)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])
    assert not np.array_equal(first[0], other[0])
    in_order = epochs(7, shuffle=False)
    np.testing.assert_array_equal(in_order[0], in_order[1])
    for epoch in first:
        np.testing.assert_array_equal(np.unique(epoch, axis=0), np.unique(in_order[0], axis=0))


@pytest.mark.parametrize(
    ("split", "shuffle", "reshuffled"),
    [
        ("train[:200]", None, True),
        ("validation", None, False),
        ("validation", True, True),
        ("train[:200]", False, False),
    ],
)
def test_which_splits_are_shuffled(digits_dir, split, shuffle, reshuffled):
    dataset = data.load("digits", split, batch_size=200, shuffle=shuffle, data_dir=digits_dir)
    assert dataset.num_examples == 200
    assert np.array_equal(arrays(dataset)[0], arrays(dataset)[0]) != reshuffled


def test_data_too_large_for_memory_are_shuffled_alike(digits_dir, monkeypatch):
    def epochs():
        dataset = data.load("digits", "train", batch_size=64, data_dir=digits_dir)
        return [arrays(dataset)[0] for _ in range(2)]

    kept = epochs()
    monkeypatch.setattr(loading, "_CACHE_BYTES", 1000 * 64 - 1)
    np.testing.assert_array_equal(epochs(), kept)


def test_workers_are_sharded_by_example_not_by_file(digits_dir):
    dataset = data.load("digits", "train", batch_size=64, data_dir=digits_dir)
    policy = dataset.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA
