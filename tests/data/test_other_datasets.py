"""Other datasets of TensorFlow Datasets."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from l2rkd_tf import data
from tests.data.helpers import arrays


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
