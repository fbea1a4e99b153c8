import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from l2rkd_tf import data
from l2rkd_tf.data import digits, loading, offline, sources

SPLITS = ("train", "validation", "test")


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A stand-in that writes what the real builder of this name then reads."""

    name = "cifar10"
    VERSION = tfds.core.Version("3.0.2")
    CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(names=self.CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "test": self._generate_examples(20)}

    def _generate_examples(self, count):
        for i in range(count):
            image = np.full((32, 32, 3), 5 * i, np.uint8)
            yield i, {"id": str(i), "image": image, "label": i % 10}


class VaryingImages(tfds.core.GeneratorBasedBuilder):
    """Images of varying sizes, and another set of them whose pairs are not images."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=name) for name in ("image", "vector", "number", "unlabelled")
    ]

    def _info(self):
        keys = {
            "image": ("image", "label"),
            "vector": ("vector", "label"),
            "number": ("vector", "number"),
            "unlabelled": None,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "vector": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "number": np.float32,
                    "label": tfds.features.ClassLabel(names=["no", "yes"]),
                }
            ),
            supervised_keys=keys[self.builder_config.name],
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(8):
            yield (
                i,
                {
                    "image": np.full((4 + i, 6, 3), 10 * i, np.uint8),
                    "vector": np.full(4, 2.5 * i, np.float32),
                    "number": i / 8,
                    "label": i % 2,
                },
            )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    offline.prepare_offline(digits.Digits(data_dir=directory))
    return directory


@pytest.fixture(scope="session")
def cifar_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cifar")
    Cifar10(data_dir=directory).download_and_prepare()
    return directory


@pytest.fixture(scope="session")
def varying_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("varying")
    for config in VaryingImages.BUILDER_CONFIGS:
        VaryingImages(data_dir=directory, config=config).download_and_prepare()
    return directory


def arrays(dataset):
    """All inputs and all labels of one epoch."""
    inputs, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def grey_levels():
    return np.rint(load_digits().images * 255 / 16).astype(np.uint8)


def write_images(root, images, suffix="png"):
    """Write `{"train/cat/a": image}`."""
    encode = tf.io.encode_png if suffix == "png" else tf.io.encode_jpeg
    for name, image in images.items():
        path = root / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image).numpy())


def test_public_names():
    assert data.__all__ == ["class_balanced_subset", "crop", "crop_flip", "load"]


# The digits.


def test_digits_hold_every_image_of_sklearn_once(data_dir):
    loaded = {
        split: arrays(data.load("digits", split, batch_size=256, shuffle=False, data_dir=data_dir))
        for split in SPLITS
    }
    found = [
        ((image * 255).round().astype(np.uint8).tobytes(), label)
        for images, labels in loaded.values()
        for image, label in zip(images, labels, strict=True)
    ]
    expected = [
        (image.tobytes(), label)
        for image, label in zip(grey_levels(), load_digits().target, strict=True)
    ]
    assert len(set(expected)) == 1797
    assert sorted(found) == sorted(expected)


def test_digits_splits_are_stratified(data_dir):
    counts = {}
    for split in SPLITS:
        dataset = data.load("digits", split, batch_size=100, data_dir=data_dir)
        counts[split] = np.bincount(arrays(dataset)[1])
        assert dataset.num_examples == counts[split].sum()
    np.testing.assert_array_equal(counts["train"], [100] * 10)
    np.testing.assert_array_equal(counts["validation"], [20] * 10)
    np.testing.assert_array_equal(counts["test"], np.bincount(load_digits().target) - 120)
    assert counts["test"].sum() == 597


def test_digits_order_never_changes(data_dir):
    heads = {
        split: next(
            data.load(
                "digits", split, batch_size=12, shuffle=False, data_dir=data_dir
            ).as_numpy_iterator()
        )[1].tolist()
        for split in SPLITS
    }
    assert heads == {
        "train": [9, 2, 3, 4, 2, 2, 5, 6, 7, 5, 2, 7],
        "validation": [9, 7, 5, 6, 9, 5, 1, 2, 0, 4, 5, 9],
        "test": [9, 5, 1, 2, 9, 0, 9, 6, 3, 1, 0, 7],
    }


