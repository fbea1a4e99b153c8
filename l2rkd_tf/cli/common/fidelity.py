"""What is measured of a model, and of a student against its teacher."""

import numpy as np

from l2rkd_tf import geometry

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)


def first_examples(dataset, count):
    """The first examples of a dataset of batches, or all if there are fewer.

    Args:
        dataset: Batches from `l2rkd_tf.data.load`.
        count: Number of examples.

    Returns:
        Images and labels, two arrays.
    """
    return next(dataset.unbatch().take(count).batch(count).as_numpy_iterator())


def scores(model, test):
    """What one model scores on a whole split, a dict of numbers."""
    labels = np.concatenate([labels for _, labels in test.as_numpy_iterator()])
    logits = model.predict(test, verbose=0)
    return {
        "accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
        "parameters": model.count_params(),
        "expected_calibration_error": geometry.expected_calibration_error(logits, labels),
    }


def region_profile(teacher, student, examples, region, **options):
    """Fidelity of a student on the way to the boundary of a region.

    Args:
        teacher: Keras model.
        student: Keras model.
        examples: Images and labels, two arrays.
        region: Region of the images.
        **options: `batch_size` and `seed` of `l2rkd_tf.geometry.fidelity_profile`.

    Returns:
        `l2rkd_tf.geometry.FidelityProfile` at `FRACTIONS`.
    """
    images, labels = examples
    return geometry.fidelity_profile(
        teacher, student, images, region, FRACTIONS, labels=labels, **options
    )


def profile_as_dict(profile):
    """A `FidelityProfile` as JSON has it: a dict of lists of numbers."""
    return {
        "fractions": profile.fractions.tolist(),
        "kl": profile.kl.tolist(),
        "kl_stderr": profile.kl_stderr.tolist(),
        "top1_agreement": profile.agreement.tolist(),
        "top1_agreement_stderr": profile.agreement_stderr.tolist(),
        "num_points": profile.num_points,
    }
