"""What is measured of a trained model on a test split."""

import hashlib

import numpy as np

from l2rkd_tf import geometry, regions
from studies.harness import corruptions

#: Fractions of the way from a test image to the boundary of its region.
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
_CORRUPTED_IMAGES = 1000  # the first of the test split


def weights_digest(model):
    """SHA-256 of a model's weights."""
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    return hashlib.sha256(weights).hexdigest()


def measure(model, split, names=(), teacher=None):
    """Accuracy in percent, and what else is named.

    Args:
        model: Model from images to logits.
        split: Batches of images and labels.
        names: Some of `definitions.MEASURES`.
        teacher: The teacher, for `"local_shape"`.
    """
    images, labels = (np.concatenate(part) for part in zip(*split.as_numpy_iterator(), strict=True))
    found = {"accuracy": float(accuracies(model, [images], labels)[0])}
    if "corruptions" in names:
        found["corrupted"] = corrupted_accuracies(model, images, labels)
    if "local_shape" in names:
        found |= local_shape(teacher, model, images, labels)
    return found


def accuracies(model, sets, labels):
    """Accuracies in percent on several sets of images that have the same labels."""
    logits = model.predict(np.concatenate(sets), batch_size=1024, verbose=0)
    right = logits.argmax(axis=-1).reshape(len(sets), -1) == labels
    return 100 * right.mean(axis=-1)


def corrupted_accuracies(model, images, labels):
    """`{corruption: accuracy in percent}`, a mean over its variants."""
    some = images[:_CORRUPTED_IMAGES]
    sets = [corrupt(some) for corrupt in corruptions.CORRUPTIONS.values()]
    each = iter(accuracies(model, [image for one in sets for image in one], labels[: len(some)]))
    return {
        name: float(np.mean([next(each) for _ in one]))
        for name, one in zip(corruptions.CORRUPTIONS, sets, strict=True)
    }


def local_shape(teacher, student, images, labels):
    """How a student compares with its teacher in the default region around each image."""
    logits = student.predict(images, verbose=0)
    region = regions.default_region(student.inputs)
    profile = geometry.fidelity_profile(teacher, student, images, region, FRACTIONS)
    return {
        "kl": profile.kl.tolist(),
        "agreement": profile.agreement.tolist(),
        "jacobian_distance": float(geometry.jacobian_distance(teacher, student, images).relative),
        "calibration_error": geometry.expected_calibration_error(logits, labels),
    }
