"""What tests of this folder share."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from l2rkd_tf.data import glyphs_fonts


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
def varying_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("varying")
    for config in VaryingImages.BUILDER_CONFIGS:
        VaryingImages(data_dir=directory, config=config).download_and_prepare()
    return directory


@pytest.fixture(scope="session")
def masks():
    return glyphs_fonts.read_masks()
