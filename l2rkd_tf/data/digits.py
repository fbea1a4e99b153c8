"""The 8x8 handwritten digits of scikit-learn as a TensorFlow dataset that needs no download."""

import numpy as np
import tensorflow_datasets as tfds

__all__ = ["Digits"]

_CLASSES = 10
_TRAIN_PER_CLASS = 100
_VALIDATION_PER_CLASS = 20
_PERMUTATION_SEED = 20100481


class Digits(tfds.core.GeneratorBasedBuilder):
    """1797 handwritten digits of 8x8 pixels, in three fixed stratified splits.

    `train` holds 100 images of each class, `validation` 20 of each and `test` the other 597. The
    images come with scikit-learn, so the dataset is prepared without a network connection.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release: 1000 train, 200 validation and 597 test images."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Handwritten digits of 8x8 pixels: the 1797 images of scikit-learn's "
                "`load_digits`, which are the test set of the UCI dataset. The 17 grey levels are "
                "scaled to 0..255. `train` holds 100 images of each class, `validation` 20 of "
                "each and `test` the other 597."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(i) for i in range(_CLASSES)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=(
                "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
            ),
            citation=(
                "@misc{alpaydin1998optical,\n"
                "  author = {Alpaydin, E. and Kaynak, C.},\n"
                "  title = {Optical Recognition of Handwritten Digits},\n"
                "  year = {1998},\n"
                "  howpublished = {UCI Machine Learning Repository},\n"
                "  doi = {10.24432/C50P49}\n"
                "}"
            ),
            # The splits are already in a fixed random order.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        images, labels = _read_digits()
        return {
            split: self._generate_examples(images, labels, members)
            for split, members in _split_members(labels).items()
        }

    def _generate_examples(self, images, labels, members):
        for position, member in enumerate(members):
            yield position, {"image": images[member], "label": int(labels[member])}


def _read_digits():
    """Images, uint8, shape `(1797, 8, 8, 1)`, and labels, shape `(1797,)`."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "The dataset 'digits' is made from scikit-learn's images. Install it with "
            "`pip install l2rkd-tf[data]`"
        ) from error
    digits = datasets.load_digits()
    grey = np.rint(digits.images * 255 / 16).astype(np.uint8)
    return grey[..., np.newaxis], digits.target


def _split_members(labels):
    """Indices of the images of each split, in a fixed random order."""
    # `RandomState`, since only its stream never changes between releases.
    random = np.random.RandomState(_PERMUTATION_SEED)
    order = random.permutation(len(labels))
    one_hot = labels[order, np.newaxis] == np.arange(_CLASSES)
    rank_in_class = one_hot.cumsum(axis=0)[one_hot] - 1
    ends = [_TRAIN_PER_CLASS, _TRAIN_PER_CLASS + _VALIDATION_PER_CLASS]
    part = np.digitize(rank_in_class, ends)
    # Again, since the classes that fill `train` first would otherwise lead the other splits.
    return {
        split: random.permutation(order[part == number])
        for number, split in enumerate(("train", "validation", "test"))
    }
