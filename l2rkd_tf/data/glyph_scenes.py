"""Scenes of digits with a class for each pixel, as a TensorFlow dataset that needs no download."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds

from l2rkd_tf.data import glyphs, glyphs_draws, glyphs_fonts, glyphs_images

__all__ = ["GlyphScenes"]

_BATCH = 64
_SIZE = 32
_DIGITS = 10
_QUADRANTS = 4
_PRESENT = 0.75
NUM_EXAMPLES = {"train": 2_000, "validation": 500, "test": 500}
# As `glyphs/gray16`, on a larger image.
_STYLE = dataclasses.replace(
    glyphs.Glyphs.BUILDER_CONFIGS[0].style, size=_SIZE, cap_height=(10.0, 14.0), shift=10.0
)


class GlyphScenes(tfds.core.GeneratorBasedBuilder):
    """Grey scenes of 32x32 pixels with up to four digits, and the class of each pixel.

    A pixel belongs to the digit that covers at least half of it, and else to the background, class
    10. Each quadrant has a digit with probability 0.75, of a random font and anywhere in it, so
    that digits may touch. The outlines come with matplotlib, so the dataset is prepared without a
    network connection. Example `i` of a split depends only on version, split and `i`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Scenes of up to four digits of 20 fonts that come with matplotlib, of random "
                "size, place, rotation, shear, sharpness, contrast and noise, with the class of "
                "each pixel: a digit, or 10 for the background."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 1), encoding_format="png"),
                    "mask": tfds.features.Tensor(
                        shape=(_SIZE, _SIZE), dtype=np.uint8, encoding="zlib"
                    ),
                }
            ),
            supervised_keys=("image", "mask"),
            # The splits are already in a fixed random order.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        masks = glyphs_fonts.read_masks()[:, :_DIGITS]
        return {
            split: self._generate_examples(masks, split, count)
            for split, count in NUM_EXAMPLES.items()
        }

    def _generate_examples(self, masks, split, count):
        stream = f"{self.info.full_name}/{split}"
        for start in range(0, count, _BATCH):
            stop = min(start + _BATCH, count)
            images, classes = compose(masks, stream, start, stop)
            for position, image, mask in zip(range(start, stop), images, classes, strict=True):
                yield position, {"image": image, "mask": mask}


def compose(masks: np.ndarray, stream: str, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the scenes `start` to `stop - 1` of a stream.

    Args:
        masks: Masks of the digits, bool, shape `(fonts, 10, side, side)`.
        stream: Name of a sequence of scenes.
        start: Number of the first scene.
        stop: Number after that of the last scene.

    Returns:
        Images, uint8 of shape `(scenes, 32, 32, 1)`, and classes, uint8 of shape
        `(scenes, 32, 32)`.
    """
    ink = np.zeros((stop - start, _SIZE, _SIZE), np.float32)
    classes = np.full(ink.shape, _DIGITS, np.uint8)
    for quadrant in range(_QUADRANTS):
        draws = glyphs_draws.draw(_STYLE, f"{stream}/{quadrant}", start, stop)
        # A style without neighbours leaves the two numbers that are theirs to other uses.
        labels = (draws.numbers["left"] * _DIGITS).astype(np.int64)
        present = draws.numbers["right"] < _PRESENT
        coverage = glyphs_images.cover(_STYLE, masks, labels, _within(draws, quadrant))
        coverage *= present[:, np.newaxis, np.newaxis]
        classes = np.where(coverage >= 0.5, labels[:, np.newaxis, np.newaxis], classes)
        ink = np.maximum(ink, coverage)
    # Ink, paper and noise of a scene are those drawn with its last digit.
    return glyphs_images.paint(_STYLE, ink, draws), classes.astype(np.uint8)


def _within(draws, quadrant):
    """The same draws with the middle of the character in a quadrant of the scene."""
    row, column = divmod(quadrant, 2)
    numbers = draws.numbers | {
        "shift_x": (column + draws.numbers["shift_x"]) / 2,
        "shift_y": (row + draws.numbers["shift_y"]) / 2,
    }
    return dataclasses.replace(draws, numbers=numbers)
