"""Scenes of digits with a class for each pixel."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from l2rkd_tf import data
from l2rkd_tf.data import glyph_scenes, glyphs_fonts

STREAM = "glyph_scenes/1.0.0"
COUNTS = {"train": 70, "validation": 4, "test": 10}


@pytest.fixture(scope="module")
def digits(masks):
    return masks[:, :10]


@pytest.fixture(scope="module")
def scenes_dir(masks, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs_fonts, "read_masks", lambda: masks)
        patch.setattr(glyph_scenes, "NUM_EXAMPLES", COUNTS)
        data.load("glyph_scenes", "train", batch_size=1, data_dir=directory)
    return directory


@pytest.mark.parametrize("split", COUNTS)
def test_loaded_scenes_are_those_composed(digits, scenes_dir, split):
    dataset = data.load("glyph_scenes", split, batch_size=100, shuffle=False, data_dir=scenes_dir)
    assert dataset.element_spec == (
        tf.TensorSpec((None, 32, 32, 1), tf.float32),
        tf.TensorSpec((None, 32, 32), tf.uint8),
    )
    assert dataset.num_examples == COUNTS[split]
    assert dataset.class_names is None
    ((images, classes),) = dataset.as_numpy_iterator()
    expected = glyph_scenes.compose(digits, f"{STREAM}/{split}", 0, COUNTS[split])
    np.testing.assert_array_equal(np.rint(images * 255), expected[0])
    np.testing.assert_array_equal(classes, expected[1])


def test_builder_is_known_to_tfds(scenes_dir):
    builder = tfds.builder("glyph_scenes", data_dir=scenes_dir)
    assert builder.info.full_name == STREAM
    assert builder.info.supervised_keys == ("image", "mask")


def test_a_scene_depends_only_on_its_number(digits):
    many = glyph_scenes.compose(digits, STREAM, 0, 20)
    few = glyph_scenes.compose(digits, STREAM, 7, 9)
    for all_scenes, some in zip(many, few, strict=True):
        np.testing.assert_array_equal(all_scenes[7:9], some)


def test_classes_say_where_the_ink_is(digits):
    images, classes = glyph_scenes.compose(digits, STREAM, 0, 200)
    assert set(np.unique(classes)) == set(range(11))
    for image, mask in zip(images[..., 0].astype(float), classes, strict=True):
        if (mask < 10).any():
            # Less than half of the smallest contrast is noise and shading.
            ink, paper = (np.median(image[pixels]) for pixels in (mask < 10, mask == 10))
            assert abs(ink - paper) > 0.2 * 255
    number = [len(np.unique(mask)) - 1 for mask in classes]
    assert min(number) == 0 and max(number) == 4


def test_a_fraction_needs_classes(scenes_dir):
    with pytest.raises(ValueError, match="`fraction` must be 1 for a dataset without classes"):
        data.load("glyph_scenes", "train", batch_size=8, fraction=0.5, data_dir=scenes_dir)


def test_scenes_never_change(digits):
    images, classes = glyph_scenes.compose(digits, f"{STREAM}/train", 0, 100)
    found = hashlib.sha256(images.tobytes() + classes.tobytes()).hexdigest()
    assert found == "dd0991285408ef467a6e5392eae93d63f8dfb87713ba34bb593edfc37a7daf0d"
