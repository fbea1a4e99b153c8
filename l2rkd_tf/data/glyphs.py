"""Characters of many fonts as a TensorFlow dataset that needs no download."""

import dataclasses

import tensorflow_datasets as tfds

from l2rkd_tf.data import glyphs_draws, glyphs_fonts, glyphs_images

__all__ = ["Glyphs", "GlyphsConfig"]

_BATCH = 62


@dataclasses.dataclass(eq=False, kw_only=True)
class GlyphsConfig(tfds.core.BuilderConfig):
    """One of the variants of the dataset.

    Attributes:
        style: The `glyphs_draws.Style` of the images.
        num_examples: Dict of the number of examples by split.
    """

    style: glyphs_draws.Style
    num_examples: dict


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """Digits and letters of 20 fonts: 62 classes, in small grey or CIFAR-sized colour images.

    The outlines come with matplotlib, so the dataset is prepared without a network connection.
    Example `i` of a split depends only on version, configuration, split and `i`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        GlyphsConfig(
            name="gray16",
            description="Grey images of 16x16 pixels, for quick studies.",
            num_examples={"train": 10_000, "validation": 2_000, "test": 5_000},
            style=glyphs_draws.Style(
                size=16,
                channels=1,
                cap_height=(8.5, 10.5),
                stretch=0.15,
                turn=0.09,
                shear=0.15,
                shift=1.0,
                footprint=(1.0, 2.0),
                contrast=(0.4, 1.0),
                tint=0.0,
                shade=0.1,
                noise=0.1,
                neighbours=0.0,
                gap=(0.0, 0.0),
            ),
        ),
        GlyphsConfig(
            name="rgb32",
            description="Coloured images of 32x32 pixels, as many as CIFAR has.",
            num_examples={"train": 50_000, "validation": 5_000, "test": 10_000},
            style=glyphs_draws.Style(
                size=32,
                channels=3,
                cap_height=(15.0, 21.0),
                stretch=0.2,
                turn=0.13,
                shear=0.2,
                shift=2.5,
                footprint=(1.0, 3.0),
                contrast=(0.3, 0.8),
                tint=0.3,
                shade=0.2,
                noise=0.12,
                neighbours=0.75,
                gap=(0.15, 0.35),
            ),
        ),
    ]

    def _info(self):
        style = self.builder_config.style
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "Digits, capitals and small letters, 62 classes, of 20 fonts that come with "
                "matplotlib, of random size, place, rotation, shear, sharpness, contrast and "
                f"noise. {self.builder_config.description}"
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(style.size, style.size, style.channels), encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(names=list(glyphs_fonts.CHARACTERS)),
                }
            ),
            supervised_keys=("image", "label"),
            # The splits are already in a fixed random order.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        masks = glyphs_fonts.read_masks()
        return {
            split: self._generate_examples(masks, split, count)
            for split, count in self.builder_config.num_examples.items()
        }

    def _generate_examples(self, masks, split, count):
        stream = f"{self.info.full_name}/{split}"
        style = self.builder_config.style
        for start in range(0, count, _BATCH):
            stop = min(start + _BATCH, count)
            labels = glyphs_draws.draw_labels(stream, start, stop)
            draws = glyphs_draws.draw(style, stream, start, stop)
            images = glyphs_images.render(style, masks, labels, draws)
            for position, image, label in zip(range(start, stop), images, labels, strict=True):
                yield position, {"image": image, "label": int(label)}
