"""Image datasets as batches for `fit`, small class-balanced subsets, and augmentation."""

from l2rkd_tf.data.augmentation import affine, crop, crop_flip
from l2rkd_tf.data.loading import load
from l2rkd_tf.data.subsets import class_balanced_subset

__all__ = ["affine", "class_balanced_subset", "crop", "crop_flip", "load"]