def test_digits_scale_and_types(data_dir):
    dataset = data.load("digits", "train", batch_size=64, data_dir=data_dir)
    assert dataset.element_spec == (
        tf.TensorSpec((None, 8, 8, 1), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    images, _ = arrays(dataset)
    # The grey levels 0..16, of which 8 is 127.5, rounded to 128.
    levels = np.array([round(v * 255 / 16) for v in range(17)], np.float32) / np.float32(255)
    np.testing.assert_array_equal(np.unique(images), levels)
    assert levels[8] == np.float32(128 / 255)


def test_digits_builder_is_known_to_tfds(data_dir):
    builder = tfds.builder("digits", data_dir=data_dir)
    assert isinstance(builder, digits.Digits)
    assert isinstance(builder, tfds.core.GeneratorBasedBuilder)
    assert builder.info.full_name == "digits/1.0.0"
    assert "1.0.0" in builder.info.release_notes
    assert builder.info.supervised_keys == ("image", "label")
    assert builder.info.features["image"].shape == (8, 8, 1)
    assert "Alpaydin" in builder.info.citation


def test_digits_without_sklearn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[examples\]"):
        data.load("digits", "train", batch_size=8, data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prepared_digits_do_not_need_sklearn(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert data.load("digits", "test", batch_size=8, data_dir=data_dir).num_examples == 597


def test_preparing_what_another_process_has_prepared_meanwhile(tmp_path):
    early, late = (digits.Digits(data_dir=tmp_path) for _ in range(2))
    offline.prepare_offline(early)
    # As if `late` had looked before `early` was done.
    made = digits.Digits(data_dir=tmp_path / "scratch")
    made.download_and_prepare()
    offline._move_into_place(made, late)
    assert offline.prepare_offline(late).info.splits["train"].num_examples == 1000


def test_directory_that_cannot_be_replaced(tmp_path):
    (tmp_path / "digits" / "1.0.0" / "half").mkdir(parents=True)
    with pytest.raises(OSError, match="digits"):
        data.load("digits", "train", batch_size=8, data_dir=tmp_path)


def test_two_processes_prepare_at_once(tmp_path):
    program = (
        "import random, sys, tensorflow, sklearn.datasets\n"
        "from l2rkd_tf import data\n"
        "import l2rkd_tf.data.sources\n"
        "random.seed(0)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(data.load('digits', 'test', batch_size=8, data_dir=sys.argv[1]).num_examples)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["597\n"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_importing_data_is_light():
    # TensorFlow may import some of these by itself.
    program = (
        "import sys, keras, tensorflow\n"
        "before = set(sys.modules)\n"
        "import l2rkd_tf.data\n"
        "new = {module.split('.')[0] for module in set(sys.modules) - before}\n"
        "print(new & {'tensorflow_datasets', 'sklearn', 'matplotlib'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


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


def test_loaded_subset_is_the_one_chosen_from_the_labels(data_dir):
    images, labels = arrays(
        data.load("digits", "train", batch_size=100, shuffle=False, data_dir=data_dir)
    )
    dataset = data.load(
        "digits", "train", batch_size=32, fraction=0.1, seed=5, shuffle=False, data_dir=data_dir
    )
    chosen = data.class_balanced_subset(labels, 0.1, seed=5)
    assert len(chosen) == dataset.num_examples == 100
    assert len(dataset) == 4
    found_images, found_labels = arrays(dataset)
    np.testing.assert_array_equal(found_images, images[chosen])
    np.testing.assert_array_equal(found_labels, labels[chosen])


def test_subset_is_read_once(tmp_path, data_dir):
    shutil.copytree(data_dir / "digits", tmp_path / "digits")
    dataset = data.load(
        "digits", "train", batch_size=10, fraction=0.02, shuffle=False, data_dir=tmp_path
    )
    first = arrays(dataset)
    shutil.rmtree(tmp_path / "digits")
    np.testing.assert_array_equal(arrays(dataset)[0], first[0])


# Order.


def test_shuffled_epochs_repeat_from_load_to_load(data_dir):
    def epochs(seed, shuffle=None):
        dataset = data.load(
            "digits", "train", batch_size=64, seed=seed, shuffle=shuffle, data_dir=data_dir
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
def test_which_splits_are_shuffled(data_dir, split, shuffle, reshuffled):
    dataset = data.load("digits", split, batch_size=200, shuffle=shuffle, data_dir=data_dir)
    assert dataset.num_examples == 200
    assert np.array_equal(arrays(dataset)[0], arrays(dataset)[0]) != reshuffled


def test_data_too_large_for_memory_are_shuffled_alike(data_dir, monkeypatch):
    def epochs():
        dataset = data.load("digits", "train", batch_size=64, data_dir=data_dir)
        return [arrays(dataset)[0] for _ in range(2)]

    kept = epochs()
    monkeypatch.setattr(loading, "_CACHE_BYTES", 1000 * 64 - 1)
    np.testing.assert_array_equal(epochs(), kept)


def test_workers_share_by_examples_not_by_files(data_dir):
    dataset = data.load("digits", "train", batch_size=64, data_dir=data_dir)
    policy = dataset.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


# Other data sets.


def test_cifar10_from_a_data_dir(cifar_dir):
    dataset = data.load("cifar10", "train", batch_size=16, shuffle=False, data_dir=cifar_dir)
    images, labels = arrays(dataset)
    assert images.shape == (40, 32, 32, 3)
    assert dataset.num_examples == 40
    assert [len(y) for _, y in dataset.as_numpy_iterator()] == [16, 16, 8]
    assert dataset.class_names == Cifar10.CLASSES
    order = np.rint(images[:, 0, 0, 0] * 51).astype(int)
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(labels, order % 10)
    assert (images == images[:, :1, :1, :1]).all()


def test_resized_images(varying_dir):
    dataset = data.load(
        "varying_images/image", "train", batch_size=8, shuffle=False, data_dir=varying_dir,
        image_size=(5, 3),
    )  # fmt: skip
    images, labels = arrays(dataset)
    assert dataset.element_spec[0].shape == (None, 5, 3, 3)
    expected = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1) * np.ones((1, 5, 3, 3))
    np.testing.assert_allclose(images, expected * 10 / 255, atol=1e-7)
    np.testing.assert_array_equal(labels, [0, 1] * 4)
    assert dataset.class_names == ["no", "yes"]


@pytest.mark.parametrize("fraction", [1, 0.5])
def test_inputs_that_are_not_images_pass_unchanged(varying_dir, fraction):
    dataset = data.load(
        "varying_images/vector", "train", batch_size=8, fraction=fraction, shuffle=False,
        data_dir=varying_dir,
    )  # fmt: skip
    kept = data.class_balanced_subset([0, 1] * 4, fraction)
    vectors, labels = arrays(dataset)
    np.testing.assert_array_equal(vectors, 2.5 * kept[:, np.newaxis] * np.ones((1, 4)))
    np.testing.assert_array_equal(labels, kept % 2)


def test_labels_that_are_not_classes(varying_dir):
    dataset = data.load(
        "varying_images/number", "train", batch_size=8, shuffle=False, data_dir=varying_dir
    )
    np.testing.assert_array_equal(arrays(dataset)[1], np.arange(8) / 8)
    assert dataset.class_names is None


# Folders.


@pytest.mark.parametrize("as_path", [False, True])
def test_image_folder(tmp_path, as_path):
    images = {
        f"{split}/{label}/{i}": np.full((4, 6, 3), 40 * i + 20 * (label == "dog"), np.uint8)
        for split in ("train", "test")
        for label in ("cat", "dog")
        for i in range(4 if split == "train" else 2)
    }
    write_images(tmp_path, images)
    name = tmp_path if as_path else str(tmp_path)
    dataset = data.load(name, "train", batch_size=3, shuffle=False)
    found, labels = arrays(dataset)
    assert dataset.class_names == ["cat", "dog"]
    assert dataset.num_examples == 8
    assert dataset.element_spec[0].shape == (None, 4, 6, 3)
    levels = np.rint(found[:, 0, 0, 0] * 255).astype(int)
    assert sorted(levels) == [0, 20, 40, 60, 80, 100, 120, 140]
    np.testing.assert_array_equal(labels, levels // 20 % 2)
    subset = data.load(name, "train", batch_size=3, fraction=0.5)
    np.testing.assert_array_equal(np.bincount(arrays(subset)[1]), [2, 2])


@pytest.mark.parametrize(
    ("first", "second"), [("train[:75%]", "train[75%:]"), ("train[:1]", "train[1:]")]
)
def test_slices_of_a_folder_divide_it(tmp_path, first, second):
    images = {
        f"train/{label}/{i}": np.full((2, 2, 3), 10 * i + label, np.uint8)
        for label in (0, 1)
        for i in range(10)
    }
    write_images(tmp_path, images)
    whole = "train"
    parts = {
        split: np.rint(
            arrays(data.load(tmp_path, split, batch_size=4, shuffle=False))[0][:, 0, 0, 0] * 255
        )
        for split in (first, second, whole, f"{second}+{first}")
    }
    assert len(parts[first]) == (15 if "%" in first else 1)
    np.testing.assert_array_equal(np.concatenate([parts[first], parts[second]]), parts[whole])
    np.testing.assert_array_equal(
        np.concatenate([parts[second], parts[first]]), parts[f"{second}+{first}"]
    )
    assert len(set(parts[whole])) == 20
    if "%" in first:  # not one class after the other
        assert set(parts[first] % 10) == {0, 1}


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_folder_of_varying_sizes(tmp_path, suffix):
    sizes = [(4, 6), (300, 5)]
    images = {f"train/cat/{i}": np.full((*size, 3), 128, np.uint8) for i, size in enumerate(sizes)}
    write_images(tmp_path, images, suffix)
    message = r"`image_size` must be given.* \(4, 6\) and \(300, 5\)"
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, "train", batch_size=2)
    resized, _ = arrays(data.load(tmp_path, "train", batch_size=2, image_size=7))
    np.testing.assert_allclose(resized, np.full((2, 7, 7, 3), 128 / 255), atol=1e-7)


def test_folder_whose_name_tfds_knows(tmp_path, monkeypatch, data_dir):
    write_images(tmp_path / "digits", {"train/one/a": np.zeros((4, 4, 3), np.uint8)})
    monkeypatch.chdir(tmp_path)
    assert data.load("digits", "train", batch_size=1, data_dir=data_dir).num_examples == 1000
    assert data.load("./digits", "train", batch_size=1).class_names == ["one"]


# Errors.


def test_unprepared_data_set_is_an_error_at_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("tried the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="`download=True`") as error:
        data.load("cifar100", "train", batch_size=8, data_dir=tmp_path)
    assert time.perf_counter() - start < 2
    assert "'cifar100'" in str(error.value)
    assert str(tmp_path / "cifar100") in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar1o"}, r"`name` .* Received: name='cifar1o'.* Close matches: \['cifar10'"),
        ({"name": "zzzzzz"}, "`name` .* which tfds does not know and which is no directory.$"),
        ({"name": "./no/such/folder"}, "is no directory"),
        ({"name": "cifar10:9.9.9"}, "'cifar10:9.9.9'.* only: 3.0.2"),
        ({"name": "imagenet_resized/9x9"}, "9x9 not found"),
        ({"name": None}, "`name` .* Received: name=None"),
        ({"split": "trian"}, r"`split` .*\['test', 'train', 'validation'\].* Received: .*'trian'"),
        ({"split": "train[1"}, "`split`"),
        ({"split": "train[:0]"}, "`split` must hold at least one example"),
        ({"split": "train[5:2]"}, "`split` must hold at least one example"),
        ({"split": None}, "`split`"),
        ({"batch_size": 0}, "`batch_size` .* Received: batch_size=0"),
        ({"batch_size": 2.0}, "`batch_size`"),
        ({"batch_size": True}, "`batch_size`"),
        ({"fraction": 0}, "`fraction` .* Received: fraction=0"),
        ({"fraction": 1.01}, "`fraction`"),
        ({"fraction": float("nan")}, "`fraction`"),
        ({"fraction": "0.1"}, "`fraction`"),
        ({"seed": -1}, "`seed` .* Received: seed=-1"),
        ({"seed": 1.5}, "`seed`"),
        ({"augment": "flop"}, r"`augment` .*\['crop', 'crop_flip'\].* Received: augment='flop'"),
        ({"augment": ["crop"]}, "`augment`"),
        ({"shuffle": 1000}, "`shuffle` .* Received: shuffle=1000"),
        ({"image_size": 0}, "`image_size`"),
        ({"image_size": (8, 8, 1)}, "`image_size`"),
    ],
)
def test_arguments_out_of_range(data_dir, arguments, message):
    arguments = {"name": "digits", "split": "train", "batch_size": 8, **arguments}
    with pytest.raises(ValueError, match=message):
        data.load(**arguments, data_dir=data_dir)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("image", {}, "`image_size` must be given"),
        ("vector", {"image_size": 8}, "`image_size` is for images"),
        ("vector", {"augment": "crop"}, "`augment`"),
        ("number", {"fraction": 0.5}, "`fraction` must be 1"),
        ("unlabelled", {}, "`supervised_keys` are None"),
    ],
)
def test_arguments_that_do_not_fit_the_data(varying_dir, config, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(
            f"varying_images/{config}", "train", batch_size=8, data_dir=varying_dir, **arguments
        )


@pytest.mark.parametrize("split", ["test", "train[", "test[:1]"])
def test_unknown_split_of_a_folder(tmp_path, split):
    write_images(tmp_path, {"train/cat/a": np.zeros((4, 4, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"`split` .*\['train'\]"):
        data.load(tmp_path, split, batch_size=1)


def test_path_that_is_no_directory(tmp_path):
    with pytest.raises(ValueError, match="`name` must be an existing directory"):
        sources.find_builder(tmp_path / "digits")


# Augmentation.


def shifts(image, padding):
    """Every crop of the zero-padded image, keyed by its bytes."""
    rows, columns = image.shape[:2]
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    return {
        padded[i : i + rows, j : j + columns].tobytes(): (i, j)
        for i in range(2 * padding + 1)
        for j in range(2 * padding + 1)
    }


def random_image(*shape):
    return np.random.RandomState(0).rand(*shape).astype(np.float32)


@pytest.mark.parametrize(("side", "padding", "expected"), [(8, None, 1), (8, 2, 2), (20, None, 2)])
def test_crop_draws_every_shift(side, padding, expected):
    image = random_image(side, side, 2)
    offsets = shifts(image, expected)
    drawn = [offsets[data.crop(image, [0, i], padding).numpy().tobytes()] for i in range(300)]
    assert set(drawn) == set(offsets.values())


def test_crop_is_uniform():
    # The only pixel tells where the crop began.
    image = np.pad([[[1.0]]], [(1, 1), (1, 1), (0, 0)])
    seeds = tf.data.Dataset.range(9000).map(lambda i: tf.cast([i, 0], tf.int32))
    crops = seeds.map(lambda seed: data.crop(image, seed)).batch(9000).get_single_element()
    counts = crops.numpy().sum(axis=0).ravel()
    # Each of 9 places 1000 times, with a standard deviation of 30.
    assert counts.sum() == 9000
    assert np.abs(counts - 1000).max() < 130


def test_crop_flip_mirrors_half_of_the_crops():
    image = random_image(8, 8, 3)
    flipped = 0
    for i in range(200):
        shifted = data.crop(image, [3, i]).numpy()
        found = data.crop_flip(image, [3, i]).numpy()
        is_flipped = np.array_equal(found, shifted[:, ::-1])
        assert is_flipped or np.array_equal(found, shifted)
        flipped += is_flipped
    assert 70 < flipped < 130


@pytest.mark.parametrize("augment", [data.crop, data.crop_flip])
def test_augmentation_is_fixed_by_its_seed(augment):
    image = random_image(32, 32, 3)
    compiled = tf.function(augment)
    for i in range(5):
        np.testing.assert_array_equal(augment(image, [i, 1]), compiled(image, tf.constant([i, 1])))


def test_crop_without_padding_is_the_image():
    image = random_image(4, 5, 1)
    np.testing.assert_array_equal(data.crop(image, [0, 0], padding=0), image)


@pytest.mark.parametrize(
    ("image", "padding", "message"),
    [
        (np.zeros((2, 4, 4, 1)), None, r"`image` .* Received: image of shape \(2, 4, 4, 1\)"),
        (np.zeros((4, 4, 1)), -1, "`padding` .* Received: padding=-1"),
        (np.zeros((4, 4, 1)), 0.5, "`padding`"),
    ],
)
def test_augmentation_arguments_out_of_range(image, padding, message):
    with pytest.raises(ValueError, match=message):
        data.crop(image, [0, 0], padding)


def load_augmented(data_dir, augment, **arguments):
    return data.load(
        "digits", "validation", batch_size=64, augment=augment, data_dir=data_dir, **arguments
    )


def test_loaded_crops_change_with_example_and_epoch(data_dir):
    originals, labels = arrays(load_augmented(data_dir, None))
    dataset = load_augmented(data_dir, "crop", seed=1)
    epochs = [arrays(dataset) for _ in range(2)]
    offsets = [
        [shifts(o, 1)[c.tobytes()] for o, c in zip(originals, images, strict=True)]
        for images, _ in epochs
    ]
    np.testing.assert_array_equal(epochs[0][1], labels)
    assert len(set(offsets[0])) == 9
    assert offsets[0] != offsets[1]
    again = load_augmented(data_dir, "crop", seed=1)
    for images, _ in epochs:
        np.testing.assert_array_equal(arrays(again)[0], images)
    assert not np.array_equal(arrays(load_augmented(data_dir, "crop", seed=2))[0], epochs[0][0])


def test_loaded_crop_flip_mirrors_some(data_dir):
    originals, _ = arrays(load_augmented(data_dir, None))
    found, _ = arrays(load_augmented(data_dir, "crop_flip"))
    mirrored = 0
    for original, image in zip(originals, found, strict=True):
        if image.tobytes() not in shifts(original, 1):
            assert image.tobytes() in shifts(original[:, ::-1], 1)
            mirrored += 1
    assert 60 < mirrored < 140


def test_function_as_augmentation_gets_scaled_images_and_new_seeds(data_dir):
    def show_seed(image, seed):
        assert image.dtype == tf.float32 and image.shape == (8, 8, 1)
        assert seed.dtype == tf.int32 and seed.shape == (2,)
        return tf.concat([tf.reduce_max(image)[None], tf.cast(seed, tf.float32)], axis=0)

    dataset = load_augmented(data_dir, show_seed)
    found = np.concatenate([arrays(dataset)[0] for _ in range(2)])
    assert found[:, 0].max() == 1.0
    assert len(np.unique(found[:, 1:], axis=0)) == 400
    assert (found[:, 1:] < 0).any()
