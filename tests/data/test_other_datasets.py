"""Other datasets of TensorFlow Datasets, and folders of images."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from l2rkd_tf import data
from tests.data.helpers import arrays, write_images


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


@pytest.fixture(scope="session")
def cifar_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cifar")
    Cifar10(data_dir=directory).download_and_prepare()
    return directory


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


def test_folder_whose_name_tfds_knows(tmp_path, monkeypatch, digits_dir):
    write_images(tmp_path / "digits", {"train/one/a": np.zeros((4, 4, 3), np.uint8)})
    monkeypatch.chdir(tmp_path)
    assert data.load("digits", "train", batch_size=1, data_dir=digits_dir).num_examples == 1000
    assert data.load("./digits", "train", batch_size=1).class_names == ["one"]
